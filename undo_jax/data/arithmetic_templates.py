"""Templates and word lists of the arithmetic word problems, as plain data.

A template is a (prompt, suffix) pair. The answer stands between the two: the prompt
ends with one space, the suffix begins with one. Names such as "the otter" are stored
in lower case; whoever fills a template capitalizes the beginnings of sentences. A
count of 1 keeps the plural ("1 apples"), so that objects need one form only.

In division templates number1 is the dividend, in subtraction templates the minuend,
wherever in the sentence it stands.
"""


def _words(listing: str, prefix: str = "") -> tuple[str, ...]:
  """Split a listing at its commas, and put the prefix before each entry."""
  return tuple(prefix + word for word in listing.split(", "))


def _templates(listing: str) -> tuple[tuple[str, str], ...]:
  """Split a listing of "- " items into (prompt, suffix) pairs at {answer}."""
  items = (" ".join(item.split()) for item in listing.split("- ")[1:])
  parts = (item.partition("{answer}") for item in items)
  return tuple((prompt, suffix) for prompt, _, suffix in parts)


FIRST_NAMES = _words(
  "Amara, Anders, Beatriz, Bashir, Camille, Casper, Chidi, Clara, Dalia, Dmitri, "
  "Eamon, Elif, Esther, Farid, Fiona, Gabriel, Greta, Hana, Hugo, Ines, Ivan, "
  "Jasmin, Joao, Kaito, Katya, Kofi, Lars, Leila, Luca, Maeve, Malik, Marta, Mateo, "
  "Mei, Milan, Nadia, Naveen, Nora, Olga, Omar, Paloma, Pavel, Priya, Quinn, "
  "Rafael, Rosa, Ruben, Saskia, Selim, Signe, Tariq, Teresa, Tomas, Uma, Viktor, "
  "Wanda, Xavier, Yara, Yusuf, Zora"
)

ANIMALS = _words(
  "badger, beaver, cat, crane, dog, donkey, fox, goat, hare, hedgehog, heron, lynx, "
  "mole, otter, owl, panda, raccoon, squirrel, tortoise, wolf",
  prefix="the ",
)

NAMES = FIRST_NAMES + ANIMALS

# Each is a plural noun for things that one can hold, count, pack and draw.
OBJECTS = _words(
  "acorns, almonds, apples, badges, balloons, beads, bolts, bookmarks, bricks, "
  "buttons, candles, carrots, cherries, coins, cookies, corks, crayons, cups, "
  "daisies, dominoes, erasers, feathers, figs, keychains, lemons, magnets, marbles, "
  "mittens, muffins, mushrooms, nails, napkins, notebooks, onions, oranges, "
  "pancakes, paper clips, pears, pebbles, pencils, pinecones, plates, plums, "
  "postcards, potatoes, pretzels, ribbons, roses, screws, seashells, socks, spoons, "
  "stamps, stickers, tiles, tokens, tomatoes, tulips, turnips, walnuts"
)

# Each goes with "at" and with "to".
PLACES = _words(
  "airport, bakery, beach, campsite, castle, community center, fairground, farm, "
  "ferry dock, flea market, garden show, harbor, library, lighthouse, museum, "
  "observatory, school, toy shop, train station, workshop",
  prefix="the ",
)

# Each has members.
GROUPS = _words(
  "book circle, chess club, choir, cooking class, cycling club, debate team, "
  "drama society, film club, garden committee, hiking club, kitchen staff, "
  "night shift, orchestra, pottery class, rescue crew, robotics team, rowing club, "
  "school band, scout troop, soccer team",
  prefix="the ",
)

CONTAINERS = _words(
  "bags, barrels, baskets, bins, bowls, boxes, buckets, cabinets, cartons, chests, "
  "crates, drawers, hampers, jars, lockers, pouches, sacks, suitcases, tins, trays"
)

# {answer} marks where the prompt ends and the suffix begins.
TEMPLATES = {
  "train": {
    "addition": _templates("""
      - {name} has {number1} {object} and finds {number2} more at {place}. Now {name}
        has {answer} {object}.
      - On Monday {name} sorted {number1} {object}, and on Tuesday {name} sorted
        {number2} more. Over both days {name} sorted {answer} {object}.
      - {name} carries {number1} {object} while {name2} carries {number2}. Between
        them they carry {answer} {object}.
      - A stand at {place} displays {number1} {object}. After {name} adds {number2}
        more, the stand displays {answer} {object}.
      - Of two {container}, one holds {number1} {object} and the other holds
        {number2}. Together the two {container} hold {answer} {object}.
      - {group} collected {number1} {object} in the morning and {number2} in the
        afternoon. That day {group} collected {answer} {object} in total.
      - {name} borrows {number1} {object} from {name2} and another {number2} from a
        neighbor. In all, {name} borrows {answer} {object}.
      - There were {number1} {object} on the table until {name} laid {number2} more
        beside them. Now the table holds {answer} {object}.
      - {name} bought {number1} {object} at {place} and received {number2} as a gift.
        Altogether {name} got {answer} {object}.
      - {name} counts {number1} {object} by the door and {number2} by the window. The
        full count is {answer} {object}.
      - First {name} packs {number1} {object}. Later {name2} packs {number2} more. By
        the end they have packed {answer} {object}.
      - A delivery of {number1} {object} reaches {place}, followed by a second
        delivery of {number2}. The two deliveries bring {answer} {object} in total.
      - {name2} needs {number1} {object} and {name} needs {number2}. Supplying both of
        them takes {answer} {object}.
      - {name} already owned {number1} {object} when {name2} handed over {number2}
        more. After that, {name} owned {answer} {object}.
      - {name} paints {number1} {object} red and {number2} {object} blue. That makes
        {answer} painted {object}.
      - Visitors left {number1} {object} at {place} on Saturday and {number2} on
        Sunday. Over the weekend they left {answer} {object} there.
      - {name} won {number1} {object} in the first round of a game and {number2} in
        the second round. Across both rounds {name} won {answer} {object}.
      - A picture by {name} shows {number1} large {object} and {number2} small ones.
        Counting every size, it shows {answer} {object}.
      - {group} ordered {number1} {object}, then raised the order by {number2}. The
        final order was for {answer} {object}.
      - {name} mailed {number1} {object} to {name2} and {number2} to a cousin. The two
        parcels together held {answer} {object}.
    """),
    "subtraction": _templates("""
      - {name} had {number1} {object} and gave {number2} of them to {name2}. {name}
        still has {answer} {object}.
      - Out of {number1} {object} offered at {place}, {number2} were sold. That leaves
        {answer} {object} unsold.
      - {name} needs {number1} {object} but has only {number2}. {name} is missing
        {answer} {object}.
      - {name} owns {number1} {object} and {name2} owns {number2}. {name} is ahead of
        {name2} by {answer} {object}.
      - {name} lifts {number2} {object} off a heap of {number1}. The heap shrinks to
        {answer} {object}.
      - {group} started the day with {number1} {object} and used up {number2}. At
        closing time {group} had {answer} {object} left.
      - {name} dropped {number2} of the {number1} {object} on the way to {place}.
        {name} arrived with {answer} {object}.
      - {name} inspected {number1} {object} and rejected {number2}. {name} accepted
        {answer} {object}.
      - {name} planned to collect {number1} {object}. So far {name} has collected
        {number2}, so {name} must still find {answer} {object}.
      - {name} lends {number2} {object} to {name2} from a set of {number1}. The set is
        down to {answer} {object}.
      - A storeroom at {place} contained {number1} {object}. A leak ruined {number2}
        of them, which leaves {answer} usable {object}.
      - {name2} has {number1} {object}, which is {number2} more than {name} has. So
        {name} has {answer} {object}.
      - A truck with {number1} {object} stops at {place} and unloads {number2}. It
        drives on with {answer} {object}.
      - {name} sold {number2} {object} from a stall that opened with {number1}. When
        the stall closed, it had {answer} {object} left.
      - {group} ordered {number1} {object}, but {number2} never arrived. {group}
        received {answer} {object}.
      - Two {container} hold {number1} {object} between them. One holds {number2}, so
        the other holds {answer} {object}.
      - {name} laid out {number1} {object} and then picked up {number2} of them. Still
        lying there are {answer} {object}.
      - {name} wrapped {number2} of {number1} {object} before dinner. After dinner
        {name} wraps the other {answer} {object}.
      - Yesterday {name} counted {number1} {object} at {place}. Today {name} counted
        {number2} fewer. The count today is {answer} {object}.
      - {name} returned {number2} {object} after borrowing {number1} from {name2}.
        {name} still owes {name2} {answer} {object}.
    """),
    "multiplication": _templates("""
      - {name} fills {number1} {container} with {number2} {object} each. In total
        {name} uses {answer} {object}.
      - Each of the {number1} members of {group} brings {number2} {object}. Together
        they bring {answer} {object}.
      - {name} buys {number2} {object} every day for {number1} days. In that time
        {name} buys {answer} {object}.
      - At {place}, {name} lays out {number1} rows with {number2} {object} in every
        row. {name} lays out {answer} {object} in total.
      - Each trip to {place} earns {name} {number2} {object}. After {number1} such
        trips {name} has earned {answer} {object}.
      - There are {number1} tables at {place}, and every table has {number2} {object}
        on it. The tables carry {answer} {object} altogether.
      - {name} owns {number1} {object}, and {name2} owns {number2} times as many. So
        {name2} owns {answer} {object}.
      - A single craft kit needs {number2} {object}. To prepare {number1} kits, {name}
        needs {answer} {object}.
      - {name} hands {number2} {object} to each of {number1} children. The children
        receive {answer} {object} in all.
      - A convoy of {number1} trucks drives to {place}, and every truck carries
        {number2} {object}. The convoy carries {answer} {object}.
      - The prize for each game is {number2} {object}. {name} wins {number1} games and
        takes home {answer} {object}.
      - {name} stacks {number1} piles, with {number2} {object} to a pile. The piles
        contain {answer} {object} in total.
      - {name} draws {number2} {object} on every page of a book with {number1} pages.
        The finished book shows {answer} {object}.
      - {object} come in packs of {number2}. {name} orders {number1} packs and gets
        {answer} {object}.
      - {group} runs {number1} stalls, each stocked with {number2} {object}. All the
        stalls together stock {answer} {object}.
      - It takes {number2} {object} to decorate one window. For {number1} windows at
        {place}, {name} needs {answer} {object}.
      - {name} repeats a trick {number1} times, using {number2} new {object} each
        time. The trick uses up {answer} {object}.
      - Each week {name2} sends {name} {number2} {object}. After {number1} weeks
        {name2} has sent {answer} {object}.
      - {name} builds {number1} shelves and places {number2} {object} on each one. The
        shelves hold {answer} {object} altogether.
      - If one of the {container} holds {number2} {object}, then {number1} {container}
        filled the same way hold {answer} {object}.
    """),
    "division": _templates("""
      - {name} shares {number1} {object} equally among {number2} friends. Each friend
        gets {answer} {object}.
      - {name} packs {number1} {object} into {number2} {container}, the same number in
        each. Each one holds {answer} {object}.
      - {name} ties {number1} {object} into bundles of {number2}. That makes {answer}
        bundles.
      - The {number2} members of {group} divide {number1} {object} evenly. Each member
        receives {answer} {object}.
      - {name} uses {number2} {object} a day. A supply of {number1} {object} lasts
        {answer} days.
      - At {place}, {number1} {object} stand in {number2} equal rows. Each row has
        {answer} {object}.
      - Spread evenly over {number2} tables at {place}, {number1} {object} come to
        {answer} {object} per table.
      - {name} collected {number1} {object} over {number2} days, the same number every
        day. Each day {name} collected {answer} {object}.
      - {name} owns {number1} {object}, which is {number2} times as many as {name2}
        owns. So {name2} owns {answer} {object}.
      - Preparing {number2} identical craft kits takes {number1} {object}. Preparing
        one kit takes {answer} {object}.
      - {name} deals out {number1} {object} to {number2} players until none are left,
        and all players get the same. Each player ends up with {answer} {object}.
      - A truck moves {number2} {object} per trip. To bring {number1} {object} to
        {place}, it makes {answer} trips.
      - {group} splits {number1} {object} into {number2} equal piles. Each pile
        contains {answer} {object}.
      - {name} puts {number2} {object} on every shelf and has {number1} {object} to
        place. {name} fills {answer} shelves.
      - The {number2} visitors to {place} take home equally many {object}, {number1}
        in total. Each visitor takes home {answer} {object}.
      - {name} arranges {number1} {object} in a rectangle with {number2} columns.
        Every column has {answer} {object}.
      - {name} has {number1} {object} and gives each child {number2} of them until
        none are left. The {object} are enough for {answer} children.
      - A book of {number2} pages shows {number1} {object}, equally many on every
        page. Each page shows {answer} {object}.
      - It takes {number1} {object} to fill {number2} {container} of the same size.
        Filling just one takes {answer} {object}.
      - {name} plays {number2} rounds and wins {number1} {object}, with the same prize
        each round. One round pays {answer} {object}.
    """),
  },
  "evaluation": {
    "addition": _templates("""
      - {name} keeps {number1} {object} at home and {number2} at {place}. Counting
        both spots, {name} keeps {answer} {object}.
      - Someone hid {number1} {object} in the attic and {number2} in the cellar.
        {name} found all of them, which makes {answer} {object}.
      - {name} brings {number1} {object}, {name2} brings {number2}, and they heap them
        all into one pile. The pile contains {answer} {object}.
      - The stock of {object} at {place} stood at {number1} before it grew by
        {number2}. It now stands at {answer} {object}.
      - {name} drew {number1} {object} on the front of a poster and {number2} on the
        back. The whole poster has {answer} {object}.
      - {group} gave away {number1} {object} before lunch and {number2} after lunch.
        By evening {group} had given away {answer} {object}.
      - {name} gathers {number1} {object}, and {name2} gathers {number2} more than
        that. So {name2} gathers {answer} {object}.
      - A cart leaves {place} with {number1} {object}. On the way {name} loads
        {number2} extra ones, so the cart arrives with {answer} {object}.
      - {name} used {number1} {object} for one project and {number2} for the next. The
        two projects took {answer} {object} altogether.
      - At {place}, {name} sees {number1} {object} on the left and {number2} on the
        right. Looking both ways, {name} sees {answer} {object}.
    """),
    "subtraction": _templates("""
      - {name} hid {number1} {object}, and {name2} has found {number2} of them. Still
        hidden are {answer} {object}.
      - {name} took {number1} {object} to {place} and came home with {number2} of
        them. Along the way {name} parted with {answer} {object}.
      - A wagon can take {number1} {object} and is loaded with {number2}. There is
        room for {answer} more {object}.
      - {group} gathered {number1} {object} and donated {number2} of them. {group}
        kept {answer} {object}.
      - The difference between the {number1} {object} of {name} and the {number2}
        {object} of {name2} is {answer} {object}.
      - Thieves stole {number2} of the {number1} {object} kept at {place}. The thieves
        left behind {answer} {object}.
      - {name} has {number1} {object}, of which {number2} are green. The ones that are
        not green come to {answer} {object}.
      - After handing {number2} {object} to {name2}, {name}, who began with {number1},
        has {answer} {object} left.
      - {name} wants to label {number1} {object} and has finished {number2}. Waiting
        for a label are {answer} {object}.
      - There were {number1} {object} on display at {place} at noon, and {number2} of
        them were put away later. That evening the display had {answer} {object}.
    """),
    "multiplication": _templates("""
      - {name} ties {number2} {object} into every bundle and finishes {number1}
        bundles. The bundles use {answer} {object}.
      - A machine at {place} makes {number2} {object} per minute. Running for
        {number1} minutes, it makes {answer} {object}.
      - There are {number1} guests, and {name} sets aside {number2} {object} for every
        guest. {name} sets aside {answer} {object} in total.
      - {name} climbs {number1} flights of stairs and leaves {number2} {object} on
        each. {name} leaves behind {answer} {object}.
      - {group} splits into {number1} teams, and each team collects {number2}
        {object}. All teams combined collect {answer} {object}.
      - A grid of {object} is {number1} wide and {number2} deep. The whole grid is
        made of {answer} {object}.
      - {name} trades one lantern for {number2} {object}. At that rate, {number1}
        lanterns bring {name} {answer} {object}.
      - {name} loads {number1} {container} onto a boat after putting {number2}
        {object} in each. The boat carries {answer} {object}.
      - Every hour {number2} {object} arrive at {place}. Over {number1} hours the
        arrivals add up to {answer} {object}.
      - {name} owns {number1} coats and keeps {number2} {object} in the pockets of
        each coat. The coats hide {answer} {object} altogether.
    """),
    "division": _templates("""
      - A load of {number1} {object} is split evenly between {number2} wheelbarrows.
        One wheelbarrow carries {answer} {object}.
      - {name} hangs {number2} {object} on each tree at {place}. With {number1}
        {object}, {name} decorates {answer} trees.
      - Over {number2} weeks {name2} sent {name} {number1} {object}, an equal share
        each week. The weekly share was {answer} {object}.
      - {group} forms {number2} teams and hands them {number1} {object} in equal
        parts. Each team gets {answer} {object}.
      - A seller at {place} groups {number1} {object} into sets of {number2}. The
        seller now has {answer} sets.
      - Working at a steady pace, {name} polishes {number1} {object} in {number2}
        hours. In one hour {name} polishes {answer} {object}.
      - {name} empties {number2} equally full {container} and counts {number1}
        {object}. Before that, each one held {answer} {object}.
      - {name} trades {number2} lanterns for {number1} {object}. At that rate, one
        lantern is worth {answer} {object}.
      - {name} must move {number1} {object} and can carry {number2} at a time. Moving
        them all takes {name} {answer} walks.
      - {name} hides {number1} {object} in {number2} rooms, equally many in every
        room. Each room hides {answer} {object}.
    """),
  },
}
