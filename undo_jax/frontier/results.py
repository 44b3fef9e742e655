"""results.json: what runs came to, as records that are read from run directories.

Nothing here trains or holds a model: `read` takes the plan and the finished stages of a
workdir, `merge` puts several workdirs together. Numbers are the same, bit for bit,
whenever a run is repeated or resumed.
"""

from collections.abc import Collection, Mapping, Sequence
import dataclasses
import math
from typing import Any, Literal

import numpy as np

from undo_jax import attacks, objectives, tasks
from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier import labels
from undo_jax.frontier.compute import Compute
from undo_jax.frontier.labels import LabelBudget
from undo_jax.frontier.robustness import worst_case, worst_within
from undo_jax.plan import stages as stages_lib
from undo_jax.plan.config import Phase, References, Report, RunConfig
from undo_jax.plan.stages import AblateStage, AttackStage, Model, Stage
from undo_jax.utils import files, records
from undo_jax.utils.errors import ConfigError
from undo_jax.utils.records import record
from undo_jax.utils.types import JsonObject

SCHEMA = 3
Score = float | None  # None: not finite, the member has diverged.


@record
class Metric:
  """What a score measures."""

  name: str
  unit: str
  range: tuple[float | None, float | None]
  higher_is: Literal["more capable", "less capable"]


@record
class Scores:
  """Of one model before an attack."""

  retain: Score
  forget: Score
  by_task: dict[str, Score]


@record
class Relearning:
  """Of one model under one attack: A seeds of it, R learning rates, S evaluated steps.

  The worst case within a step is over seeds, rates and all steps up to it: an attacker
  may stop early.
  """

  learning_rates: tuple[float, ...]  # [R]
  steps: tuple[int, ...]  # [S], from 0: before the first update.
  forget: tuple[tuple[tuple[Score, ...], ...], ...]  # [A][R][S]
  retain_of_all: tuple[tuple[tuple[Score, ...], ...], ...]  # [A][R][S]
  worst_forget: tuple[float, ...]  # [S], within each step, for the attacker's good.
  forget_at_step: tuple[float, ...]  # [S], likewise at that step alone.
  worst_learning_rate: tuple[float, ...]  # [S], which of them it was within each step.
  retain: tuple[Score, ...]  # [S], where the forget score is the worst.
  by_task: dict[str, tuple[Score, ...]]  # [S], likewise.
  forget_by_learning_rate: tuple[tuple[Score, ...], ...]  # [R][S], mean over seeds.
  retain_by_learning_rate: tuple[tuple[Score, ...], ...]  # [R][S], likewise.
  tokens_per_update: int  # That an attacker with one learning rate reads.
  flops_per_update: int  # Likewise.


@record
class Cost:
  """What it took to make a model: its own training and that of all it is made from.

  Models that do not count (the base, as a rule) and evaluation are not in it.
  """

  updates: int  # Optimizer steps.
  tokens: int  # Positions that went through a trained model.
  flops: int  # Multiplications and additions of all passes.
  fraction_of_filtered: float | None  # Of data filtering's FLOPs, where there is one.


@record
class Stopped:
  """How a model's training ended."""

  reason: str
  updates: int


@record
class Ablation:
  """Of a model whose reserved units were ablated: how it was before."""

  before: Scores
  mlp_units: int  # Of each layer.
  kv_heads: int


@record
class ModelRun:
  """One model of one seed."""

  seed: int
  directory: str  # Below WORKDIR/stages.
  before: Scores
  attacks: dict[str, Relearning]
  compute: Cost
  labels: LabelBudget
  stopped: Stopped
  ablation: Ablation | None


@record
class ModelResult:
  """A row of the table of models, in the order of the config."""

  label: str
  color: str | None  # Or, of a family, the colormap of its members.
  marker: str | None
  family: str | None  # The entry whose sweep it is a member of.
  swept: JsonObject  # The sweep's values by field.
  phase: Phase
  runs: tuple[ModelRun, ...]  # In the order of the seeds.


@record
class Adversary:
  """A row of the table of attacks."""

  label: str
  trains: str  # A sentence's subject: what its members train.
  noise: float  # Of the attacked model, alpha; 0: none.
  paths: tuple[str, ...]  # Path regexes of what is trained, where that is a part.


@record
class Results:
  """All that the page is made from."""

  schema: Literal[3]
  task: str
  seeds: tuple[int, ...]
  # Of "retain", "forget" and, where what the attacker reads is scored apart,
  # "forget_attacked", which is among the scores by task.
  metrics: dict[str, Metric]
  items: dict[str, int]  # How many are scored for each metric, where they are counted.
  references: References
  report: Report
  attacks: dict[str, Adversary]
  models: dict[str, ModelResult]


def to_json(results: Results) -> JsonObject:
  """Returns the content of results.json."""
  return records.to_json(results)


def from_json(value: Mapping[str, object], *, path: str) -> Results:
  """Returns the results of a results.json; raises ConfigError on another schema."""
  if value.get("schema") != SCHEMA:
    raise ConfigError(
      f"{path}: expected results of schema {SCHEMA}, got {value.get('schema')!r}; they "
      "are of another version of undo_jax: run it again in a new directory"
    )
  return records.from_json(Results, value, path=path)


# ---- From run directories.


def write_plan(workdir: files.Path, plans: Mapping[int, Mapping[str, str]]) -> None:
  """Writes plan.json: for each seed the directory of each stage, in their order."""
  seeds = [{"seed": seed, "stages": dict(plan)} for seed, plan in plans.items()]
  content = {"version": stages_lib.VERSION, "seeds": seeds}
  files.update_json(workdir / "plan.json", content)


def read(workdir: files.Path, config: RunConfig) -> Results:
  """Returns the results of a finished run from its directory.

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
  return Results(
    schema=SCHEMA,
    task=config.task,
    seeds=tuple(runs),
    metrics=metrics,
    items=_items(by_seed),
    references=config.references,
    report=config.report,
    attacks={name: _adversary(entry) for name, entry in config.attacks.items()},
    models={
      name: _model(config, name, [of_seed[name] for of_seed in runs.values()])
      for name in config.models
      if name in names
    },
  )


@dataclasses.dataclass(frozen=True)
class _Finished:
  """A stage with what it left."""

  stage: Stage
  outcome: JsonObject
  directory: str


def _read_stages(
  workdir: files.Path, directories: Mapping[str, str]
) -> dict[str, _Finished]:
  """Returns the finished stages of one seed by name."""
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
  """Returns how many items each metric is of, as the data stage counted them."""
  first = next(iter(by_seed.values()))
  return dict(first[stages_lib.DATA].outcome.get("items", {}))


def _runs(
  config: RunConfig, seed: int, finished: Mapping[str, _Finished], metric: Metric
) -> dict[str, ModelRun]:
  """Returns the models of one seed."""
  plan = [each.stage for each in finished.values()]
  outcomes = {name: each.outcome for name, each in finished.items()}
  costs = {m.name: _cost(plan, outcomes, m.name) for m in stages_lib.models(plan)}
  filtered = costs.get(config.references.filtered or "")
  more_is_worse = higher_is_worse(records.to_json(metric))
  relearned: dict[str, dict[str, Relearning]] = {name: {} for name in costs}
  for (target, attack), seeds in _attacks(finished).items():
    relearned[target][attack] = relearning(seeds, higher_is_worse=more_is_worse)
  base = config.references.base
  return {
    model.name: ModelRun(
      seed=seed,
      directory=finished[model.name].directory,
      before=_scores(outcomes[model.name]["scores"]),
      attacks=relearned[model.name],
      compute=_compared(costs[model.name], filtered),
      labels=labels.budget(plan, outcomes, model.name, base=base),
      stopped=_stopped(plan, outcomes, model),
      ablation=_ablation(outcomes, model),
    )
    for model in stages_lib.models(plan)
  }


def _cost(
  plan: Sequence[Stage], outcomes: Mapping[str, JsonObject], name: str
) -> Compute:
  parents = stages_lib.lineage(plan, name)
  costs = [Compute(**outcomes[parent.name]["compute"]) for parent in parents]
  return sum(costs, start=Compute())


def _compared(cost: Compute, filtered: Compute | None) -> Cost:
  fraction = cost.flops / filtered.flops if filtered and filtered.flops else None
  return Cost(**dataclasses.asdict(cost), fraction_of_filtered=fraction)


def _stopped(plan: Sequence[Stage], outcomes: Mapping[str, JsonObject], model: Model):
  outcome = outcomes[stages_lib.trained(plan, model).name]
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
) -> dict[tuple[str, str], list[JsonObject]]:
  """Returns what the seeds of each attack on each model left."""
  found: dict[tuple[str, str], list[JsonObject]] = {}
  for each in finished.values():
    if isinstance(each.stage, AttackStage):
      key = each.stage.target, each.stage.attack
      found.setdefault(key, []).append(each.outcome)
  return found


def relearning(outcomes: Sequence[JsonObject], *, higher_is_worse: bool) -> Relearning:
  """Returns a model under an attack from what each seed of the attack left.

  Args:
    outcomes: done.json of each: learning_rates [R], steps [S], scores [R][S] by name,
      retain and forget among them, and the cost of an update.
    higher_is_worse: whether a higher forget score means more capability.
  """
  first = outcomes[0]
  scores = {
    name: np.stack([_matrix(outcome["scores"][name]) for outcome in outcomes])
    for name in first["scores"]
  }
  forget_AxRxS = scores["forget"]
  seeds, rates, steps = forget_AxRxS.shape
  flat = forget_AxRxS.reshape(seeds * rates, steps)
  worst = worst_within(flat, higher_is_worse=higher_is_worse)
  at_step_S, _ = worst_case(flat, higher_is_worse=higher_is_worse)
  at_worst = {
    name: _plain(values.reshape(flat.shape)[worst.member_S, worst.step_S])
    for name, values in scores.items()
  }
  learning_rates = np.asarray(first["learning_rates"])
  cost = first["cost"]
  return Relearning(
    learning_rates=tuple(first["learning_rates"]),
    steps=tuple(first["steps"]),
    forget=_nested(forget_AxRxS),
    retain_of_all=_nested(scores["retain"]),
    worst_forget=tuple(worst.score_S.tolist()),
    forget_at_step=tuple(at_step_S.tolist()),
    worst_learning_rate=tuple(learning_rates[worst.member_S % rates].tolist()),
    retain=at_worst["retain"],
    by_task={n: at_worst[n] for n in at_worst if n not in ("retain", "forget")},
    forget_by_learning_rate=tuple(map(_plain, forget_AxRxS.mean(axis=0))),
    retain_by_learning_rate=tuple(map(_plain, scores["retain"].mean(axis=0))),
    tokens_per_update=cost["tokens"],
    flops_per_update=cost["flops"],
  )


def _matrix(values: Sequence[Sequence[Score]]) -> np.ndarray:
  """Returns scores [R, S], NaN where a member has diverged."""
  return np.array([[math.nan if v is None else v for v in row] for row in values])


def _nested(values_AxRxS: np.ndarray) -> tuple[tuple[tuple[Score, ...], ...], ...]:
  return tuple(tuple(map(_plain, of_seed)) for of_seed in values_AxRxS)


def _plain(values: np.ndarray) -> tuple[Score, ...]:
  return tuple(v if math.isfinite(v) else None for v in values.tolist())


def _adversary(entry) -> Adversary:
  attack = attacks.REGISTRY.get(entry.adversary)
  return Adversary(
    label=entry.label or attack.label,
    trains=attack.describe(entry.options),
    noise=entry.noise.alpha,
    paths=tuple(pattern for pattern, _ in entry.trainable),
  )


def _model(config: RunConfig, name: str, runs: Sequence[ModelRun]) -> ModelResult:
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
    runs=tuple(runs),
  )


def _value(path: str, value: object) -> str:
  """Returns a swept field as it is read: "α = 0.3"."""
  name = path.rpartition(".")[2]
  shown = f"{value:g}" if isinstance(value, int | float) else str(value)
  return f"{ {'alpha': 'α', 'beta': 'β'}.get(name, name) } = {shown}"


def merge(runs: Mapping[str, Results]) -> Results:
  """Returns the results of workdirs whose configs differ in their seeds alone, as one.

  Args:
    runs: results by what an error calls them.

  Raises:
    ConfigError: if a seed is there twice, or they differ in more; names the field.
  """
  (first_name, first), *others = runs.items()
  seeds = dict.fromkeys(first.seeds, first_name)
  for name, other in others:
    for seed in other.seeds:
      if seed in seeds:
        raise ConfigError(
          f"expected runs of different seeds, got seed {seed} in {seeds[seed]} and "
          f"{name}; run one with another --config.seeds"
        )
      seeds[seed] = name
    _check_alike(_form(first), _form(other), (first_name, name), "")
  order = sorted(seeds)
  return records.replaced(
    first,
    seeds=tuple(order),
    models={name: _joined(name, [*runs.values()], order) for name in first.models},
  )


def _joined(
  name: str, results: Collection[Results], order: Sequence[int]
) -> ModelResult:
  runs = {run.seed: run for each in results for run in each.models[name].runs}
  first = next(iter(results)).models[name]
  return records.replaced(first, runs=tuple(runs[seed] for seed in order))


def _form(results: Results) -> JsonObject:
  """Returns what runs of the same config share, whatever their seeds."""
  form: JsonObject = {**to_json(results), "seeds": None}
  for model in form["models"].values():
    model["runs"] = [
      {
        name: {key: relearned[key] for key in ("learning_rates", "steps")}
        for name, relearned in run["attacks"].items()
      }
      for run in model["runs"][:1]
    ]
  return form


def _check_alike(first: Any, second: Any, names: tuple[str, str], path: str) -> None:
  """Raises ConfigError with the first place where two trees differ."""
  both_maps = isinstance(first, Mapping) and isinstance(second, Mapping)
  if both_maps and list(first) == list(second):
    for key in first:
      _check_alike(first[key], second[key], names, f"{path}/{key}")
    return
  one, other = (list(v) if isinstance(v, Mapping) else v for v in (first, second))
  if one != other:
    raise ConfigError(
      f"expected runs that differ in their seeds alone, but {path[1:]} is {one} in "
      f"{names[0]} and {other} in {names[1]}; run both with the same config"
    )
