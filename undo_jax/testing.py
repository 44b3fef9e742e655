"""A tiny model, batch and mesh for tests, ours and those of code built on us."""

import dataclasses

import jax
import jax.numpy as jnp

from undo_jax.distributed.sharding import make_mesh
from undo_jax.models.config import ModelConfig
from undo_jax.utils.types import Batch

CONFIG = ModelConfig(
  vocab_size=16,
  num_layers=2,
  width=16,
  num_heads=4,
  num_kv_heads=2,
  head_dim=8,
  mlp_width=32,
  query_pre_attn_scalar=8.0,
)


def config(**changes: object) -> ModelConfig:
  """Returns a model config of about 7 thousand parameters, with changes."""
  return dataclasses.replace(CONFIG, **changes)


def batch(key: jax.Array, *, rows: int = 8, length: int = 12, vocab: int = 16) -> Batch:
  """Returns a random batch whose rows end in pads of varying number.

  "inputs" and "targets" int32 [rows, length], "mask" float32, at least one
  position a row set.
  """
  tokens = jax.random.randint(key, (rows, length + 1), 0, vocab)
  lengths = jax.random.randint(jax.random.fold_in(key, 1), (rows, 1), 1, length + 1)
  mask = (jnp.arange(length) < lengths).astype(jnp.float32)
  return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:], "mask": mask}


def mesh(num_devices: int = 1, **axes: int):
  """Returns a mesh over the first devices; all of them along data unless given."""
  axes = {"data": -1} | axes
  return make_mesh(**axes, devices=jax.devices()[:num_devices])
