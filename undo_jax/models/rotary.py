"""Rotary positions: pairs of entries are rotated by angles that grow with position."""

import math

import jax
import jax.numpy as jnp

from undo_jax.models.config import ModelConfig


def wavelengths(config: ModelConfig) -> jax.Array:
  """Return the wavelengths of the rotary pairs over 2 pi, [K/2] float32, in tokens.

  theta^(2j/K) * factor. With Llama-3's scaling, short ones (under the original
  length / high_factor) keep theta^(2j/K), long ones (over original length /
  low_factor) are stretched by the factor, and the frequencies between go over
  linearly in original length / wavelength.

  Reference: Su et al., RoFormer, arXiv 2104.09864; Llama Team, Llama 3, arXiv
  2407.21783.
  """
  c = config
  base = plain_wavelengths(c.rope_theta, c.head_dim)
  if c.rope_original_length is None:
    return base * c.rope_factor
  turns = c.rope_original_length / (2 * math.pi * base)
  share = (turns - c.rope_low_factor) / (c.rope_high_factor - c.rope_low_factor)
  share = jnp.clip(share, 0.0, 1.0)
  return 1.0 / (share / base + (1.0 - share) / (base * c.rope_factor))


def plain_wavelengths(theta: float, head_dim: int) -> jax.Array:
  """Return theta^(2j/K), [K/2] float32."""
  half = head_dim // 2
  return theta ** (jnp.arange(half, dtype=jnp.float32) / half)


def tables(
  position_L: jax.Array, wavelengths: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Return (cos, sin) of position / wavelength, each [L, K/2] float32."""
  angle = position_L.astype(jnp.float32)[:, None] / wavelengths
  return jnp.cos(angle), jnp.sin(angle)


def rotate(x_BxLxHxK, tables):
  """Rotate pairs of queries' or keys' entries by their positions' angles."""
  cos, sin = (table[:, None, :].astype(x_BxLxHxK.dtype) for table in tables)
  first, second = jnp.split(x_BxLxHxK, 2, axis=-1)
  return jnp.concatenate(
    [first * cos - second * sin, second * cos + first * sin], axis=-1
  )
