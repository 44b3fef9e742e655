"""The results of the study: results.json and its tables."""

from collections.abc import Mapping, Sequence
import statistics
from typing import Any, TypeAlias, TypedDict, cast

from undo_jax.utils import tables


class Band(TypedDict):
  """Numbers over games, or over ways to break ties, by best responses or agents."""

  mean: list[float]
  error: list[float]  # Standard error of the mean.
  low: list[float]  # 10 % quantile.
  high: list[float]  # 90 % quantile.


class SinglePart(TypedDict):
  """The results for one game, over random ties."""

  game: str
  repetitions: int
  by_play: dict[str, Band]  # Worst-case payoff, beginning with no best response.


class SizePart(TypedDict):
  """The results for Gaussian games of one size, after the last best response."""

  moves: int
  games: int
  by_play: dict[str, Band]  # Bands of one element.
  share_ahead: float  # Share of games in which anticipation is ahead.


class AheadPart(TypedDict):
  """The results for Gaussian games of one size, at equal numbers of responses."""

  moves: int
  games: int
  responses: list[int]
  share: list[float]  # Of games in which anticipation is ahead; ties count half.
  low: list[float]  # Ends of Agresti and Coull's 95 % interval.
  high: list[float]
  half_since: int | None  # Responses from which on the share is at least .5.
  nine_tenths_since: int | None
  all_first: int | None  # The first responses with a share of 1.


class EarlyPart(TypedDict):
  """The same for the first responses."""

  moves: int
  games: int
  responses: list[int]
  share_by_initial_steps: dict[str, list[float]]


class OfCount(TypedDict):
  """The results for one number of anticipated responses."""

  exploitability: float  # Mean of value minus worst-case payoff.
  share_ahead: float  # Share of games in which it is ahead of fictitious play.


class AnticipationsPart(TypedDict):
  """Several anticipated responses, at equal numbers of best responses."""

  moves: int
  games: int
  responses: int
  by_count: dict[str, OfCount]


class RatePart(TypedDict):
  """A cyclic game in which both players play the same."""

  moves: int
  plays: int
  repetitions: int
  slope: dict[str, float]  # Of log exploitability over log plays.
  most_times_plays: dict[str, float]  # Largest product of plays and exploitability.


class Certificate(TypedDict):
  """Bounds of a game's value."""

  game: str
  plays: int
  value: float  # By linear programs.
  lower: dict[str, float]  # By kind of play, the best bound of all plays.
  upper: dict[str, float]
  holds: bool  # Whether the value lay between the bounds after every play.


class PokerPart(TypedDict):
  """Populations of exact best responses."""

  game: str
  agents: int
  repetitions: int
  by_mixing: dict[str, Band]  # Upper - lower after each agent, the first included.


class TrainedPart(TypedDict):
  """Populations of trained best responses."""

  game: str
  agents: int
  repetitions: int
  by_mixing: dict[str, Band]  # Upper - lower by agent, from the first on.
  short: dict[str, Band]  # What both new agents are short of exact best responses.


class Reached(TypedDict):
  """Of a way to mix."""

  gap: Band  # Upper - lower by agent, over random first agents.
  agents_until: list[int | None]  # The gap stays below the config's; None: not reached.


class ReleasesPart(TypedDict):
  """Releases against attacks, of one run at one price of compute."""

  run: str
  price: float
  releases: list[str]
  attacks: list[str]
  value: float  # Of the game: minus what a mixture of releases loses.
  released: float  # What the best single release is sure of.
  release: str  # Which it is.
  attack: str  # The attack that holds it there.
  suite: list[str]  # The fewest attacks found that keep every release that low.
  by_mixing: dict[str, Reached]


Part: TypeAlias = (
  SinglePart
  | SizePart
  | AheadPart
  | EarlyPart
  | AnticipationsPart
  | RatePart
  | Certificate
  | PokerPart
  | TrainedPart
  | ReleasesPart
)


class Results(TypedDict):
  """The content of results.json."""

  single: list[SinglePart]
  size: list[SizePart]
  ahead: list[AheadPart]
  early: list[EarlyPart]
  anticipations: list[AnticipationsPart]
  rate: list[RatePart]
  certificate: list[Certificate]
  poker: list[PokerPart]
  trained: list[TrainedPart]
  releases: list[ReleasesPart]


def assemble(parts: Mapping[str, Part]) -> Results:
  """Return the parts by kind."""
  by_kind: dict[str, list[Part]] = {kind: [] for kind in Results.__annotations__}
  for name, part in parts.items():
    by_kind[name.partition("_")[0]].append(part)
  return cast(Results, by_kind)


def table(results: Results) -> str:
  """Return all tables in Markdown."""
  made = (
    single_table(results),
    size_table(results),
    ahead_table(results),
    early_table(results),
    anticipations_table(results),
    rate_table(results),
    certificate_table(results),
    poker_table(results),
    trained_table(results),
    releases_table(results),
  )
  return "\n\n".join(each for each in made if each)


def single_table(results: Results) -> str:
  """Return a row for each game: worst-case payoffs after half and all responses."""
  rows = []
  for part in results["single"]:
    bands = part["by_play"].values()
    last = len(next(iter(bands))["mean"]) - 1
    cells = (_with_band(band, at) for band in bands for at in (last // 2, last))
    rows.append([part["game"].replace("_", " "), *cells])
  header = ["game", "fictitious, half of the responses", "all"]
  return _markdown([*header, "anticipatory, half of the responses", "all"], rows)


def size_table(results: Results) -> str:
  """Return a row for each size: worst-case payoffs, and the share that is ahead."""
  rows = []
  for part in results["size"]:
    cells = (f"{b['mean'][0]:.3f} ± {b['error'][0]:.3f}" for b in _bands(part))
    rows.append([f"{part['moves']}", *cells, f"{part['share_ahead']:.3f}"])
  return _markdown(["moves", "fictitious", "anticipatory", "share ahead"], rows)


def ahead_table(results: Results) -> str:
  """Return a row for each size: from when on, and how often anticipation is ahead."""
  rows = []
  for part in results["ahead"]:
    at = [i for i, b in enumerate(part["responses"]) if b in (4, 10, 20, 30, 50, 100)]
    since = (part["half_since"], part["nine_tenths_since"], part["all_first"])
    rows.append(
      [
        *(f"{part['moves']}", f"{part['games']:,}"),
        *("never" if each is None else f"{each}" for each in since),
        ", ".join(
          f"{part['share'][i]:.3f} ({part['low'][i]:.3f}, {part['high'][i]:.3f})"
          f" at {part['responses'][i]}"
          for i in at
        ),
      ]
    )
  header = ["moves", "games", ".5 since", ".9 since", "all first at", "share ahead"]
  return _markdown(header, rows)


def early_table(results: Results) -> str:
  """Return a row for each number of initial steps: the share ahead, by responses."""
  (part,) = results["early"]
  rows = [
    [steps, *(f"{share:.2f}" for share in shares[1:])]
    for steps, shares in part["share_by_initial_steps"].items()
  ]
  return _markdown(["initial steps", *map(str, part["responses"][1:])], rows)


def anticipations_table(results: Results) -> str:
  """Return a row for each number of anticipated responses."""
  (part,) = results["anticipations"]
  rows = [
    [count, f"{of['exploitability']:.4f}", f"{of['share_ahead']:.3f}"]
    for count, of in part["by_count"].items()
  ]
  header = ["anticipated", f"exploitability at {part['responses']}"]
  return _markdown([*header, "share ahead of fictitious play"], rows)


def rate_table(results: Results) -> str:
  """Return a row for each cyclic game: slope, and most plays times exploitability."""
  rows = []
  for part in results["rate"]:
    slopes = (f"{slope:.2f}" for slope in part["slope"].values())
    most = (f"{each:.2f}" for each in part["most_times_plays"].values())
    rows.append([f"cyclic {part['moves']}", *slopes, *most])
  header = ["game", "slope, fictitious", "anticipatory"]
  return _markdown(
    [*header, "most t x exploitability, fictitious", "anticipatory"], rows
  )


def certificate_table(results: Results) -> str:
  """Return a row for each game: its value, between the bounds of both plays."""
  rows = [
    [
      part["game"],
      f"{part['value']:z.4f}",
      *(
        f"[{part['lower'][play]:z.4f}, {part['upper'][play]:z.4f}]"
        for play in part["lower"]
      ),
      "yes" if part["holds"] else "NO",
    ]
    for part in results["certificate"]
  ]
  return _markdown(["game", "value", "fictitious", "anticipatory", "holds"], rows)


def poker_table(results: Results) -> str:
  """Return a row for each game and mixture: what a population loses, by agents."""
  rows = []
  for part in results["poker"]:
    for mixing, band in part["by_mixing"].items():
      at = [i for i in (2, 4, 8, 12, 20, 40) if i <= part["agents"]]
      cells = ", ".join(f"{band['mean'][i - 1]:z.3f} at {i}" for i in at)
      rows.append([part["game"], mixing, cells])
  return _markdown(["game", "mixture", "upper - lower by agents"], rows)


def trained_table(results: Results) -> str:
  """Return a row a game and mixing: the same of trained agents, and what they miss."""
  rows = []
  for part in results["trained"]:
    for mixing, band in part["by_mixing"].items():
      at = [i for i in (2, 4, 8, 12, 16) if i <= part["agents"]]
      cells = ", ".join(
        f"{band['mean'][i - 1]:.3f} ± {band['error'][i - 1]:.3f} at {i}" for i in at
      )
      short = part["short"][mixing]["mean"][1:]
      rows.append([part["game"], mixing, cells, f"{sum(short) / len(short):.3f}"])
  header = ["game, trained agents", "mixture", "upper - lower by agents"]
  return _markdown([*header, "an agent short of the best response"], rows)


def releases_table(results: Results) -> str:
  """Return a row a run and price: what is sure, by which release, and how soon."""
  rows = []
  for part in results["releases"]:
    cells = []
    for reached in part["by_mixing"].values():
      counts = [n for n in reached["agents_until"] if n is not None]
      median = f"{statistics.median_low(counts)}" if counts else "-"
      share = f"{len(counts)} of {len(reached['agents_until'])}"
      at = [i for i in (4, 8, 16, 40) if i <= len(reached["gap"]["mean"])]
      gaps = ", ".join(f"{reached['gap']['mean'][i - 1]:.3f} at {i}" for i in at)
      cells.append(f"{gaps}; {median} ({share})")
    size = f"{len(part['releases'])} x {len(part['attacks'])}"
    sure = f"{part['value']:.3f}, {part['released']:.3f}"
    by = f"{part['release']}; {part['attack']}; {len(part['suite'])}"
    rows.append([f"{part['run']}, {part['price']:g}", size, sure, by, *cells])
  header = ["run, price", "releases x attacks", "value, of one release"]
  header.append("that release; its worst attack; attacks in the suite")
  mixings = list(results["releases"][0]["by_mixing"]) if results["releases"] else []
  return _markdown([*header, *(f"{m}: gap; agents" for m in mixings)], rows)


def _bands(part: Mapping[str, Any]) -> Sequence[Band]:
  return list(part["by_play"].values())


def _with_band(band: Band, at: int) -> str:
  return f"{band['mean'][at]:z.3f} ({band['low'][at]:z.3f}, {band['high'][at]:z.3f})"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  return tables.markdown(header, rows) if rows else ""
