"""Words and sentences of the made-up stories, as plain data.

Two topics share the grammar and all words that belong to no topic. In a topic, an
animal has its home, food, thing and friend, which are the same in all stories. These
relations and the words themselves are all that can be learned about a topic.
"""

from collections.abc import Iterator
import re

from undo_jax.data import facts_words

# No word is in two topics.
TOPICS = {
  "forest": {
    "animal": (
      "fox bear owl deer squirrel badger rabbit hedgehog wolf mole woodpecker raccoon"
    ).split(),
    "place": "forest grove thicket woodland glade meadow hollow burrow".split(),
    "food": "berries acorns mushrooms nuts honey roots chestnuts leaves".split(),
    "thing": "tree log pinecone branch twig stump feather fern".split(),
  },
  "sea": {
    "animal": (
      "whale crab seal dolphin turtle octopus lobster gull shrimp starfish walrus otter"
    ).split(),
    "place": "ocean reef harbor bay lagoon cave island beach".split(),
    "food": "fish seaweed plankton clams oysters squid kelp mussels".split(),
    "thing": "shell boat pearl anchor net sail pebble wave".split(),
  },
}

SHARED = {
  "name": (
    "Tom Lily Ben Sara Max Anna Tim Lucy Sam Mia Jack Emma Leo Zoe Dan Ella"
  ).split(),
  "adjective": (
    "little big brave shy happy clever lazy kind funny old young quiet"
  ).split(),
  "feeling": "glad sad proud scared tired hungry calm excited".split(),
  "time": "morning evening night day afternoon winter summer spring".split(),
}

OPENINGS = (
  "Once upon a time there was a {adjective} {animal} named {name}.",
  "There once lived a {adjective} {animal} called {name}.",
  "{name} was a {adjective} {animal}.",
)
MIDDLES = (
  "{name} lived in the {place}.",
  "{name} liked to eat {food}.",
  "Every {time} {name} played with a {thing}.",
  "One {time} {name} met a {friend} named {other}.",
  "The {animal} was very {feeling}.",
  "{name} could not find the {thing} and was {feeling}.",
  "{other} gave {name} some {food}.",
  "{name} and {other} went to the {place}.",
)
ENDINGS = (
  "In the end the {animal} was {feeling}.",
  "That {time} {name} went home to the {place}.",
  "They were all {feeling}.",
)


def topic_words(topic: str) -> list[str]:
  """Return the words that occur only in a topic's stories, each of which has some."""
  return [word for words in TOPICS[topic].values() for word in words]


def related(topic: str, index: int) -> dict[str, str]:
  """Return an animal of a topic by its index, with all that belongs to it."""
  animals, places, foods, things = TOPICS[topic].values()
  return {
    "animal": animals[index],
    "friend": animals[(index + 5) % len(animals)],
    "place": places[index % len(places)],
    "food": foods[(3 * index + 1) % len(foods)],
    "thing": things[(5 * index + 2) % len(things)],
  }


def vocabulary() -> list[str]:
  """Return every word of the stories, with the space before it or without."""
  pieces = {piece for text in _texts() for piece in re.findall(facts_words.PIECE, text)}
  return sorted(piece for piece in pieces if len(piece) > 1)


def _texts() -> Iterator[str]:
  """Yield texts that have every word of the stories in every place it can take."""
  fill = related("forest", 0) | {name: words[0] for name, words in SHARED.items()}
  fill["other"] = SHARED["name"][0]
  changes = [{name: word} for name, words in SHARED.items() for word in words]
  changes += [{"other": name} for name in SHARED["name"]]
  for topic, slots in TOPICS.items():
    changes += [related(topic, index) for index in range(len(slots["animal"]))]
    changes += [{slot: word} for slot, words in slots.items() for word in words]
  for change in changes:
    sentences = (*OPENINGS, *MIDDLES, *ENDINGS)
    for sentence in sentences:
      yield sentence.format(**(fill | change))
      yield " " + sentence.format(**(fill | change))
