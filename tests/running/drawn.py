"""Runs whose models are drawn and not trained, for tests of what is done to models."""

import jax
import jax.numpy as jnp
import numpy as np

from undo_jax import running, testing
from undo_jax.plan import stages, translation
from undo_jax.training.checkpointing import Checkpoints
from undo_jax.utils import files

TRAINED = {
  "scores": {"retain": 0.9, "forget": 0.1},
  "updates": 3,
  "reason": "fixed budget",
  "compute": {"updates": 3, "tokens": 5, "flops": 7},
}


def made(workdir, mesh, config, models, *, damaged=False):
  """Return a run of a config whose models are there."""
  run = running.Run(
    workdir,
    mesh,
    checkpoint_every=100,
    evaluation_rows=64,
    replicas_at_once=None,
    stages=tuple(translation.plan(config, 0)),
    writers=("jsonl",),
  )
  for number, name in enumerate(models):
    params = jax.tree.map(np.array, testing.weights(config.model, seed=number))
    params["embedding"] *= np.float32(np.nan if damaged else 1.0)
    checkpoints = Checkpoints(run.directories[name] / "checkpoints")
    checkpoints.save(0, jax.device_put(params), {"step": jnp.zeros((), int)})
    checkpoints.close()
    (stage,) = (each for each in run.stages if each.name == name)
    files.write_json(run.directories[name] / "config.json", stages.to_json(stage))
    files.write_record(run.directories[name] / "done.json", TRAINED)
  return run
