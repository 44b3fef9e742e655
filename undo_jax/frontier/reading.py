"""Results from a run directory: its plan and its finished stages."""

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any

from undo_jax import objectives, tasks
from undo_jax.data.labels import SELECTED, selected_weights
from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier import attack_results, labels, matched
from undo_jax.frontier.compute import Compute
from undo_jax.frontier.results import (
  SCHEMA,
  Ablation,
  Apart,
  Cost,
  Metric,
  ModelResult,
  ModelRun,
  Relearning,
  Results,
  Score,
  Scores,
  Stopped,
)
from undo_jax.hardware.flops import forward_flops
from undo_jax.plan import lineages
from undo_jax.plan import stages as stages_lib
from undo_jax.plan.attack_entries import AttackEntry
from undo_jax.plan.config import RunConfig
from undo_jax.plan.stages import (
  AblateStage,
  Against,
  DataStage,
  Model,
  PredictionsStage,
  Stage,
  TrainStage,
)
from undo_jax.utils import files, records
from undo_jax.utils.types import JsonObject


def write_plan(workdir: files.Path, plans: Mapping[int, Mapping[str, str]]) -> None:
  """Write plan.json: for each seed the directory of each stage, in their order."""
  seeds = [{"seed": seed, "stages": dict(plan)} for seed, plan in plans.items()]
  content = {"version": stages_lib.VERSION, "seeds": seeds}
  files.update_json(workdir / "plan.json", content)


def read(workdir: files.Path, config: RunConfig) -> Results:
  """Return the results of a finished run from its directory.

  Args:
    workdir: where the run was, with plan.json and its stages.
    config: of the run.

  Raises:
    ConfigError: if a stage is missing or of another version; names the file.
  """
  plan = files.read_record(workdir / "plan.json")
  by_seed = {
    entry["seed"]: _read_stages(workdir, entry["stages"]) for entry in plan["seeds"]
  }
  task = tasks.get(config.task)
  metrics = {
    name: records.from_json(Metric, dict(metric), path=f"{config.task}.metrics.{name}")
    for name, metric in task.metrics.items()
  }
  runs = {
    seed: _runs(config, seed, finished, metrics["forget"])
    for seed, finished in by_seed.items()
  }
  names = list(next(iter(runs.values())))
  first = [each.stage for each in next(iter(by_seed.values())).values()]
  recipes = stages_lib.identities(first, left_out=("seeds",))
  run = Results(
    schema=SCHEMA,
    task=config.task,
    seeds=tuple(runs),
    protocol=_protocol(config, next(iter(by_seed.values()))),
    metrics=metrics,
    items=_items(by_seed),
    apart=_apart(by_seed),
    references=config.references,
    report=config.report,
    attacks={
      name: attack_results.adversary(entry) for name, entry in config.attacks.items()
    },
    models={
      name: _model(config, name, recipes[name], [of[name] for of in runs.values()])
      for name in config.models
      if name in names
    },
  )
  return matched.completed(run)


def _protocol(config: RunConfig, finished: Mapping[str, "_Finished"]) -> JsonObject:
  """Return what must be equal for results to be compared."""
  data = finished[stages_lib.DATA].stage
  assert isinstance(data, DataStage), "the stage of that name holds the data"
  left_out = ("run", "models", "label", "stream", "evaluations_per_call")
  described = {}
  for name, entry in config.attacks.items():
    fields = records.to_json(entry)
    if isinstance(entry, AttackEntry):
      for field in ("mixture", "first_mixture"):
        weights = config.mixtures.get(fields.get(field) or "", {})
        if weights:
          fields[field] = {split: w for split, w in weights.items() if w}
    described[name] = {k: v for k, v in fields.items() if k not in left_out}
  return {
    "data": _without_paths(data.data),
    "model": records.to_json(config.model),
    "attacks": described,
  }


def _without_paths(data: Any) -> Any:
  """Return data without where they are: what they hold is among them."""
  if not isinstance(data, Mapping):
    return data
  left_out = {"paths", "directory"}
  if "tokenizer_content" in data:
    left_out.add("tokenizer")
  return {k: _without_paths(v) for k, v in data.items() if k not in left_out}


@dataclasses.dataclass(frozen=True)
class _Finished:
  """A stage with what it left."""

  stage: Stage
  outcome: JsonObject
  directory: str


def _read_stages(
  workdir: files.Path, directories: Mapping[str, str]
) -> dict[str, _Finished]:
  """Return the finished stages of one seed by name."""
  finished = {}
  for name, directory in directories.items():
    path = workdir / "stages" / directory
    stage = stages_lib.from_json(
      files.read_record(path / "config.json"), path=str(path / "config.json")
    )
    outcome = files.read_record(path / "done.json")
    finished[name] = _Finished(stage, outcome, directory)
  return finished


def _items(by_seed: Mapping[int, Mapping[str, _Finished]]) -> dict[str, int]:
  """Return how many items each metric is of, as the data stage counted them."""
  first = next(iter(by_seed.values()))
  return dict(first[stages_lib.DATA].outcome.get("items", {}))


def _apart(by_seed: Mapping[int, Mapping[str, _Finished]]) -> tuple[Apart, ...]:
  """Return what each data stage compared; stages of before have nothing."""
  by_directory: dict[str, Apart] = {}
  for seed, finished in by_seed.items():
    data = finished[stages_lib.DATA]
    if "apart" not in data.outcome:
      continue
    read = records.from_json(Apart, data.outcome["apart"], path=data.directory)
    before = by_directory.get(data.directory)
    seeds = (*(before.seeds if before else ()), seed)
    by_directory[data.directory] = records.replaced(
      read, directory=data.directory, seeds=seeds
    )
  return tuple(by_directory.values())


def _runs(
  config: RunConfig, seed: int, finished: Mapping[str, _Finished], metric: Metric
) -> dict[str, ModelRun]:
  """Return the models of one seed."""
  plan = [each.stage for each in finished.values()]
  outcomes = {name: each.outcome for name, each in finished.items()}
  costs = {m.name: cost(plan, outcomes, m.name) for m in lineages.models(plan)}
  filtered = costs.get(config.references.filtered or "")
  more_is_worse = higher_is_worse(records.to_json(metric))
  relearned: dict[str, dict[str, Relearning]] = {name: {} for name in costs}
  for (target, attack), seeds in _attacks(finished).items():
    relearned[target][attack] = attack_results.relearning(
      [each.outcome for each in seeds],
      directories=[each.directory for each in seeds],
      higher_is_worse=more_is_worse,
    )
  base = config.references.base
  return {
    model.name: ModelRun(
      seed=seed,
      workdir=None,
      directory=finished[model.name].directory,
      before=_scores(outcomes[model.name]["scores"]),
      attacks=relearned[model.name],
      compute=_compared(costs[model.name], filtered),
      labels=labels.budget(plan, outcomes, model.name, base=base),
      stopped=_stopped(plan, outcomes, model),
      ablation=_ablation(outcomes, model),
    )
    for model in lineages.models(plan)
  }


def cost(
  plan: Sequence[Stage], outcomes: Mapping[str, JsonObject], name: str
) -> Compute:
  """Return the cost of making a model, from done.json of the stages by name.

  If a teacher predicts all rows once, only rows that were read on the way to this
  model count, each once.
  """
  made = lineages.lineage(plan, name)
  costs = [
    _predicted(stage, made, outcomes)
    if isinstance(stage, PredictionsStage)
    else Compute(**outcomes[stage.name]["compute"])
    for stage in made
  ]
  return sum(costs, start=Compute())


def _predicted(
  stage: PredictionsStage, made: Sequence[Stage], outcomes: Mapping[str, JsonObject]
) -> Compute:
  """Return the cost of predicting each row once that the students among `made` read.

  A student reads a split's rows in a new order each time, all before one again.
  """
  read = collections.Counter[str]()
  sizes = outcomes[stages_lib.DATA]["rows"]
  for student in made:
    if isinstance(student, TrainStage) and student.predictions == stage.name:
      for split, count in _rows_read(student, outcomes).items():
        read[split] += count
  rows = sum(min(count, sizes[split]) for split, count in read.items())
  return Compute(flops=rows * forward_flops(stage.model, stage.length))


def _rows_read(stage: TrainStage, outcomes: Mapping[str, JsonObject]) -> dict[str, int]:
  """Return how many rows of each split a stage has read, at most; each counts once."""
  read = collections.Counter[str]()
  updates = outcomes[stage.name]["updates"]
  selection = outcomes.get(stage.selection or "", {})
  for part, given in stage.parts.items():
    weights = given
    if selection:
      weights = selected_weights(given, selection["rows"], selection[SELECTED])
    share = updates * stage.rows[part] / math.fsum(weights.values())
    for name, weight in weights.items():
      split, _, which = name.partition(":")
      count = math.ceil(share * weight)
      if selection and which:
        count = min(count, selection[which][split])
      read[split] += count
  return dict(read)


def _compared(cost: Compute, filtered: Compute | None) -> Cost:
  fraction = cost.flops / filtered.flops if filtered and filtered.flops else None
  return Cost(**dataclasses.asdict(cost), fraction_of_filtered=fraction)


def _stopped(plan: Sequence[Stage], outcomes: Mapping[str, JsonObject], model: Model):
  outcome = outcomes[lineages.trained(plan, model).name]
  return Stopped(reason=outcome["reason"], updates=outcome["updates"])


def _ablation(outcomes: Mapping[str, JsonObject], model: Model) -> Ablation | None:
  if not isinstance(model, AblateStage):
    return None
  return Ablation(
    before=_scores(outcomes[model.name]["whole"]),
    mlp_units=model.reserve.mlp_units,
    kv_heads=model.reserve.kv_heads,
  )


def _scores(scores: Mapping[str, Score]) -> Scores:
  by_task = {n: score for n, score in scores.items() if n not in ("retain", "forget")}
  return Scores(retain=scores["retain"], forget=scores["forget"], by_task=by_task)


def _attacks(
  finished: Mapping[str, _Finished],
) -> dict[tuple[str, str], list[_Finished]]:
  """Return the seeds of each attack on each model."""
  by_key: dict[tuple[str, str], list[_Finished]] = {}
  for each in finished.values():
    if isinstance(each.stage, Against):
      key = each.stage.target, each.stage.attack
      by_key.setdefault(key, []).append(each)
  return by_key


def _model(
  config: RunConfig, name: str, recipe_digest: str, runs: Sequence[ModelRun]
) -> ModelResult:
  recipe = config.models[name]
  method = objectives.method(recipe.objective, recipe.options)
  look = recipe.look
  shown = look.label
  if shown is None and method.is_unlearning:
    shown = method.label
  if shown is not None and recipe.swept:
    shown = " ".join([shown, *(_value(*item) for item in recipe.swept.items())])
  return ModelResult(
    label=shown or name,
    color=look.color or (method.color if method.is_unlearning else None),
    marker=look.marker or (method.marker if method.is_unlearning else None),
    family=recipe.family,
    swept=recipe.swept,
    phase=recipe.phase,
    recipe=recipe_digest,
    runs=tuple(runs),
  )


def _value(path: str, value: object) -> str:
  """Return a swept field as it is read: "α = 0.3"."""
  name = path.rpartition(".")[2]
  shown = f"{value:g}" if isinstance(value, int | float) else str(value)
  return f"{ {'alpha': 'α', 'beta': 'β'}.get(name, name) } = {shown}"
