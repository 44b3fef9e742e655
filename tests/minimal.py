"""The demo's run in seconds: what is overridden, as a dict and as flags."""

from collections.abc import Iterable, Iterator
import contextlib
import functools

import jax
import numpy as np
import pytest

from undo_jax import config as builders
from undo_jax.distributed import sharding
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import shapes
from undo_jax.utils.types import Params

CONFIG = "arithmetic:tiny"
MODELS = (
  "base",
  "data_filtering",
  "max_ent",
  "oracle_matching",
  "undo_alpha_0.5",
  "unlearn_and_distill",
)
# Entries that no other one that is run follows, with their updates.
_STEPS = {"base": 3, "max_ent": 2, "grad_diff": 2, "rmu": 2, "oracle_matching": 5}
OVERRIDES = {
  # Their programs take as long as max_ent's, and tests of their own run them.
  "models.grad_diff.run": False,
  "models.rmu.run": False,
  "checkpoint_every": 2,
  "data.num_equations": 64,
  "data.num_evaluation": 2,
  "model.num_layers": 2,
  "model.width": 16,
  "model.mlp_width": 32,
  "model.head_dim": 8,
  "model.scan_unroll": 1,
  **{
    f"models.{name}.optimizer.num_steps": num
    for name, num in (_STEPS | {"undo": 5}).items()
  },
  **{f"models.{name}.batch_size": 16 for name in (*_STEPS, "undo")},
  **{
    f"models.{name}.optimizer.warmup_steps": 1
    for name in ("base", "oracle_matching", "undo")
  },
  "models.undo.sweep.noise.alpha": (0.5,),
  "models.undo.stop.evaluate_every": 2,
  # Nothing recovers: every step is run.
  "models.undo.stop.options.tolerance": 0.0,
  "attacks.relearn.learning_rates": (1e-3, 1e-2),
  "attacks.relearn.num_steps": 4,
  "attacks.relearn.evaluate_every": 2,
  "attacks.relearn.evaluations_per_call": 1,
  "attacks.relearn.batch_size": 8,
  "report.budgets": (2, 4),
}


def config(**changes: object) -> builders.Config:
  """Return the config, with further changes by field ("__" for a dot)."""
  made = builders.shipped(CONFIG)
  named = {name.replace("__", "."): value for name, value in changes.items()}
  made.update_from_flattened_dict(OVERRIDES | named)
  return made


def flags(**changes: object) -> list[str]:
  """Return the same as flags of a command."""
  named = {name.replace("__", "."): value for name, value in changes.items()}
  values = (OVERRIDES | named).items()
  return [f"--config={CONFIG}", *(f"--config.{name}={value}" for name, value in values)]


def only(config: builders.Config, names: Iterable[str]) -> builders.Config:
  """Leave of a config's models those of these entries; return it."""
  kept = set(names)
  for name, entry in config.models.items():
    entry.run = name in kept
  return config


def params(model: ModelConfig) -> Params:
  """Return random parameters near zero; nothing is compiled for them."""
  normal = np.random.default_rng(0).standard_normal
  return jax.tree.map(lambda s: np.float32(0.02 * normal(s.shape)), shapes(model))


@contextlib.contextmanager
def one_device() -> Iterator[None]:
  """Run get a mesh of one device: programs for eight take twice as long to make."""
  alone = functools.partial(sharding.make_mesh, devices=jax.devices()[:1])
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sharding, "make_mesh", alone)
    yield
