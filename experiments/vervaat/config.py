"""The config, which checks itself; configs/vervaat describes its fields."""

import dataclasses

from experiments.vervaat.sampler import LARGEST, SMALLEST
from undo_jax.utils import checks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exact:
  """Draws by the exact updates."""

  betas: tuple[float, ...]
  draws: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
  """Draws by the published updates, beside exact ones."""

  betas: tuple[float, ...]
  draws: int
  slow_betas: tuple[float, ...]
  slow_draws: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """The whole study."""

  seed: int
  exact: Exact
  published: Published

  def __post_init__(self):
    checks.at_least(self, "seed", 0)
    for name in ("exact.draws", "published.draws", "published.slow_draws"):
      checks.at_least(self, name, 100)
    for name in ("exact.betas", "published.betas", "published.slow_betas"):
      checks.numbers(self, name)
      betas = checks.field(self, name)
      if not all(SMALLEST <= beta <= LARGEST for beta in betas):
        checks.fail(name, f"numbers in [{SMALLEST:g}, {LARGEST:g}]", betas)
