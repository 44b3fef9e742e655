"""Runs the stages of a plan in a run directory, resuming what is unfinished.

    WORKDIR/config.json command.txt environment.json
    WORKDIR/stages/<name>-<identity>/ config.json metrics.jsonl tensorboard/
        checkpoints/ done.json
    WORKDIR/results.json report.html figures/

done.json is written last: a stage that has it is finished and only read. All processes
of a run are here at once; what is no array, the first one writes (see processes.py).
"""

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import functools
import logging
import math
import pathlib
import tempfile
from typing import Any

import jax
from jax.sharding import Mesh
import numpy as np

from undo_jax import (
  files,
  objectives,
  preemption,
  processes,
  programs,
  sources,
  streams,
)
from undo_jax import settings as settings_lib
from undo_jax.data import labels, pipeline
from undo_jax.estimation import chips
from undo_jax.frontier import compute
from undo_jax.frontier.robustness import higher_is_worse, worst_case
from undo_jax.models.config import ModelConfig
from undo_jax.objectives import rmu, routed
from undo_jax.stages import Stage, identities, part_rows
from undo_jax.training import loop, sharding, stop_rules
from undo_jax.training.checkpointing import Checkpoints, load_params
from undo_jax.training.meter import Meter, matmul_flops_per_second
from undo_jax.training.profiling import Profiler
from undo_jax.training.writers import NoWriter, Progress, StageWriter, Writer
from undo_jax.types import ConfigError, Params

LOGGER = logging.getLogger("undo_jax")


@dataclasses.dataclass(frozen=True)
class Run:
  """Where and how stages run, which changes no result, and the plan."""

  workdir: files.Path
  mesh: Mesh
  checkpoint_every: int  # Updates.
  evaluation_rows: int  # Problems in one forward pass.
  replicas_at_once: int | None  # Of an attack; None: all.
  stages: tuple[Stage, ...]
  given: Mapping[str, sources.Source] = dataclasses.field(default_factory=dict)
  max_loss: float = math.inf  # Beyond it training has diverged.
  profile_steps: tuple[int, int] | None = None  # Updates of each stage to trace.

  @functools.cached_property
  def directories(self) -> dict[str, files.Path]:
    """The directory of each stage."""
    root = self.workdir / "stages"
    found = identities(list(self.stages))
    return {name: root / f"{name}-{identity}" for name, identity in found.items()}

  def done(self, name: str) -> dict[str, Any] | None:
    """Returns what a finished stage left, or None."""
    path = self.directories[name] / "done.json"
    return files.read_json(path) if path.exists() else None


def run_stages(run: Run) -> dict[str, dict[str, Any]]:
  """Runs every unfinished stage in order; returns their done.json by name."""
  kinds: dict[str, Callable[..., dict[str, Any]]] = {
    "data": _run_data,
    "given": _run_given,
    "train": _run_training,
    "ablate": _run_ablation,
    "attack": _run_attack,
  }
  # What the first process sees is what holds: the others may see a file later.
  names = [stage.name for stage in run.stages]
  outcomes = processes.on_first(
    "done", lambda: {name: run.done(name) for name in names}
  )
  for number, stage in enumerate(run.stages, start=1):
    if outcomes[stage.name] is not None:
      continue
    directory = run.directories[stage.name]
    if processes.is_first():
      files.write_json(directory / "config.json", _describe(run, stage))
    title = f"[{number}/{len(run.stages)}] {stage.name}"
    outcome = kinds[stage.kind](run, stage, directory, title)
    if processes.is_first():
      files.write_json(directory / "done.json", outcome)
    processes.wait(f"done_{stage.name}")  # Later stages read it, in every process.
    LOGGER.info("%s: done. %s", title, summary(outcome))
    outcomes[stage.name] = outcome
    preemption.check()
  return outcomes


def _describe(run: Run, stage: Stage) -> dict[str, Any]:
  """Returns a stage's config.json: what determines it, and where its inputs are."""
  inputs = {role: run.directories[name].name for role, name in stage.inputs.items()}
  described = {**dataclasses.asdict(stage), "input_directories": inputs}
  if stage.name in run.given:
    described["path"] = str(run.given[stage.name].path)
  return described


# MARK: data


def _run_data(run, stage, directory, title):
  """Makes the rows and the evaluation problems of the setting, in one process."""
  del run
  LOGGER.info("%s: reading, tokenizing and packing", title)
  settings = stage.settings
  setting = settings_lib.get(settings["setting"])

  def prepare(local):
    return setting.prepare(settings["data"], settings["seeds"], local, title)

  def prepare_for_store():
    with tempfile.TemporaryDirectory() as local:
      found = prepare(pathlib.Path(local))
      files.copy_tree(pathlib.Path(local), directory)
      return found

  if files.is_remote(directory):
    return processes.on_first("data", prepare_for_store)
  return processes.on_first("data", lambda: prepare(directory))


def _problems(run: Run, stage: Stage) -> tuple[tuple[str, ...], Any]:
  """Returns the evaluation tasks and their problems on the devices."""
  data = next(s for s in run.stages if s.name == stage.inputs["data"])
  setting = settings_lib.get(data.settings["setting"])
  directory = files.here(run.directories[data.name])
  tasks, arrays = setting.problems(
    data.settings["data"], data.settings["seeds"], directory
  )
  where = sharding.rows_or_replicated(arrays, run.mesh)
  return tasks, sharding.put_whole(arrays, where)


def _parts(run: Run, stage: Stage, *, stream: str, batch_size: int):
  """Yields for each part of a batch its name, its splits and how they are mixed."""
  data = next(s for s in run.stages if s.name == stage.inputs["data"])
  setting = settings_lib.get(data.settings["setting"])
  directory = files.here(run.directories[data.name])
  seed = streams.integer(stage.settings["seeds"][stream], stream)
  sizes = part_rows(stage.settings, batch_size)

  def rows(name):
    split = labels.split_of(name)
    found = setting.source(data.settings["data"], directory, split)
    return _labelled(found, name, stage.settings)

  for index, (name, weights) in enumerate(stage.settings["parts"].items()):
    splits = {split: rows(split) for split in weights}
    how = {
      "weights": list(weights.values()),
      "seed": seed + 1000 * index,
      "batch_size": sizes[name],
    }
    yield name, splits, how


def _batches(run: Run, stage: Stage, *, stream: str, batch_size: int):
  """Returns the batches of a stage: one mixture, or several parts by name.

  Of each batch this process reads the rows of its own devices.
  """
  shards, num_shards = sharding.batch_shards(run.mesh)
  made = {
    name: pipeline.mixture(
      list(splits.values()), shards=shards, num_shards=num_shards, **how
    )
    for name, splits, how in _parts(run, stage, stream=stream, batch_size=batch_size)
  }
  return made["batch"] if list(made) == ["batch"] else pipeline.paired(made)


def _describe_batch(run: Run, stage: Stage, stream: str, step: int) -> str:
  """Returns which rows of which splits the batch of a training step holds."""
  size = stage.settings["batch_size"]
  return "; ".join(
    f"{split} rows {', '.join(map(str, rows))}"
    for _, splits, how in _parts(run, stage, stream=stream, batch_size=size)
    for split, rows in pipeline.rows_of(splits, step, **how).items()
  )


def _labelled(rows: Any, name: str, settings: Mapping[str, Any]) -> Any:
  """Returns those rows that `name` says, see data.labels, with sources if routed."""
  told = settings.get("labels")
  if told is None:
    return rows
  split, _, which = name.partition(":")
  if which:
    return labels.Chosen(rows, told["share"], which)
  if not settings["objective"].startswith("routed"):
    return rows
  source = routed.FORGET if split in told["forget"] else routed.RETAIN
  return labels.WithSource(
    rows, told["share"], labelled=source, otherwise=routed.UNLABELLED
  )


def _scorer(run: Run, stage: Stage, model: ModelConfig, tasks: tuple[str, ...]):
  """Returns the compiled `(params, problems) -> scores` of the stage's setting."""
  setting = stage.settings["setting"]
  return programs.evaluate(model, run.mesh, setting, tasks, run.evaluation_rows)


# MARK: given models


def _run_given(run, stage, directory, title):
  """Scores a model that came from a checkpoint."""
  del directory
  LOGGER.info("%s: scoring %s", title, run.given[stage.name].path)
  model = ModelConfig(**stage.settings["model"])
  tasks, problems = _problems(run, stage)
  score = _scorer(run, stage, model, tasks)
  return {
    "scores": _floats(score(_load(run, stage.name, model), problems)),
    "updates": 0,
    "reason": "given",
    "compute": dataclasses.asdict(compute.Compute()),
  }


# MARK: training


def _run_training(run, stage, directory, title):
  """Trains one model: pretraining, unlearning and distillation alike."""
  settings = stage.settings
  model = ModelConfig(**settings["model"])
  program = programs.training_of(settings, run.mesh)
  data_stream = "distill_data" if "distill_data" in settings["seeds"] else "data"
  batches = _batches(run, stage, stream=data_stream, batch_size=settings["batch_size"])
  tasks, problems = _problems(run, stage)
  _check_stop_rules(run, tasks)
  _check_labels(run)
  score = _scorer(run, stage, model, tasks)
  checkpoints = Checkpoints(directory / "checkpoints")
  start = checkpoints.latest()
  if start is None:
    state = program.create(_initial_params(run, stage, model))
  else:
    LOGGER.info("%s: resuming after update %d", title, start)
    state = loop.restore(checkpoints, start, program.abstract)
  stop = settings["stop"]
  num_steps = settings["optimizer"]["num_steps"]
  mirror = files.Mirror(directory)
  writer = _writer(mirror, start or 0)
  profiler = Profiler(mirror.local / "profile", run.profile_steps)
  progress = Progress(title, total=num_steps, initial=start or 0)
  try:
    with preemption.deferred():
      result = loop.train(
        program.step,
        state,
        _frozen(run, stage, model),
        pipeline.iterator(batches, start=start or 0),
        streams.key(settings["seeds"][data_stream], stage.name),
        schedule=loop.Schedule(
          num_steps=num_steps,
          checkpoint_every=run.checkpoint_every,
          evaluate_every=stop and stop["evaluate_every"],
          max_loss=run.max_loss,
        ),
        put=functools.partial(sharding.put_batch, mesh=run.mesh),
        evaluate=_evaluation(run, stage, lambda params: score(params, problems)),
        should_stop=_stop_rule(run, stage),
        checkpoints=checkpoints,
        writer=writer,
        progress=progress,
        meter=_meter(run, _cost(stage, model, updates=1)),
        profiler=profiler,
        describe_batch=functools.partial(_describe_batch, run, stage, data_stream),
      )
  finally:
    progress.close()
    profiler.close()
    writer.close()
    checkpoints.close()
  cost = _cost(stage, model, updates=result.updates)
  return {
    "scores": result.scores,
    "updates": result.updates,
    "reason": result.reason,
    "compute": dataclasses.asdict(cost),
  }


def _writer(mirror: files.Mirror, start: int) -> Writer:
  """Returns the writer of a stage that goes on after so many updates."""
  return StageWriter(mirror, resume_step=start) if processes.is_first() else NoWriter()


def _cost(stage: Stage, model: ModelConfig, *, updates: int) -> compute.Compute:
  """Returns what so many updates of a stage cost."""
  settings = stage.settings
  return compute.training(
    model,
    objectives.method(settings["objective"], settings["options"]),
    updates=updates,
    batch_size=settings["batch_size"],
    length=settings["length"],
    gradients=2 if "rho" in settings else 1,
  )


def _meter(run: Run, cost: compute.Compute) -> Meter:
  """Returns the meter of a stage, of the cost of one update."""
  peak = chips.peak(list(run.mesh.devices.flat))
  if peak is None and jax.default_backend() == "cpu":
    peak = matmul_flops_per_second() * jax.process_count()
  return Meter(tokens=cost.tokens, flops=cost.flops, peak=peak)


# Before the scores that a model of reserved units has once they are ablated.
_ABLATED = "ablated_"


def _evaluation(run: Run, stage: Stage, score: Callable) -> Callable:
  """Returns `params -> scores`; of a routed model also of what ablation leaves."""
  ablate = _ablation(run, stage)

  def evaluate(params):
    scores = _floats(score(params))
    if ablate is None:
      return scores
    ablated = _floats(score(ablate(params)[0]))
    return scores | {_ABLATED + name: value for name, value in ablated.items()}

  return evaluate


def _ablation(run: Run, stage: Stage) -> Callable | None:
  """Returns programs.ablate of a stage with reserved units, or else None."""
  routing = stage.settings.get("routing")
  if routing is None:
    return None
  model = ModelConfig(**stage.settings["model"])
  return programs.ablate(model, run.mesh, routing["mlp_units"], routing["kv_heads"])


def _run_ablation(run, stage, directory, title):
  """Makes the reserved units of a routed model zero, and scores what is left."""
  LOGGER.info("%s: ablating the reserved units", title)
  model = ModelConfig(**stage.settings["model"])
  whole = stage.inputs["model"]
  ablate = _ablation(run, stage)
  assert ablate is not None, "an ablation's settings say what was reserved"
  params, is_ablated = ablate(_load(run, whole, model))
  assert is_ablated, "every reserved entry is zero"
  checkpoints = Checkpoints(directory / "checkpoints")
  checkpoints.save(0, params, {"step": jax.numpy.zeros((), int)})
  checkpoints.close()
  tasks, problems = _problems(run, stage)
  before = run.done(whole)
  assert before is not None, "the routed model comes first in the plan"
  return {
    "scores": _floats(_scorer(run, stage, model, tasks)(params, problems)),
    "whole": {name: before["scores"][name] for name in _names(tasks)},
    "updates": 0,
    "reason": "ablated",
    "compute": dataclasses.asdict(compute.Compute()),
  }


def _initial_params(run: Run, stage: Stage, model: ModelConfig) -> Params:
  """Returns where training starts.

  1. A stage with an `init` input starts from that stage's model,
  2. moved toward random initialization, as far as it is trained, if the settings
     have noise;
  3. any other starts from fresh weights: stream `init`, or `noise` for the random
     student, which stands in for a model noised to the end.
  """
  seeds, noise = stage.settings["seeds"], stage.settings["noise"]
  if "init" not in stage.inputs:
    name = "init" if "init" in seeds else "noise"
    return programs.initialize(model, run.mesh)(streams.key(seeds[name], name))
  params = _load(run, stage.inputs["init"], model)
  if noise is None:
    return params
  key = streams.key(seeds["noise"], "noise")
  trainable = programs.trainable(stage.settings["optimizer"])
  perturb = programs.noise(model, run.mesh, trainable)
  return perturb(params, key, noise["alpha"], noise["beta"])


def _frozen(run: Run, stage: Stage, model: ModelConfig) -> dict[str, Any]:
  """Returns what the objective reads: the roles it names, from the inputs."""
  frozen: dict[str, Any] = {}
  settings = stage.settings
  for name in objectives.method(settings["objective"], settings["options"]).frozen:
    if name == "direction":
      key = streams.key(stage.settings["seeds"]["noise"], "direction")
      direction_D = rmu.random_direction(key, model.width)
      where = sharding.replicated(run.mesh)
      frozen[name] = sharding.put_whole(direction_D, where)
    else:
      params = _load(run, stage.inputs[name], model)
      frozen[name] = programs.freeze(model, run.mesh)(params)
  return frozen


def _load(run: Run, name: str, model: ModelConfig) -> Params:
  abstract = programs.abstract_params(model, run.mesh)
  if name in run.given:
    return sources.load(run.given[name], abstract)
  return load_params(run.directories[name] / "checkpoints", abstract)


def _stop_rule(run: Run, stage: Stage) -> Callable[[dict[str, float]], bool] | None:
  """Returns whether a student has recovered its teacher, or None: a fixed budget."""
  settings = stage.settings["stop"]
  if settings is None or not settings.get("scores", ("retain",)):
    return None
  outcome = run.done(stage.inputs["teacher"])
  assert outcome is not None, "the teacher's stage comes first in the plan"
  setting = settings_lib.get(stage.settings["setting"])
  rule = stop_rules.StopRule(
    tolerance=settings["tolerance"],
    relative=settings["relative"],
    scores=tuple(settings.get("scores", ("retain",))),
  )
  falling = [
    name
    for name in rule.scores
    if name in getattr(setting, "FALLING", ())
    or not higher_is_worse(setting.METRICS.get(name, setting.METRICS["retain"]))
  ]
  recovered = functools.partial(
    stop_rules.recovered, rule, teacher=outcome["scores"], falling=falling
  )
  if "routing" not in stage.settings:
    return recovered

  def left(scores):  # What ablation leaves must recover, not what it removes.
    return {
      name.removeprefix(_ABLATED): value
      for name, value in scores.items()
      if name.startswith(_ABLATED)
    }

  return lambda scores: recovered(left(scores))


def _check_stop_rules(run: Run, tasks: tuple[str, ...]) -> None:
  """Raises ConfigError if a later stage's stop rule asks for a score there is not."""
  known = ("retain", "forget", *tasks)
  for stage in run.stages:
    for name in (stage.settings.get("stop") or {}).get("scores", ()):
      if name not in known:
        raise ConfigError(
          f"config.distill.stop.scores: expected names among {', '.join(known)}, got "
          f"{name!r}; set it by --config.distill.stop.scores=VALUE"
        )


def _check_labels(run: Run) -> None:
  """Raises ConfigError if a later stage finds no row of a label it reads."""
  data = run.done("data")
  for stage in run.stages:
    told = stage.settings.get("labels")
    if told is not None and data is not None:
      for weights in stage.settings["parts"].values():
        labels.check(data["rows"], weights, told["share"])


# MARK: attack


def _run_attack(run, stage, directory, title):
  """Relearns the forget data from one model at every learning rate at once.

  With LoRA the population, and so the checkpoint, holds adapters; the scores are
  those of the merged weights. A perturbed model is moved toward random initialization
  first, and its scores are those before the attack.
  """
  settings, attack = stage.settings, stage.settings["attack"]
  model = ModelConfig(**settings["model"])
  rates = np.asarray(attack["learning_rates"], np.float32)
  tasks, problems = _problems(run, stage)
  score = _scorer(run, stage, model, tasks)
  program = programs.attack_of(
    settings, run.mesh, tasks, run.evaluation_rows, run.replicas_at_once
  )
  batches = _batches(run, stage, stream="attack", batch_size=attack["batch_size"])
  every = attack["evaluate_every"]
  num_evaluations = attack["num_steps"] // every
  checkpoints = Checkpoints(directory / "checkpoints")
  history = {
    n: np.zeros((num_evaluations, len(rates)), np.float32) for n in _names(tasks)
  }
  done = checkpoints.latest() or 0
  params = _attacked(run, stage, model)
  if done:
    LOGGER.info("%s: resuming after update %d", title, done)
    state, history = _restore_attack(checkpoints, done, program.abstract, history)
  else:
    key = streams.key(settings["seeds"]["attack"], "adapters")
    state = program.create(params, jax.numpy.asarray(rates), key)
  frozen = {"base": params} if "lora" in attack else ()
  before = _floats(score(params, problems))
  key = streams.key(settings["seeds"]["attack"], "attack")
  progress = Progress(title, total=attack["num_steps"], initial=done)
  rows = pipeline.iterator(batches, start=done)
  writer = _writer(files.Mirror(directory), done)
  meter = _meter(run, _attack_cost(stage, model))
  with preemption.deferred(), contextlib.closing(writer):
    while done < attack["num_steps"]:
      first = done // every
      count = min(attack["evaluations_per_call"], num_evaluations - first)
      with meter.input():
        chunk = _stack([next(rows) for _ in range(count * every)], (count, every))
        chunk = sharding.put_batch(chunk, run.mesh, leading=2)
      state, scores = program.program(state, frozen, problems, chunk, key)
      for name, values in jax.device_get(scores).items():
        history[name][first : first + count] = values
      done += count * every
      worst = _worst(settings["setting"], history["forget"][first + count - 1][:, None])
      measured = meter.row(updates=count * every)
      writer.write(done, "attack", worst_forget=float(worst[0]), **measured)
      _save_attack(checkpoints, done, state, history)
      progress.note(f"worst forget {worst[0]:.2f}")
      progress.update(count * every)
      preemption.check()
      meter.restart()
  progress.close()
  checkpoints.close()
  scores = {
    name: np.vstack([np.full(len(rates), before[name]), values]).T
    for name, values in history.items()
  }
  return {
    "learning_rates": [float(rate) for rate in attack["learning_rates"]],
    "steps": [every * i for i in range(num_evaluations + 1)],
    "worst_forget": _rounded(_worst(settings["setting"], scores["forget"])),
    "scores": {name: _rounded(values) for name, values in scores.items()},
  }


def _attack_cost(stage: Stage, model: ModelConfig) -> compute.Compute:
  """Returns what an update of all members costs, evaluations left out."""
  attack = stage.settings["attack"]
  return compute.training(
    model,
    objectives.method("cross_entropy", {}),
    updates=1,
    batch_size=attack["batch_size"] * len(attack["learning_rates"]),
    length=stage.settings["length"],
  )


def _attacked(run, stage, model) -> Params:
  """Returns the model that is attacked, perturbed first if the settings say so."""
  params = _load(run, stage.inputs["model"], model)
  perturb = stage.settings["attack"].get("perturb")
  if perturb is None:
    return params
  key = streams.key(stage.settings["seeds"]["attack"], "perturb")
  trainable = programs.trainable(stage.settings["attack"])
  noise = programs.noise(model, run.mesh, trainable)
  return noise(params, key, perturb["alpha"], perturb["beta"])


def _worst(setting: str, forget_RxS: np.ndarray) -> np.ndarray:
  """Returns the worst forget scores [S] over the learning rates."""
  metric = settings_lib.get(setting).METRICS["forget"]
  try:
    return worst_case(forget_RxS, higher_is_worse=higher_is_worse(metric))[0]
  except ValueError as error:  # All scores of a step are NaN.
    raise ConfigError(
      f"config.attack.learning_rates: expected one at which relearning stays finite, "
      f"but {error}; add a lower one"
    ) from None


def _save_attack(checkpoints, done, state, history):
  rest = {"step": state.step, "opt_state": state.opt_state, "history": history}
  checkpoints.save(done, state.params, rest)


def _restore_attack(checkpoints, done, abstract, history):
  rest = {"step": abstract.step, "opt_state": abstract.opt_state, "history": history}
  params, rest = checkpoints.restore(done, abstract.params, rest)
  # In the order of the tasks, which a checkpoint does not keep.
  history = {name: np.array(rest["history"][name]) for name in history}
  return abstract._replace(
    params=params, step=rest["step"], opt_state=rest["opt_state"]
  ), history


def _names(tasks):
  return ("retain", "forget", *tasks)


def _stack(batches, leading):
  return jax.tree.map(lambda *x: np.stack(x).reshape(*leading, *x[0].shape), *batches)


def _floats(scores) -> dict[str, float]:
  return {name: _rounded(value) for name, value in jax.device_get(scores).items()}


def _rounded(values) -> Any:
  """Returns float32 values as the shortest decimals that give them back."""
  return (
    [_rounded(v) for v in values] if np.ndim(values) else float(str(np.float32(values)))
  )


def summary(outcome: Mapping[str, Any]) -> str:
  """Returns a finished stage's outcome in one line."""
  if "updates" in outcome:
    scores = outcome["scores"]
    return (
      f"{outcome['updates']} updates ({outcome['reason']}), "
      f"retain {scores['retain']:.3f}, forget {scores['forget']:.3f}"
    )
  if "steps" in outcome:
    worst = outcome["worst_forget"]
    return "worst forget: " + ", ".join(
      f"{worst[i]:.2f} after {outcome['steps'][i]}"
      for i in sorted({0, min(2, len(worst) - 1), len(worst) - 1})
    )
  return f"{outcome['rows']} rows, {outcome['evaluation']} evaluation problems"
