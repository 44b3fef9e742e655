"""The order of a program's pieces, by the memory that the compiler says it takes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from undo_jax import testing
from undo_jax.distributed import scheduling
from undo_jax.running import programs
from undo_jax.training.optimizers import OptimizerConfig

MESH = testing.mesh(1)


def shape(*sizes):
  return jax.ShapeDtypeStruct(sizes, jnp.float32)


def test_large_models_are_ordered_for_memory_and_small_ones_for_speed():
  largest = scheduling.LARGE_BYTES // 4
  assert scheduling.options(MESH, {"kernel": shape(largest - 1)}) is None
  chosen = scheduling.options(
    MESH, {"kernel": shape(largest // 2), "b": shape(largest)}
  )
  assert chosen is not None
  assert list(chosen) == ["xla_cpu_scheduler_type"]


def test_accelerators_keep_their_own_order():
  class Device:
    platform = "tpu"

  class Mesh:
    devices = np.array([Device()])

  mesh: Any = Mesh()
  assert scheduling.options(mesh, {"kernel": shape(scheduling.LARGE_BYTES)}) is None


@pytest.mark.optimized
def test_a_training_step_then_holds_less(monkeypatch):
  model = testing.config(vocab_size=4096, num_layers=4)
  rows = {name: shape(8, 64) for name in ("inputs", "targets", "mask")}
  rows |= {n: jax.ShapeDtypeStruct((8, 64), jnp.int32) for n in ("inputs", "targets")}
  batch = {"forget": rows, "retain": rows}

  def held(num_steps):  # Another program for each number.
    optimizer = OptimizerConfig(num_steps=num_steps, learning_rate=1e-3)
    options = (("retain_weight", 1.0),)
    made = programs.training(model, MESH, "grad_diff", options, optimizer, 1)
    key = jax.eval_shape(lambda: jax.random.key(0))
    step: Any = made.step
    compiled = step.lower(made.abstract, (), batch, key).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  fast = held(1)
  monkeypatch.setattr(scheduling, "LARGE_BYTES", 0)
  assert held(2) < 0.9 * fast
