"""Direct Inversion: images into noise, and back under another prompt.

Inversion walks the schedule upward without guidance and records the predicted noises;
sampling walks it downward with guidance, and pulls its predictions toward them.

Reference: Elarabawy, Kamath and Denton, Direct Inversion, arXiv 2211.07825.
"""

from collections.abc import Callable
import dataclasses
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from experiments.direct_inversion import schedule
from undo_jax.utils import checks

# (x [B, P], time) -> predicted noise [B, P].
Predict: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]
Number: TypeAlias = float | jax.Array | np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyperparameters:
  """The paper's hyper-parameters by the names in its code, and `shifted_noises`."""

  num_inference_steps: int
  inversion_steps: int
  guidance_scale: float
  noise_merge_lambda: float
  direct_injection: bool
  stochastic_injection: bool
  num_stochastic_injection_steps: int
  stochastic_injection_exp_method: bool
  inversion_prompt: str
  eta: float
  shifted_noises: bool = False

  def __post_init__(self):
    for name in ("num_inference_steps", "inversion_steps"):
      steps = getattr(self, name)
      if not isinstance(steps, int) or steps < 1 or schedule.TRAIN_STEPS % steps:
        checks.fail(f"edit.{name}", f"a divisor of {schedule.TRAIN_STEPS}", steps)
    for name in ("noise_merge_lambda", "eta"):
      checks.unit(f"edit.{name}", getattr(self, name))
    if not checks.is_number(self.guidance_scale) or self.guidance_scale < 0:
      expected = "a number of at least 0"
      checks.fail("edit.guidance_scale", expected, self.guidance_scale)
    if self.num_stochastic_injection_steps < 0:
      got = self.num_stochastic_injection_steps
      checks.fail("edit.num_stochastic_injection_steps", "at least 0", got)
    merged = self.stochastic_injection and self.stochastic_injection_exp_method
    if merged and self.num_inference_steps != self.inversion_steps:
      expected = (
        f"edit.inversion_steps={self.inversion_steps}, as "
        "stochastic_injection_exp_method merges noises of the same times"
      )
      checks.fail("edit.num_inference_steps", expected, self.num_inference_steps)


class Inverted(NamedTuple):
  """Images after inversion."""

  latents_BxP: jax.Array  # x at the last time.
  noises_SxBxP: jax.Array  # Predicted in each of S steps; the first is at time 0.


def guided(conditional: Predict, unconditional: Predict, scale: Number) -> Predict:
  """Return e_0 + max(g, 1) (e_c - e_0): a scale of 1 or less guides nothing.

  Args:
    conditional: predicts e_c, under the prompt.
    unconditional: predicts e_0, under the empty one.
    scale: g, guidance_scale.
  """

  def predict(x_BxP, time):
    empty_BxP = unconditional(x_BxP, time)
    difference_BxP = conditional(x_BxP, time) - empty_BxP
    return empty_BxP + jnp.maximum(scale, 1.0) * difference_BxP

  return predict


def invert(
  predict: Predict, images_BxP: jax.Array, alpha_bars_T: np.ndarray, num_steps: int
) -> Inverted:
  """Return images as noise, with the noises that were predicted on the way.

  The step at time t moves to t + k along the noise predicted at t. The last step would
  end beyond the schedule, so it does not move.

  Args:
    predict: the model under the inversion prompt, without guidance.
    images_BxP: [B, P], pixels in [-1, 1].
    alpha_bars_T: of `schedule.alpha_bars`.
    num_steps: S, a divisor of T.

  Raises:
    ConfigError: if num_steps does not divide T.
  """
  up_S = schedule.times(num_steps)
  bars_S = jnp.asarray(alpha_bars_T[up_S], images_BxP.dtype)
  next_S = jnp.append(bars_S[1:], bars_S[-1])

  def step(x_BxP, of_step):
    time, bar, bar_next = of_step
    noise_BxP = predict(x_BxP, time)
    return schedule.move(x_BxP, noise_BxP, bar, bar_next), noise_BxP

  return Inverted(*jax.lax.scan(step, images_BxP, (jnp.asarray(up_S), bars_S, next_S)))


def sample(
  predict: Predict,
  latents_BxP: jax.Array,
  alpha_bars_T: np.ndarray,
  num_steps: int,
  *,
  toward_SxBxP: jax.Array | None = None,
  merges_S: Number = 0.0,
  eta: float = 0.0,
  key: jax.Array | None = None,
) -> jax.Array:
  """Return images sampled by DDIM, whose predicted noises are pulled toward others.

  e <- e + lambda_s (reference_s - e), before step s from T - k down to 0. The last
  step would go to abar_0, where the images already are, so it does not move.

  Args:
    predict: the model with guidance, see `guided`.
    latents_BxP: [B, P] at the last time.
    alpha_bars_T: of `schedule.alpha_bars`.
    num_steps: S, a divisor of T.
    toward_SxBxP: references by step, or one for all steps [1, B, P]; None: no pull.
    merges_S: lambda_s, or a number for all steps.
    eta: share of DDPM's noise that is added; above 0 a key is needed.
    key: of that noise.

  Returns:
    [B, P].

  Raises:
    ConfigError: if num_steps does not divide T.
  """
  down_S = schedule.times(num_steps)[::-1]
  bars_S = jnp.asarray(alpha_bars_T[down_S], latents_BxP.dtype)
  next_S = jnp.append(bars_S[1:], bars_S[-1])
  merges_S = jnp.broadcast_to(jnp.asarray(merges_S, latents_BxP.dtype), num_steps)
  steps = (jnp.arange(num_steps), jnp.asarray(down_S), bars_S, next_S, merges_S)

  def step(x_BxP, of_step):
    index, time, bar, bar_next, merge = of_step
    noise_BxP = predict(x_BxP, time)
    if toward_SxBxP is not None:
      reference_BxP = toward_SxBxP[jnp.minimum(index, toward_SxBxP.shape[0] - 1)]
      noise_BxP = noise_BxP + merge * (reference_BxP - noise_BxP)
    if not eta:
      return schedule.move(x_BxP, noise_BxP, bar, bar_next), None
    assert key is not None
    sigma = schedule.sigma(eta, bar, bar_next)
    fresh_BxP = jax.random.normal(jax.random.fold_in(key, index), x_BxP.shape)
    x_BxP = schedule.move(x_BxP, noise_BxP, bar, bar_next, sigma)
    return x_BxP + sigma * fresh_BxP.astype(x_BxP.dtype), None

  return jax.lax.scan(step, latents_BxP, steps)[0]


def edit(
  inverted: Inverted,
  predict: Predict,
  alpha_bars_T: np.ndarray,
  hyperparameters: Hyperparameters,
  key: jax.Array,
  noise_merge_lambda: Number | None = None,
) -> jax.Array:
  """Return inverted images that are sampled again under another prompt.

  Args:
    inverted: by `invert` with hyperparameters.inversion_steps.
    predict: the model with guidance, see `guided`.
    alpha_bars_T: of `schedule.alpha_bars`.
    hyperparameters: see `Hyperparameters`; `predict` has the guidance already.
    key: for latents without direct injection, and for DDPM's noise.
    noise_merge_lambda: replaces that of the hyper-parameters; may be traced.

  Returns:
    [B, P].
  """
  h, latents_BxP = hyperparameters, inverted.latents_BxP
  latents_key, noise_key = jax.random.split(key)
  toward_SxBxP, merges_S = None, jnp.zeros(())
  if h.stochastic_injection:
    toward_SxBxP = latents_BxP[None]
    if h.stochastic_injection_exp_method:
      toward_SxBxP = references(inverted.noises_SxBxP, h.shifted_noises)
    given = h.noise_merge_lambda if noise_merge_lambda is None else noise_merge_lambda
    is_merged_S = np.arange(h.num_inference_steps) < h.num_stochastic_injection_steps
    merges_S = given * is_merged_S
  if not h.direct_injection:
    fresh_BxP = jax.random.normal(latents_key, latents_BxP.shape)
    latents_BxP = fresh_BxP.astype(latents_BxP.dtype)
  return sample(
    predict,
    latents_BxP,
    alpha_bars_T,
    h.num_inference_steps,
    toward_SxBxP=toward_SxBxP,
    merges_S=merges_S,
    eta=h.eta,
    key=noise_key,
  )


def references(noises_SxBxP: jax.Array, is_shifted: bool) -> jax.Array:
  """Return the recorded noises by step of sampling, the last recorded noise first.

  The published code merges the noise that was predicted at the same time. But the step
  into that time was made along the noise predicted one step earlier. These earlier
  noises are the shifted ones; with them lambda = 1 goes back exactly.

  Args:
    noises_SxBxP: of `invert`.
    is_shifted: whether to return the noises one step earlier; the first has none.

  Returns:
    [S, B, P].
  """
  backward_SxBxP = noises_SxBxP[::-1]
  if not is_shifted:
    return backward_SxBxP
  return jnp.concatenate([backward_SxBxP[1:], backward_SxBxP[-1:]])
