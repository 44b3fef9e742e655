"""A search for hyper-parameters as a config declares it: which fields, which ranges."""

from collections.abc import Iterator, Mapping
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypeAlias

from undo_jax.utils import records
from undo_jax.utils.records import FieldError, record
from undo_jax.utils.types import JsonObject

if TYPE_CHECKING:  # That module imports this one.
  from undo_jax.plan.config import RunConfig

Value: TypeAlias = float | int | str | bool | None
Values: TypeAlias = dict[str, Value]  # By a field's name in the search.
Edge: TypeAlias = Literal["low", "high"]
NEAR = 0.05  # Of a range, in its own scale: what lies so near to an end is at its edge.


@record
class Range:
  """The values that a field of a recipe may take."""

  path: str  # Of the field, as in optimizer.learning_rate.
  kind: Literal["uniform", "log_uniform", "integers", "choices"]
  low: float | None = None  # Ends, both included; of choices None.
  high: float | None = None
  choices: tuple[Value, ...] = ()
  # Other fields, of numbers, that are multiplied by as much as the value is changed.
  tied: tuple[str, ...] = ()

  def __post_init__(self):
    low, high = self.low, self.high
    if self.kind == "choices":
      if len(set(self.choices)) < max(2, len(self.choices)):
        raise FieldError("choices", "at least two values that differ", self.choices)
      if low is not None or high is not None or self.tied:
        expected = "choices alone, without low, high and tied"
        raise FieldError("kind", expected, self.kind)
      return
    if self.choices:
      raise FieldError("choices", f"() of {self.kind}", self.choices)
    if low is None or (self.kind == "log_uniform" and low <= 0):
      above = " above 0" if self.kind == "log_uniform" else ""
      raise FieldError("low", f"a number{above}", low)
    if high is None or high <= low:
      raise FieldError("high", f"a number above low={low:g}", high)
    if self.kind == "integers" and (low % 1 or high % 1):
      raise FieldError("low", "whole ends of integers", (low, high))

  @property
  def ends(self) -> tuple[Value, Value]:
    """The smallest and the largest value; of choices that are no numbers any two."""
    if self.kind == "choices":
      numbers = [v for v in self.choices if isinstance(v, int | float)]
      is_ordered = len(numbers) == len(self.choices)
      ordered = sorted(numbers) if is_ordered else self.choices
      return ordered[0], ordered[-1]
    assert self.low is not None and self.high is not None, "checked when it was made"
    if self.kind == "integers":
      return int(self.low), int(self.high)
    return self.low, self.high

  def holds(self, value: object) -> bool:
    """Whether a value is among these."""
    if self.kind == "choices":
      return any(value == each and type(value) is type(each) for each in self.choices)
    if isinstance(value, bool) or not isinstance(value, int | float):
      return False
    if self.kind == "integers" and not isinstance(value, int):
      return False
    low, high = self.ends
    return low <= value <= high  # type: ignore[operator]

  def edge(self, value: Value) -> Edge | None:
    """Return the end that a value is at, in the range's own scale.

    p <= NEAR or p >= 1 - NEAR, with p = (v - low) / (high - low), of logarithms where
    the range is logarithmic. Choices are at an end as the first or last of at least
    three numbers.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
      return None
    low, high = self.ends
    if self.kind == "choices":
      if len(self.choices) < 3 or not isinstance(low, int | float):
        return None
      return "low" if value == low else "high" if value == high else None
    scale = math.log if self.kind == "log_uniform" else float
    first, last = scale(low), scale(high)  # type: ignore[arg-type]
    part = (scale(value) - first) / (last - first)
    return "low" if part <= NEAR else "high" if part >= 1 - NEAR else None


@record
class Search:
  """Which models are searched, over what, and by which scores of validation items."""

  # By the name of an entry of models, the fields by a name of their own.
  models: dict[str, dict[str, Range]]
  trials: int  # Of every model; the first has the config's own values.
  startup: int  # That are drawn at random before the sampler learns from others.
  seeds: tuple[int, ...]  # Roots of the search's random streams, none of config.seeds.
  attack: str  # An entry of attacks whose `run` is False, scored on validation items.
  # What is made small: the worst forget score after the attack, or beside it compute.
  objective: Literal["worst_forget", "compute_and_worst_forget"]
  smallest_retain: float  # Share of the base's, before the attack; as in the report.
  largest_compute: float | None  # Share of data filtering's; None: any.
  # Mean KL(base || model), nats per token of rows of a mixture; None: any.
  largest_divergence: Annotated[float | None, records.later(None)] = None
  divergence_mixture: Annotated[str, records.later("unlearn_retain")] = "unlearn_retain"

  def __post_init__(self):
    records.at_least(self, "trials", "startup", smallest=1)
    records.unit(self, "smallest_retain")
    records.above(self, "largest_compute")
    records.above(self, "largest_divergence")
    records.distinct(self, "seeds")
    if not self.seeds or not 0 <= min(self.seeds) <= max(self.seeds) < 2**31:
      raise FieldError("seeds", "at least one integer in [0, 2^31)", self.seeds)
    if not self.models:
      raise FieldError("models", "at least one model", {})
    for name, fields in self.models.items():
      paths = [path for each in fields.values() for path in (each.path, *each.tied)]
      if not paths or len(set(paths)) < len(paths):
        expected = "fields with a range, none of them twice"
        raise FieldError(f"models.{name}", expected, paths)


def put(entry: JsonObject, fields: Mapping[str, Range], values: Values) -> None:
  """Set a model's fields to the values, and those that are tied to them.

  The entry's own sweep is gone; its fields are among those that are searched.
  """
  entry["sweep"] = {}
  for name, value in values.items():
    each = fields[name]
    before = get(entry, each.path)
    for path in each.tied:
      _set(entry, path, get(entry, path) * value / before)
    _set(entry, each.path, value)


def own(entry: Mapping[str, Any], fields: Mapping[str, Range]) -> Values | None:
  """Return an entry's own values, or None if one is swept or in no range."""
  if entry.get("sweep"):
    return None
  values = {name: get(entry, each.path) for name, each in fields.items()}
  return values if all(fields[n].holds(v) for n, v in values.items()) else None


def get(entry: Mapping[str, Any], path: str) -> Any:
  """Return the field at a dotted path; raise KeyError where there is none."""
  value: Any = entry
  for name in path.split("."):
    if not isinstance(value, Mapping):
      raise KeyError(path)
    value = value[name]
  return value


def _set(entry: JsonObject, path: str, value: object) -> None:
  *blocks, last = path.split(".")
  block: Any = entry
  for name in blocks:
    block = block[name]
  block[last] = value


def check(config: "RunConfig") -> None:
  """Raise ConfigError if the search of a config does not fit the rest of it."""
  search = config.search
  assert search is not None, "the caller has looked"
  seen = sorted({*search.seeds} & {*config.seeds})
  if seen:
    expected = f"seeds that no table uses, which are {config.seeds}"
    _fail("seeds", expected, search.seeds)
  for role in ("base", "filtered"):
    if role == "filtered" and search.largest_compute is None:
      continue
    if getattr(config.references, role) is None:
      expected = "a model, which the search's bounds are shares of"
      raise records.fixable(FieldError(f"config.references.{role}", expected, None))
  for name, fields in search.models.items():
    _check_model(config, name, fields)


def _check_model(config: "RunConfig", name: str, fields: Mapping[str, Range]) -> None:
  """Check that a searched model is there, its fields, and its sweep among them."""
  members = [r for n, r in config.models.items() if name in (r.family, n)]
  known = dict.fromkeys(recipe.family or n for n, recipe in config.models.items())
  if name not in known:
    _fail("models", f"some of {', '.join(known)}", name)
  entry = records.to_json(members[0])
  for field, path in _paths(fields):
    try:
      get(entry, path)
    except KeyError:
      _fail(f"models.{name}.{field}", "a path of fields that the entry has", path)
  searched = {each.path for each in fields.values()}
  swept = [path for path in members[0].swept if path not in searched]
  if swept:
    expected = f"{swept[0]} among its fields, since it is searched without its sweep"
    _fail(f"models.{name}", expected, [each.path for each in fields.values()])


def _paths(fields: Mapping[str, Range]) -> Iterator[tuple[str, str]]:
  """Yield the paths that a search sets, each after where the config says so."""
  for name, each in fields.items():
    yield f"{name}.path", each.path
    yield from ((f"{name}.tied", path) for path in each.tied)


def _fail(field: str, expected: str, got: object) -> NoReturn:
  raise records.fixable(FieldError(f"config.search.{field}", expected, got))


def check_attack(raw: JsonObject, attacks: Mapping[str, Any]) -> None:
  """Raise ConfigError unless a search's attack is there and in no table.

  Args:
    raw: the config's block `search`.
    attacks: the table, entries that are not run among them.
  """
  name = raw.get("attack")
  known = {n: e for n, e in attacks.items() if isinstance(e, dict)}
  kept = [n for n, e in known.items() if not e.get("run") and "edit" not in e]
  if name not in kept:
    expected = "an entry of config.attacks whose run is False, so that no table has it"
    _fail("attack", f"{expected} ({', '.join(kept) or 'there is none'})", name)
  entry = attacks[name]
  if entry.get("scores") != "validation":
    expected = "validation, since no search reads the test's items"
    field = FieldError(f"config.attacks.{name}.scores", expected, entry.get("scores"))
    raise records.fixable(field)
  others = [each for other, each in attacks.items() if other != name]
  taken = {seed for each in others for seed in _seeds(each)}
  if not _seeds(entry) or taken & _seeds(entry):
    expected = f"seeds of its own, none of {sorted(taken)}"
    field = FieldError(f"config.attacks.{name}.seeds", expected, entry.get("seeds"))
    raise records.fixable(field)


def _seeds(entry: object) -> set[int]:
  """Return the seeds of an attack that is not checked yet."""
  seeds = entry.get("seeds") if isinstance(entry, dict) else None
  listed = seeds if isinstance(seeds, list) else []
  return {seed for seed in listed if isinstance(seed, int)}
