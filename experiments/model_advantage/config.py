"""The config, which checks itself; configs/model_advantage describes its fields."""

import dataclasses

from undo_jax.utils import checks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tables:
  """Random MDPs and models of them."""

  count: int
  states: int
  actions: int
  discount: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Toy:
  """The toy with a distractor."""

  starts: int
  states: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """The whole study."""

  seed: int
  tables: Tables
  toy: Toy

  def __post_init__(self):
    checks.at_least(self, "seed", 0)
    for name in ("tables.count", "tables.actions", "toy.starts", "toy.states"):
      checks.at_least(self, name, 1)
    checks.at_least(self, "tables.states", 2)
    discount = self.tables.discount
    if not checks.is_number(discount) or not 0 <= discount < 1:
      checks.fail("tables.discount", "a number in [0, 1)", discount)
