"""A fully connected diffusion model, conditional on a class or on the empty prompt."""

import math
from typing import TypeAlias

from flax import linen as nn
import jax
import jax.numpy as jnp

from experiments.direct_inversion import schedule
from undo_jax import interpolation

Labels: TypeAlias = int | jax.Array
_FREQUENCIES = 32
# For UNDO's noise: parameters that are no matrices begin at zero.
NOISE_RULES = ((r".*/bias", interpolation.zero), (r".*", interpolation.xavier_uniform))


class Denoiser(nn.Module):
  """Residual blocks whose norms are scaled and shifted by time and label.

  Attributes:
    pixels: P.
    num_classes: this number, as a label, is the empty prompt.
    width: of the blocks.
    depth: number of blocks.
  """

  pixels: int
  num_classes: int
  width: int
  depth: int

  @nn.compact
  def __call__(self, x_BxP: jax.Array, time: jax.Array, label: Labels) -> jax.Array:
    """Return the predicted noise [B, P]; time and label are [B] or one for all."""
    angles = time_features(jnp.atleast_1d(time))
    embed = nn.Embed(self.num_classes + 1, self.width, name="label")
    label_BxD = embed(jnp.atleast_1d(label))
    context_BxD = nn.silu(nn.Dense(self.width, name="time")(angles) + label_BxD)
    hidden_BxD = nn.Dense(self.width, name="into")(x_BxP)
    for index in range(self.depth):
      films = nn.Dense(2 * self.width, name=f"film_{index}")(context_BxD)
      scale_BxD, shift_BxD = jnp.split(films, 2, axis=-1)
      normed_BxD = _norm(hidden_BxD) * (1 + scale_BxD) + shift_BxD
      inner_BxD = nn.silu(nn.Dense(self.width, name=f"first_{index}")(normed_BxD))
      hidden_BxD += nn.Dense(self.width, name=f"second_{index}")(inner_BxD)
    return nn.Dense(self.pixels, name="out")(_norm(hidden_BxD))


def time_features(time_B: jax.Array) -> jax.Array:
  """Return sines and cosines at frequencies from 1 to 1 / T, [B, 64]."""
  slowest = math.log(schedule.TRAIN_STEPS)
  rates_F = jnp.exp(-slowest * jnp.arange(_FREQUENCIES) / (_FREQUENCIES - 1))
  angles_BxF = time_B[:, None] * rates_F
  return jnp.concatenate([jnp.sin(angles_BxF), jnp.cos(angles_BxF)], axis=-1)


def _norm(x_BxD):
  """Return rows of mean 0 and variance 1."""
  centred_BxD = x_BxD - x_BxD.mean(-1, keepdims=True)
  return centred_BxD * jax.lax.rsqrt(jnp.mean(centred_BxD**2, -1, keepdims=True) + 1e-6)
