"""The config, which checks itself; configs/fictitious_play describes its fields."""

import dataclasses

from experiments.fictitious_play import matrix_games
from undo_jax.utils import checks

POKER = ("kuhn", "leduc")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Single:
  """Cyclic and transitive games."""

  moves: tuple[int, ...]
  repetitions: int
  responses: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gaussian:
  """Gaussian games of several sizes."""

  moves: tuple[int, ...]
  games: int
  responses: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Early:
  """Gaussian games after their first responses."""

  moves: int
  games: int
  responses: int
  initial_steps: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Anticipations:
  """Several anticipated responses."""

  counts: tuple[int, ...]
  moves: int
  games: int
  responses: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rates:
  """Long plays of cyclic games."""

  moves: tuple[int, ...]
  repetitions: int
  plays: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Certificates:
  """Bounds of the values of named games."""

  games: tuple[str, ...]
  plays: int

  def chosen(self) -> dict[str, matrix_games.Game]:
    """Return the chosen games by name; "all" stands for all named games."""
    named = matrix_games.NAMED
    return named if self.games == ("all",) else {n: named[n] for n in self.games}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Poker:
  """Populations of exact best responses."""

  games: tuple[str, ...]
  agents: int
  repetitions: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
  """Populations of trained best responses."""

  games: tuple[str, ...]
  agents: int
  repetitions: int
  updates: int
  hands: int
  learning_rate: float
  entropy: float
  width: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Releases:
  """Released models against attacks."""

  runs: tuple[str, ...]
  prices: tuple[float, ...]
  agents: int
  starts: int
  gap: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Own:
  """A game of the user's."""

  payoffs: tuple[tuple[float, ...], ...]
  column_payoffs: tuple[tuple[float, ...], ...]

  def game(self) -> matrix_games.Game | None:
    """Return the game, if there is one; raise ConfigError if it is not zero-sum."""
    if not self.payoffs:
      return None
    return matrix_games.zero_sum(self.payoffs, self.column_payoffs or None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """The whole study."""

  seed: int
  single: Single
  sizes: Gaussian
  ahead: Gaussian
  early: Early
  anticipations: Anticipations
  rates: Rates
  certificates: Certificates
  poker: Poker
  trained: Trained
  releases: Releases
  own: Own

  def __post_init__(self):
    checks.at_least(self, "seed", 0)
    for name in ("single.moves", "rates.moves"):
      checks.integers(self, name, 3)
    for name in ("sizes.moves", "ahead.moves"):
      checks.integers(self, name, 1)
    checks.integers(self, "early.initial_steps", 0)
    checks.integers(self, "anticipations.counts", 0)
    _at_least_one(self)
    for count in self.anticipations.counts:
      if self.anticipations.responses % (count + 1):
        checks.fail(
          "anticipations.counts",
          f"counts whose successors divide {self.anticipations.responses} responses",
          self.anticipations.counts,
        )
    for name in ("poker.games", "trained.games"):
      chosen = checks.field(self, name)
      if not set(chosen) <= set(POKER):
        checks.fail(name, f"some of {', '.join(POKER)}", chosen)
    for name in ("trained.learning_rate", "releases.gap"):
      value = checks.field(self, name)
      if not checks.is_number(value) or value <= 0:
        checks.fail(name, "a number above 0", value)
    for name in ("trained.entropy", "releases.prices"):
      value = checks.field(self, name)
      each = value if isinstance(value, tuple) else (value,)
      if not each or not all(checks.is_number(x) and x >= 0 for x in each):
        checks.fail(name, "nothing below 0", value)
    names = self.certificates.games
    if names != ("all",) and not set(names) <= set(matrix_games.NAMED):
      known = ", ".join(repr(name) for name in matrix_games.NAMED)
      checks.fail("certificates.games", f'some of {known}, or ("all",)', names)
    self.own.game()


def _at_least_one(config: Config) -> None:
  """Raise ConfigError unless every count is as large as it must be, at least 1."""
  for block, names in (
    ("single", ("repetitions", "responses")),
    ("sizes", ("games", "responses")),
    ("ahead", ("games", "responses")),
    ("early", ("moves", "games", "responses")),
    ("anticipations", ("moves", "games", "responses")),
    ("rates", ("repetitions",)),
    ("certificates", ("plays",)),
    ("poker", ("repetitions",)),
    ("trained", ("repetitions", "updates", "width")),
    ("releases", ("starts",)),
  ):
    for name in names:
      checks.at_least(config, f"{block}.{name}", 1)
  checks.at_least(config, "rates.plays", 20)
  for name in ("poker.agents", "trained.agents", "trained.hands", "releases.agents"):
    checks.at_least(config, name, 2)
