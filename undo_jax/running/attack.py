"""The relearning attack on one model."""

import contextlib
import logging

import jax
import numpy as np

from undo_jax import objectives
from undo_jax import tasks as settings_lib
from undo_jax.data import pipeline
from undo_jax.distributed import preemption, sharding
from undo_jax.frontier import compute
from undo_jax.frontier.robustness import higher_is_worse, worst_case
from undo_jax.models.config import ModelConfig
from undo_jax.running import programs
from undo_jax.running.data import batches_of
from undo_jax.running.run import (
  floats,
  load,
  meter_of,
  problems_of,
  rounded,
  score_names,
  scorer_of,
  writer_of,
)
from undo_jax.stages import Stage
from undo_jax.training.checkpointing import Checkpoints
from undo_jax.training.writers import Progress
from undo_jax.utils import files, streams
from undo_jax.utils.types import ConfigError, Params

LOGGER = logging.getLogger("undo_jax")


def run_attack(run, stage, directory, title):
  """Relearns the forget data from one model at every learning rate at once.

  With LoRA the population, and so the checkpoint, holds adapters; the scores are
  those of the merged weights. A perturbed model is moved toward random initialization
  first, and its scores are those before the attack.
  """
  settings, attack = stage.settings, stage.settings["attack"]
  model = ModelConfig(**settings["model"])
  rates = np.asarray(attack["learning_rates"], np.float32)
  tasks, problems = problems_of(run, stage)
  score = scorer_of(run, stage, model, tasks)
  program = programs.attack_of(
    settings, run.mesh, tasks, run.evaluation_rows, run.replicas_at_once
  )
  batches = batches_of(run, stage, stream="attack", batch_size=attack["batch_size"])
  every = attack["evaluate_every"]
  num_evaluations = attack["num_steps"] // every
  checkpoints = Checkpoints(directory / "checkpoints")
  history = {
    n: np.zeros((num_evaluations, len(rates)), np.float32) for n in score_names(tasks)
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
  before = floats(score(params, problems))
  key = streams.key(settings["seeds"]["attack"], "attack")
  progress = Progress(title, total=attack["num_steps"], initial=done)
  rows = pipeline.iterator(batches, start=done)
  writer = writer_of(files.Mirror(directory), done)
  meter = meter_of(run, _attack_cost(stage, model))
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
    "worst_forget": rounded(_worst(settings["setting"], scores["forget"])),
    "scores": {name: rounded(values) for name, values in scores.items()},
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
  params = load(run, stage.inputs["model"], model)
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


def _stack(batches, leading):
  return jax.tree.map(lambda *x: np.stack(x).reshape(*leading, *x[0].shape), *batches)
