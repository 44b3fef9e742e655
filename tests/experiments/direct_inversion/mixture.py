"""A mixture of Gaussians whose noise prediction is exact, written in numpy."""

import jax.numpy as jnp
import numpy as np

MEANS = np.array([[1.5, 0.0], [-1.0, 1.2], [-0.6, -1.4]])
SPREAD = 0.3


def predict(x_BxP, alpha_bar, modes=(0, 1, 2), xp=np):
  """Return E[noise | x_t]: -sqrt(1 - abar) times the score of the noised mixture."""
  means_KxP = xp.sqrt(alpha_bar) * MEANS[list(modes)]
  variance = alpha_bar * SPREAD**2 + 1 - alpha_bar
  away_BxKxP = x_BxP[:, None] - means_KxP
  logits_BxK = -(away_BxKxP**2).sum(-1) / (2 * variance)
  shares_BxK = xp.exp(logits_BxK - logits_BxK.max(-1, keepdims=True))
  shares_BxK = shares_BxK / shares_BxK.sum(-1, keepdims=True)
  score_BxP = -(shares_BxK[..., None] * away_BxKxP).sum(1) / variance
  return -xp.sqrt(1 - alpha_bar) * score_BxP


def predictor(alpha_bars_T, modes=(0, 1, 2)):
  """Return the same as the study calls it: by time, in JAX."""
  bars_T = jnp.asarray(alpha_bars_T)
  return lambda x_BxP, time: predict(x_BxP, bars_T[time], modes, jnp)


def draw(rng, count, modes=(0, 1, 2)):
  """Return points of some of the modes."""
  means = MEANS[rng.choice(modes, count)]
  return means + SPREAD * rng.standard_normal((count, 2))
