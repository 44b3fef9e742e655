"""The config, which checks itself; configs/variance_decomposition has its fields."""

import dataclasses

from undo_jax.utils import checks

TREES = ("kuhn", "leduc")
GAMES = (*TREES, "holdem")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Samples:
  """Numbers of samples for the estimators."""

  pairs: int
  levels: int
  tables: int
  intervals: int
  resamples: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holdem:
  """Settings of hold'em, whose hands are sampled."""

  deals: int
  stack: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """The whole study."""

  seed: int
  games: tuple[str, ...]
  alphas: tuple[float, ...]
  samples: Samples
  holdem: Holdem

  def __post_init__(self):
    checks.at_least(self, "seed", 0)
    if not self.games or not set(self.games) <= set(GAMES):
      checks.fail("games", f"some of {', '.join(GAMES)}", self.games)
    if not all(checks.is_number(a) and 0 <= a <= 1 / 3 for a in self.alphas):
      checks.fail("alphas", "numbers in [0, 1/3]", self.alphas)
    for name in ("pairs", "levels", "tables", "intervals"):
      checks.at_least(self, f"samples.{name}", 2)
    checks.at_least(self, "samples.resamples", 10)
    checks.at_least(self, "holdem.deals", 2)
    stack = self.holdem.stack
    if not checks.is_number(stack) or stack <= 1:
      checks.fail("holdem.stack", "a number of big blinds above 1", stack)
