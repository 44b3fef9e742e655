"""Tables of the sources of the spread, and of which seeds to run next."""

import math

from undo_jax.frontier import replicates, replication, variance
from undo_jax.frontier.figures.style import model_styles
from undo_jax.frontier.formats import count
from undo_jax.frontier.replication import ATTACK, Replication
from undo_jax.frontier.results import ModelRun, Results
from undo_jax.frontier.tables import Row, Table, after_budgets
from undo_jax.utils.errors import ConfigError

# What a factor is called on the page, if not by its stream.
NAMES = {
  "distill_data": "order of distillation",
  replication.RUN: "the run's seed",
  ATTACK: "the attacker's seed",
}
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
TARGETS = ((0.5, "half"), (0.25, "a quarter"))  # Of today's standard error.


def spread(results: Results) -> Table | None:
  """Return how much each recipe's figure varies with each seed, as standard deviations.

  Of the score under one attack after the last budget, by frontier.variance: of each
  factor by itself, and of those that act together. An estimate below zero is written
  with its sign. None where nothing is repeated in two ways.
  """
  by_model = {
    table.model: {
      " × ".join(named(f) for f in table.factors if f in group): _deviation(value)
      for group, value in replication.components(table).items()
    }
    for table in crossed(results)
  }
  heads = tuple(dict.fromkeys(head for cells in by_model.values() for head in cells))
  rows = [
    _row(results, table, tuple(by_model[table.model].get(head, "–") for head in heads))
    for table in crossed(results)
  ]
  return Table(("model", *heads), tuple(rows)) if rows else None


def components(results: Results) -> list[tuple[str, Table]]:
  """Return the effects of the factors of each recipe whose streams are swept.

  First order: the variance of the mean over all else. Total: the variance if this seed
  alone is drawn anew. With percentile intervals of the bootstrap over levels.
  """
  return [
    (label(results, table), _effects(results, table))
    for table in crossed(results)
    if {*table.factors} - {replication.RUN, ATTACK}
  ]


def to_buy(results: Results) -> list[tuple[str, Table]]:
  """Return for each such recipe how many levels of each seed a smaller error takes.

  The cheapest full table by replicates.plan, those there already among it. A
  combination of all seeds but the attack's costs a model's own training, one of the
  attack's in each a whole attack.
  """
  plans = []
  for table in crossed(results):
    if {*table.factors} - {replication.RUN, ATTACK}:
      plans.append((label(results, table), _plans(results, table)))
  return plans


def crossed(results: Results) -> list[Replication]:
  """Return the tables of all recipes that are repeated in two ways or more."""
  after = after_budgets(results)
  if not after:
    return []
  names: dict[str, None] = {}
  for name, model in results.models.items():
    if all(run.attacks for run in model.runs):
      names[_recipe(results, name)] = None
  whole = []
  for name in names:
    try:
      tables = replication.tables(results, name, after[-1][0])
    except ConfigError:  # A factor of one level.
      continue
    whole += [table for table in tables if len(table.factors) > 1 and _whole(table)]
  return whole


def _recipe(results: Results, name: str) -> str:
  """Return the family of a member whose streams are swept, else the model."""
  model = results.models[name]
  is_redrawn = any(key.startswith(replication.STREAMS) for key in model.swept)
  return model.family if is_redrawn and model.family else name


def _whole(table: Replication) -> bool:
  try:
    replication.components(table)
  except ConfigError:  # Too few cells.
    return False
  return True


def _row(results: Results, table: Replication, cells: tuple[str, ...]) -> Row:
  styles = model_styles(results)
  look = styles[_members(results, table)[0]]
  return Row(table.model, label(results, table), look.color, cells, look.method)


def label(results: Results, table: Replication) -> str:
  """Return what a recipe is called: its first member, without its streams' seeds."""
  name = _members(results, table)[0]
  text = model_styles(results)[name].label
  for key, value in results.models[name].swept.items():
    if key.startswith(replication.STREAMS):
      text = text.replace(f" {key.removeprefix(replication.STREAMS)} = {value}", "")
  return text


def _members(results: Results, table: Replication) -> list[str]:
  family = table.model.partition(",")[0]
  return [
    name for name, model in results.models.items() if family in (name, model.family)
  ]


def _effects(results: Results, table: Replication) -> Table:
  effects = variance.effects(replication.components(table))
  ends = variance.bootstrap_effects(table.table, table.factors, seed=0)
  look = model_styles(results)[_members(results, table)[0]]
  rows = []
  power = _power(max(each.total for each in effects.values()))

  def small(value: float) -> str:
    return f"{value / 10**power:z.2f}".replace("-", "−")

  def ends_of(interval: variance.Interval) -> str:
    return f"{small(interval.low)} to {small(interval.high)}"

  for factor, levels in zip(table.factors, table.levels, strict=True):
    each, (first, total) = effects[factor], ends[factor]
    cells = (
      count(len(levels)),
      *(small(each.first_order), ends_of(first), _percent(each.first_order_share)),
      *(small(each.total), ends_of(total), _percent(each.total_share)),
    )
    rows.append(Row(factor, named(factor), look.color, cells, look.method))
  kinds = ("first order", "total")
  heads = ("levels", *(head for kind in kinds for head in _heads(kind, power)))
  return Table(("seed", *heads), tuple(rows))


def _heads(kind: str, power: int) -> tuple[str, str, str]:
  unit = f", in 10{str(power).translate(_RAISED)}" if power else ""
  return f"{kind}, variance{unit}", f"{kind}, 95 % interval", f"{kind}, share of all"


def _power(value: float) -> int:
  """Return the power of ten that a value is a few of."""
  return math.floor(math.log10(value)) if value > 0 else 0


def _plans(results: Results, table: Replication) -> Table:
  parts = replication.components(table)
  now = dict(zip(table.factors, map(len, table.levels), strict=True))
  positive = {group: max(value, 0.0) for group, value in parts.items()}
  error = math.sqrt(variance.variance_of_mean(positive, now))
  prices = costs(results, table)
  spent = replicates.nested_cost(prices, now)
  look = model_styles(results)[_members(results, table)[0]]
  levels = tuple(count(now[factor]) for factor in table.factors)
  cells = (f"{error:.4f}", *levels, "0", "0")
  rows = [Row("now", "as it is", look.color, cells, look.method)]
  for part, name in TARGETS if error else ():
    plan = replicates.plan(parts, prices, part * error, bought=now)
    levels = tuple(count(plan.levels[factor]) for factor in table.factors)
    more = (f"{plan.cost:.3g}", f"{plan.cost / spent:.1f}")
    cells = (f"{plan.standard_error:.4f}", *levels, *more)
    rows.append(Row(name, f"{name} of the error", look.color, cells, look.method))
  heads = ("standard error of the mean", *map(named, table.factors))
  return Table(("to have", *heads, "FLOPs more", "times what was spent"), tuple(rows))


def costs(results: Results, table: Replication) -> dict[str, float]:
  """Return what a level of each factor costs in FLOPs, outer factors first.

  A model is trained for each combination of all seeds but the attack's, so its FLOPs
  stand at the last of them; the attack's are those of all its learning rates.
  """
  members = _members(results, table)
  runs = [run for name in members for run in results.models[name].runs]
  trained = math.fsum(run.compute.flops for run in runs) / len(runs)
  factors = [factor for factor in table.factors if factor != ATTACK]
  prices = dict.fromkeys(factors, 0.0) | {factors[-1]: trained}
  if ATTACK in table.factors:
    prices[ATTACK] = math.fsum(_attacked(run, table) for run in runs) / len(runs)
  return prices


def _attacked(run: ModelRun, table: Replication) -> float:
  under = run.attacks[table.attack]
  return under.flops_per_update * under.steps[-1] * len(under.learning_rates)


def named(factor: str) -> str:
  """Return what a factor is called."""
  return NAMES.get(factor, factor.replace("_", " "))


def _percent(value: float | None) -> str:
  return "–" if value is None else f"{value:.0%}".replace("-", "−")


def _deviation(value: float) -> str:
  shown = f"{math.sqrt(abs(value)):.3f}"
  return f"−{shown}" if value < 0 and float(shown) else shown
