"""search.json: what a search for hyper-parameters tried, chose and cost."""

from collections.abc import Mapping, Sequence
import copy
import logging
import math
from typing import Annotated, Literal

from undo_jax.frontier.results import Score
from undo_jax.plan import search as search_lib
from undo_jax.plan.search import Edge, Search, Value, Values
from undo_jax.utils import files, records
from undo_jax.utils.errors import ConfigError
from undo_jax.utils.records import record
from undo_jax.utils.types import JsonObject

LOGGER = logging.getLogger("undo_jax")
SCHEMA = 1
# complete: attacked; infeasible: retains too little or cost too much, not attacked;
# pruned: would have cost too much, not trained; diverged: a loss was not finite.
State = Literal["complete", "infeasible", "pruned", "diverged"]


@record
class Trial:
  """One choice of values; scores are of validation items, means over the seeds."""

  number: int  # From 0.
  values: Values
  state: State
  retain: Score  # Before the attack.
  forget: Score
  worst_forget: Score  # Within the updates of the search's attack.
  flops: float | None  # Of the model and all it is made from, but what does not count.
  compute: float | None  # Likewise, as a share of data filtering's.
  violations: dict[str, float]  # Of each bound, above 0 where it is broken.
  stages: tuple[str, ...]  # Directories below WORKDIR/stages, others' too.
  # KL(base || model) in nats per token, if it is bounded.
  divergence: Annotated[Score, records.later(None)] = None


@record
class Chosen:
  """A field's chosen value."""

  value: Value
  edge: Edge | None  # The end of its range that it is at.


@record
class SearchedModel:
  """The search of one model."""

  trials: tuple[Trial, ...]
  chosen: int | None  # The trial; None: none is within the bounds.
  values: dict[str, Chosen]  # Of that trial, by the field's name.
  # Trials that none beats in both compute and the worst forget score.
  front: tuple[int, ...]
  # Of its distinct stages but those that do not count, as the base; of evaluation none.
  training_flops: float
  attack_flops: float


@record
class SearchResults:
  """A whole search."""

  schema: Literal[1]
  search: Search
  more_is_worse: bool  # Whether a higher forget score is more capability.
  base_retain: float  # On validation items, mean over the search's seeds.
  base_flops: float | None  # Of one base's pretraining; None: it was given.
  filtered_flops: float | None  # Of data filtering as the config has it.
  models: dict[str, SearchedModel]


def path(workdir: files.Path) -> files.Path:
  """Return where a search of a workdir leaves what it found."""
  return workdir / "search" / "search.json"


def write(searched: SearchResults, workdir: files.Path) -> None:
  """Write search.json, unless it holds this already."""
  files.update_json(path(workdir), records.to_json(searched))


def read(file: files.Path) -> SearchResults:
  """Return what a search.json holds.

  Raises:
    ConfigError: if there is none, or it is of another schema.
  """
  if not file.exists():
    raise ConfigError(f"expected what undo-jax search has written, but no file {file}")
  value = files.read_record(file)
  if value.get("schema") != SCHEMA:
    raise ConfigError(
      f"{file}: expected a search of schema {SCHEMA}, got {value.get('schema')!r}; it "
      "is of another version of undo_jax: search again in a new directory"
    )
  return records.from_json(SearchResults, value, path=str(file))


def best(trials: Sequence[Trial], *, more_is_worse: bool) -> Trial | None:
  """Return the trial within the bounds that has the best worst forget score.

  Of equals that of less compute, then the first.
  """
  sign = 1 if more_is_worse else -1
  return min(
    (trial for trial in trials if trial.state == "complete"),
    key=lambda trial: (sign * (trial.worst_forget or 0.0), trial.flops, trial.number),
    default=None,
  )


def front(trials: Sequence[Trial], *, more_is_worse: bool) -> tuple[int, ...]:
  """Return the trials within the bounds that no other beats, by rising compute.

  One beats another that is no better in compute or worst forget score, and worse in
  one of them.
  """
  sign = 1 if more_is_worse else -1
  points = sorted(
    (trial.flops or 0.0, sign * (trial.worst_forget or 0.0), trial.number)
    for trial in trials
    if trial.state == "complete"
  )
  kept: list[int] = []
  lowest, at = math.inf, -math.inf
  for flops, score, number in points:
    if score < lowest or (score == lowest and flops == at):
      kept.append(number)
      lowest, at = score, flops
  return tuple(kept)


def model(
  trials: Sequence[Trial],
  fields: Mapping[str, search_lib.Range],
  *,
  more_is_worse: bool,
  training_flops: float,
  attack_flops: float,
) -> SearchedModel:
  """Return the search of a model from its trials."""
  chosen = best(trials, more_is_worse=more_is_worse)
  values = chosen.values if chosen else {}
  return SearchedModel(
    trials=tuple(trials),
    chosen=chosen.number if chosen else None,
    values={
      name: Chosen(value=value, edge=fields[name].edge(value))
      for name, value in values.items()
    },
    front=front(trials, more_is_worse=more_is_worse),
    training_flops=training_flops,
    attack_flops=attack_flops,
  )


def apply(config: JsonObject, results: SearchResults) -> JsonObject:
  """Return a config, as plan.config.plain has it, with the values that were chosen.

  A model that was chosen for is no longer swept, and what followed it in the config
  file keeps the values that it had.

  Raises:
    ConfigError: if the config has a seed of the search, or not its models.
  """
  seen = sorted({*results.search.seeds} & {*config["seeds"]})
  if seen:
    raise ConfigError(
      f"config.seeds: expected seeds that the search never saw, got {seen[0]}, one of "
      "its own; set it by --config.seeds=VALUE"
    )
  config = copy.deepcopy(config)
  for name, searched in results.models.items():
    if searched.chosen is None:
      LOGGER.warning("%s: no trial was within the bounds; it is as it was", name)
      continue
    if name not in config["models"]:
      raise ConfigError(
        f"--chosen: expected a config with the models of the search, but it has no "
        f"{name}"
      )
    values = {field: each.value for field, each in searched.values.items()}
    search_lib.put(config["models"][name], results.search.models[name], values)
  return config


def is_used(config: JsonObject, results: SearchResults, name: str) -> bool:
  """Whether a run's config has the values that were chosen for a model."""
  entry, fields = config["models"].get(name), results.search.models[name]
  if entry is None or entry["sweep"]:
    return False
  return all(
    search_lib.get(entry, fields[field].path) == each.value
    for field, each in results.models[name].values.items()
  )
