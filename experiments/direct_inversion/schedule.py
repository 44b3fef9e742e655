"""The noise schedule, and DDIM's steps along it, one function for both directions.

  x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) e,  e standard normal

Reference: Song, Meng and Ermon, Denoising Diffusion Implicit Models, arXiv 2010.02502.
"""

import jax
import jax.numpy as jnp
import numpy as np

from undo_jax.utils.errors import ConfigError

TRAIN_STEPS = 1000  # T


def alpha_bars(beta_start: float = 0.00085, beta_end: float = 0.012) -> np.ndarray:
  """Return the signal's share of the variance by time.

  abar_t = prod_{s <= t} (1 - beta_s), where sqrt(beta_s) is linear in s

  Args:
    beta_start: beta_0, above 0.
    beta_end: beta_(T - 1), below 1; the defaults are Stable Diffusion's.

  Returns:
    float64 [T], T = 1000, decreasing.
  """
  betas_T = np.linspace(beta_start**0.5, beta_end**0.5, TRAIN_STEPS) ** 2
  return np.cumprod(1 - betas_T)


def times(num_steps: int) -> np.ndarray:
  """Return 0, k, 2k, ..., T - k for k = T / num_steps, int [num_steps].

  Raises:
    ConfigError: if the number of steps does not divide T.
  """
  if num_steps < 1 or TRAIN_STEPS % num_steps:
    raise ConfigError(
      f"expected a number of steps that divides {TRAIN_STEPS}, got {num_steps}"
    )
  return np.arange(0, TRAIN_STEPS, TRAIN_STEPS // num_steps)


def noised(
  images_BxP: jax.Array, noise_BxP: jax.Array, alpha_bar: jax.Array
) -> jax.Array:
  """Return x_t of images and noise; alpha_bar is a number or [B, 1]."""
  return jnp.sqrt(alpha_bar) * images_BxP + jnp.sqrt(1 - alpha_bar) * noise_BxP


def move(
  x_BxP: jax.Array,
  noise_BxP: jax.Array,
  alpha_bar: jax.Array,
  alpha_bar_next: jax.Array,
  sigma: float | jax.Array = 0.0,
) -> jax.Array:
  """Return x moved to another time by means of the predicted noise.

  x_0 = (x - sqrt(1 - abar) e) / sqrt(abar)
  x' = sqrt(abar') x_0 + sqrt(1 - abar' - sigma^2) e

  Toward less noise this is a step of DDIM, after which sigma times a normal draw is to
  be added. Toward more noise, with sigma 0, it is a step of DDIM's inversion. With the
  same e, each undoes the other.

  Args:
    x_BxP: [B, P].
    noise_BxP: e, [B, P].
    alpha_bar: of x.
    alpha_bar_next: abar', of what is returned.
    sigma: see `sigma`.
  """
  clean_BxP = (x_BxP - jnp.sqrt(1 - alpha_bar) * noise_BxP) / jnp.sqrt(alpha_bar)
  along = jnp.sqrt(jnp.maximum(1 - alpha_bar_next - sigma**2, 0))
  return jnp.sqrt(alpha_bar_next) * clean_BxP + along * noise_BxP


def sigma(
  eta: float | jax.Array, alpha_bar: jax.Array, alpha_bar_next: jax.Array
) -> jax.Array:
  """Return how much fresh noise a step of DDIM adds; eta = 1 is DDPM's.

  eta sqrt((1 - abar') / (1 - abar)) sqrt(1 - abar / abar')
  """
  of_step = (1 - alpha_bar_next) / (1 - alpha_bar) * (1 - alpha_bar / alpha_bar_next)
  return eta * jnp.sqrt(jnp.maximum(of_step, 0))
