"""What a search tries: values of one model's fields, and the resulting configs."""

from collections.abc import Mapping, Sequence
import copy
import functools
import hashlib
import json
import math

from undo_jax import config as builders
from undo_jax import tasks
from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier.search_results import SearchedModel
from undo_jax.plan import dependencies, lineages, mixtures, stages, translation
from undo_jax.plan import search as search_lib
from undo_jax.plan.config import RunConfig, plain
from undo_jax.plan.search import Range, Values
from undo_jax.plan.stages import (
  AttackStage,
  PredictionsStage,
  SaliencyStage,
  Stage,
  TrainStage,
)
from undo_jax.running import runs, saliency, training
from undo_jax.utils import records
from undo_jax.utils.records import FieldError
from undo_jax.utils.types import ConfigError, JsonObject


class Space:
  """The search of one model: its fields, and the configs that values come to."""

  def __init__(self, name: str, raw: JsonObject, config: RunConfig):
    """Take the model, the config as `plain` has it, and typed."""
    assert config.search is not None, "the caller has looked"
    self.name, self.search = name, config.search
    self.fields: Mapping[str, Range] = self.search.models[name]
    self._raw, self._config = copy.deepcopy(raw), config
    metrics = tasks.get(config.task).metrics
    self.more_is_worse = higher_is_worse(metrics["forget"])
    self.more_is_kept = higher_is_worse(metrics["retain"])
    self.base = str(config.references.base)

  @functools.cached_property
  def filtered_flops(self) -> float | None:
    """The most that data filtering costs in this config; None: it is given."""
    name = self._config.references.filtered
    if name is None:
      return None
    plan = translation.plan(self._config, self.search.seeds[0])
    return bound(plan, name)[0] or None

  @functools.cached_property
  def general(self) -> dict[str, float]:
    """The splits, with weights, on which models are compared with the base."""
    return mixtures.weights(self._config, self.search.divergence_mixture)

  def choose(self, name: str, model: SearchedModel) -> None:
    """Give another model the values that were chosen for it."""
    values = {field: each.value for field, each in model.values.items()}
    if values:
      search_lib.put(self._raw["models"][name], self.search.models[name], values)

  @property
  def own(self) -> Values | None:
    """The model's values in the config, None if they are in no range."""
    return search_lib.own(self._raw["models"][self.name], self.fields)

  def declare(self, values: Values) -> runs.Declared:
    """Return the config of a trial, checked: this model and the search's attack."""
    raw = copy.deepcopy(self._raw)
    search_lib.put(raw["models"][self.name], self.fields, values)
    for name, entry in raw["attacks"].items():
      entry["run"] = name == self.search.attack
    attack = raw["attacks"][self.search.attack]
    attack["models"] = [self.name]
    raw["seeds"], raw["search"] = list(self.search.seeds), None
    raw["report"] |= {"budgets": [attack["num_steps"]], "worst_over": []}
    try:
      return runs.declare(raw)
    except ConfigError as error:
      raise ConfigError(
        f"config.search.models.{self.name} at {values}: {error}"
      ) from None

  def corners(self) -> list[Values]:
    """Return values at all low ends, at all high ends, and with each choice once."""
    low, high = (
      {name: each.ends[end] for name, each in self.fields.items()} for end in (0, 1)
    )
    chosen = [
      low | {name: value}
      for name, each in self.fields.items()
      for value in each.choices
      if value not in each.ends
    ]
    return [low, high, *chosen]

  def plans(self, declared: runs.Declared) -> dict[int, list[Stage]]:
    """Return by seed what a trial needs: the base, the model, its attacks."""
    plans = {seed: declared.plan(seed) for seed in self.search.seeds}
    return {
      seed: lineages.needed(plan, [self.base, self.name, *attacks_on(plan, self.name)])
      for seed, plan in plans.items()
    }

  def identity(self) -> str:
    """Return 12 hex digits of all that determines what the trials are.

    The number of trials is not in it, so that more may be added.
    """
    plans = self.plans(self.declare(self.corners()[0]))
    search = self.search
    content = [
      [sorted(stages.identities(plan).items()) for plan in plans.values()],
      {name: records.to_json(each) for name, each in self.fields.items()},
      [search.startup, search.objective, search.smallest_retain],
      [search.largest_compute, self.filtered_flops, self.own],
    ]
    if search.largest_divergence is not None:
      content.append([search.largest_divergence, sorted(self.general.items())])
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def spaces(config: builders.Config) -> list[Space]:
  """Return the searches of a config's models, after those that they are made from.

  Raises:
    ConfigError: if there is none, or values at the ends of the ranges cannot work.
  """
  raw = plain(config)
  declared = runs.declare(raw).config
  search = declared.search
  if search is None:
    raise ConfigError(
      "config.search: expected a block, built by config.search, but there is none; "
      "the config frontier has one"
    )
  search_lib.check(declared)
  if search.largest_divergence is not None:
    _check_divergence(declared, search.divergence_mixture)
  order = dict.fromkeys(
    declared.models[name].family or name
    for name in dependencies.ordered(declared.models)
  )
  made = [Space(name, raw, declared) for name in order if name in search.models]
  if search.largest_compute is not None and made[0].filtered_flops is None:
    raise ConfigError(
      "config.search.largest_compute: expected None, since data filtering is given and "
      "what it cost is not known"
    )
  for space in made:
    for values in space.corners():
      space.declare(values)
  return made


def _check_divergence(config: RunConfig, mixture: str) -> None:
  """Raise ConfigError unless a mixture is of whole splits without forget data."""
  field = "config.search.divergence_mixture"
  try:
    used = mixtures.checked(config, field, mixture)
  except FieldError as error:
    raise records.fixable(error) from None
  forgotten = tasks.get(config.task).forget_splits(config.data)
  if any(split in forgotten or ":" in split for split in used):
    expected = f"a mixture of whole splits, without {', '.join(forgotten)}"
    raise records.fixable(FieldError(field, expected, mixture))


def attacks_on(plan: Sequence[Stage], name: str) -> list[str]:
  """Return the stages that attack a model, one for each seed of the attack."""
  return [s.name for s in plan if isinstance(s, AttackStage) and s.target == name]


def bound(plan: Sequence[Stage], name: str) -> tuple[float, bool]:
  """Return the FLOPs of making a model, and whether they are exact.

  If a rule may stop training, they are an upper bound. The pass of a teacher that
  predicts all rows is left out, since the number of rows is not known yet.
  """
  made = lineages.lineage(plan, name)
  trained = [stage for stage in made if isinstance(stage, TrainStage)]
  costs = [
    *(saliency.cost(stage) for stage in made if isinstance(stage, SaliencyStage)),
    *(training.cost(stage, updates=stage.optimizer.num_steps) for stage in trained),
  ]
  is_exact = not any(
    isinstance(stage, PredictionsStage) or isinstance(stage, TrainStage) and stage.stop
    for stage in made
  )
  return math.fsum(cost.flops for cost in costs), is_exact
