"""A tiny model, batch and mesh for tests, here and in code that uses the library."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from undo_jax.distributed.sharding import make_mesh
from undo_jax.models import decoder
from undo_jax.models.config import ModelConfig
from undo_jax.utils import trees
from undo_jax.utils.types import Batch, Params

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
  """Return a model config of about 7 thousand parameters, with changes."""
  return dataclasses.replace(CONFIG, **changes)


def params(config: ModelConfig = CONFIG, seed: int = 0) -> Params:
  """Return fresh parameters of a decoder, float32, without compiling anything.

  Distributed as those of `Decoder.init`, though not equal: matrices ~ N(0,
  init_std^2), biases zero, norms as the identity. Drawn once for each config and seed.
  """
  return jax.tree.map(lambda leaf: leaf, _params(config, seed))  # Another tree.


@functools.cache
def _params(config: ModelConfig, seed: int) -> Params:
  rng = np.random.default_rng(seed)

  def draw(path, shape):
    if path.endswith(("scale", "bias")):
      is_one = path.endswith("scale") and not config.norm_offset
      return np.full(shape.shape, float(is_one), np.float32)
    return np.float32(config.init_std) * rng.standard_normal(shape.shape, np.float32)

  # Put there: asarray would compile a copy for each shape.
  return jax.device_put(trees.map_with_path(draw, decoder.shapes(config)))


def weights(config: ModelConfig = CONFIG, seed: int = 0) -> Params:
  """Return parameters of a model that are drawn by numpy, 0.3 times normal numbers.

  Nothing is compiled for them, and gradients are well above rounding.
  """
  return jax.tree.map(lambda leaf: leaf, _weights(config, seed))


@functools.cache
def _weights(config, seed):
  normal = np.random.default_rng(seed).standard_normal
  return jax.tree.map(
    lambda leaf: 0.3 * normal(leaf.shape, np.float32), decoder.shapes(config)
  )


def batch(key: jax.Array, *, rows: int = 8, length: int = 12, vocab: int = 16) -> Batch:
  """Return a random batch whose rows end in pads of varying number.

  "inputs" and "targets" int32 [rows, length], "mask" float32, at least one
  position a row set. NumPy draws them, so a compiled function cannot.
  """
  # By numpy: operation by operation, JAX compiles a program for each shape.
  draw = np.random.default_rng(np.ravel(jax.random.key_data(key))).integers
  tokens = draw(vocab, size=(rows, length + 1), dtype=np.int32)
  mask = np.arange(length) < draw(1, length + 1, (rows, 1))
  mask = mask.astype(np.float32)
  arrays = {"inputs": tokens[:, :-1], "targets": tokens[:, 1:], "mask": mask}
  return jax.tree.map(jnp.asarray, arrays)


def mesh(num_devices: int = 1, **axes: int):
  """Return a mesh over the first devices; all of them along data unless given."""
  axes = {"data": -1} | axes
  return make_mesh(**axes, devices=jax.devices()[:num_devices])
