"""Measurements on a model: samples, inversion and back, edits, relearning.

Each is a function of the parameters of one model, or vmapped, of a population.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.direct_inversion import inversion, training
from experiments.direct_inversion.inversion import Hyperparameters, Number, Predict
from experiments.direct_inversion.model import Denoiser, Labels
from experiments.direct_inversion.training import Rows, Task
from undo_jax.utils.types import Params


class Probe(NamedTuple):
  """What all measurements share."""

  model: Denoiser
  alpha_bars_T: np.ndarray
  hyperparameters: Hyperparameters

  def predict(self, params: Params, label: Labels) -> Predict:
    """Return the model's prediction under one label for all rows, or one for each."""
    apply: Any = self.model.apply
    return lambda x_BxP, time: apply(params, x_BxP, time, label)

  def guided(self, params: Params, label: Labels, scale: Number) -> Predict:
    """Return the same prediction with guidance away from the empty prompt."""
    empty = self.predict(params, self.model.num_classes)
    return inversion.guided(self.predict(params, label), empty, scale)

  def inverted(self, params: Params, images_BxP: jax.Array) -> inversion.Inverted:
    """Return images as noise, under the inversion prompt.

    Raises:
      ValueError: if the images do not have the model's size.
    """
    pixels, prompt = self.model.pixels, self.hyperparameters.inversion_prompt
    if images_BxP.ndim != 2 or images_BxP.shape[1] != pixels:
      got = list(images_BxP.shape)
      raise ValueError(f"expected images of the model's size, [B, {pixels}], got {got}")
    return inversion.invert(
      self.predict(params, int(prompt) if prompt else self.model.num_classes),
      images_BxP,
      self.alpha_bars_T,
      self.hyperparameters.inversion_steps,
    )


def samples(
  probe: Probe, params: Params, label_B: jax.Array, key: jax.Array, num_steps: int
) -> jax.Array:
  """Return guided samples of the classes from fresh noise, [B, P]."""
  latents_BxP = jax.random.normal(key, (len(label_B), probe.model.pixels))
  predict = probe.guided(params, label_B, probe.hyperparameters.guidance_scale)
  return inversion.sample(predict, latents_BxP, probe.alpha_bars_T, num_steps)


def reconstructions(
  probe: Probe, params: Params, images_BxP: jax.Array, num_steps: int
) -> jax.Array:
  """Return the error of images that are inverted and sampled under the empty prompt.

  There are three ways: without injected noises, with the published code's noises at a
  lambda of 1, and with the shifted noises.

  Returns:
    Root of the mean squared error over images and pixels, by way, [3].
  """
  predict = probe.predict(params, probe.model.num_classes)
  inverted = inversion.invert(predict, images_BxP, probe.alpha_bars_T, num_steps)

  def back(merge, is_shifted):
    toward_SxBxP = inversion.references(inverted.noises_SxBxP, is_shifted)
    return inversion.sample(
      predict,
      inverted.latents_BxP,
      probe.alpha_bars_T,
      num_steps,
      toward_SxBxP=toward_SxBxP,
      merges_S=merge,
    )

  made = jnp.stack([back(0.0, False), back(1.0, False), back(1.0, True)])
  return jnp.sqrt(jnp.mean((made - images_BxP) ** 2, axis=(1, 2)))


def edits(
  probe: Probe,
  params: Params,
  images_BxP: jax.Array,
  label: Labels,
  scales_G: Sequence[float],
  lambdas_L: Sequence[float],
  key: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Return images that are inverted, then sampled under a label.

  Args:
    probe: see `Probe`.
    params: of one model.
    images_BxP: [B, P].
    label: the prompt; may be traced.
    scales_G: values of guidance_scale.
    lambdas_L: values of noise_merge_lambda.
    key: for everything that the images do not determine.

  Returns:
    (latents [B, P], pictures [G, L, B, P]).
  """
  inverted = probe.inverted(params, images_BxP)

  def edit(scale, merge):
    return inversion.edit(
      inverted,
      probe.guided(params, label, scale),
      probe.alpha_bars_T,
      probe.hyperparameters,
      key,
      noise_merge_lambda=merge,
    )

  over_lambdas = jax.vmap(edit, in_axes=(None, 0))
  over_scales = jax.vmap(over_lambdas, in_axes=(0, None))
  pictures = over_scales(jnp.asarray(scales_G), jnp.asarray(lambdas_L))
  return inverted.latents_BxP, pictures


def relearned(
  task: Task,
  rows: Rows,
  params: Params,
  key: jax.Array,
  rates_L: Sequence[float],
  num_updates: int | jax.Array,
) -> Params:
  """Return the model after updates on these rows, by learning rate, [L, ...]."""

  def relearn(rate):
    loss = training.denoising(task, rows)
    return training.descend(
      loss, params, key, num_updates=num_updates, learning_rate=rate, decay=False
    )

  return jax.vmap(relearn)(jnp.asarray(rates_L))


def nats_per_pixel(latents: np.ndarray) -> float:
  """Return the mean negative log-likelihood of latents under N(0, I), by pixel.

  1/2 (log 2 pi + z^2); for normal draws it is 1.419
  """
  return float(0.5 * (np.log(2 * np.pi) + np.mean(np.square(latents))))
