"""Training of one model: pretraining, unlearning, distillation, relearning.

Every loss is a function (params, key) -> scalar that draws its own batch, so a
population is trained by these functions under `jax.vmap`.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from experiments.direct_inversion import schedule
from experiments.direct_inversion.model import Denoiser
from undo_jax.utils.types import Params

Loss: TypeAlias = Callable[[Params, jax.Array], jax.Array]


class Rows(NamedTuple):
  """The images to draw from: the first `number` of `index`."""

  index_N: jax.Array
  number: jax.Array  # May differ between the members of a population.


class Task(NamedTuple):
  """What all trainings have in common."""

  model: Denoiser
  images_NxP: jax.Array
  labels_N: jax.Array
  alpha_bars_T: jax.Array
  batch_size: int
  label_dropout: float  # Share of labels that become the empty prompt.


class Batch(NamedTuple):
  """Images on their way to noise."""

  x_BxP: jax.Array
  noise_BxP: jax.Array
  time_B: jax.Array
  label_B: jax.Array
  spare_B: jax.Array  # Uniform numbers for other draws of a loss.


def descend(
  loss: Loss,
  params: Params,
  key: jax.Array,
  *,
  num_updates: int | jax.Array,
  learning_rate: float | jax.Array,
  decay: bool = True,
) -> Params:
  """Return the parameters after `num_updates` updates of Adam.

  Args:
    loss: (params, key) -> scalar, see the module.
    params: of one model.
    key: for the batches.
    num_updates: number of updates; may be traced.
    learning_rate: at the first update; may be traced.
    decay: whether the rate falls to 0 by half a cosine; else it is constant.
  """
  adam = optax.flatten(optax.scale_by_adam())

  def update(index, carry):
    params, state = carry
    grads = jax.grad(loss)(params, jax.random.fold_in(key, index))
    direction, state = adam.update(grads, state)
    falling = 0.5 * (1 + jnp.cos(jnp.pi * index / num_updates)) if decay else 1.0
    rate = learning_rate * falling
    return jax.tree.map(lambda p, d: p - rate * d, params, direction), state

  return jax.lax.fori_loop(0, num_updates, update, (params, adam.init(params)))[0]


def draw(task: Task, rows: Rows, key: jax.Array) -> Batch:
  """Return images of the rows at uniform times, some without their label."""
  size, model = task.batch_size, task.model
  noise_key, key = jax.random.split(key)
  row_B, time_B, drop_B, spare_B = jax.random.uniform(key, (4, size))
  index_B = rows.index_N[(row_B * rows.number).astype(int)]
  time_B = (time_B * schedule.TRAIN_STEPS).astype(int)
  is_dropped_B = drop_B < task.label_dropout
  label_B = jnp.where(is_dropped_B, model.num_classes, task.labels_N[index_B])
  noise_BxP = jax.random.normal(noise_key, (size, model.pixels))
  bars_Bx1 = task.alpha_bars_T[time_B][:, None]
  x_BxP = schedule.noised(task.images_NxP[index_B], noise_BxP, bars_Bx1)
  return Batch(x_BxP, noise_BxP, time_B, label_B, spare_B)


def denoising(task: Task, rows: Rows) -> Loss:
  """Return mean (e(x_t, t, label) - noise)^2, to pretrain and to relearn."""

  def loss(params, key):
    batch = draw(task, rows, key)
    return _error(task, params, batch, batch.noise_BxP)

  return loss


def unlearning(
  task: Task, base: Params, forget: Rows, retain: Rows, forgotten: int
) -> Loss:
  """Return the loss that makes one class look like any other and keeps the others.

  mean (e(x_t, t, l) - e_base(x_t, t, c))^2 over the class's images, where l is the
  class or the empty prompt, and c is another class at random; plus `denoising` of the
  other images, some of them under the class's label, see `relabelled`.

  Args:
    task: see `Task`.
    base: the parameters before unlearning.
    forget: images of the class.
    retain: images of the other classes.
    forgotten: the class.

  Reference: Kumari et al., Ablating Concepts in Text-to-Image Diffusion Models, arXiv
  2303.13516, section 3, with random classes as anchors.
  """

  def loss(params, key):
    keys = jax.random.split(key)
    batch = draw(task, forget, keys[0])
    away_B = 1 + (batch.spare_B * (task.model.num_classes - 1)).astype(int)
    anchor_B = (forgotten + away_B) % task.model.num_classes
    target_BxP = task.model.apply(base, batch.x_BxP, batch.time_B, anchor_B)
    kept = relabelled(task, draw(task, retain, keys[1]), forgotten)
    return _error(task, params, batch, target_BxP) + _error(
      task, params, kept, kept.noise_BxP
    )

  return loss


def distilling(task: Task, teacher: Params, rows: Rows, forgotten: int) -> Loss:
  """Return mean (e(x_t, t, l) - e_teacher(x_t, t, l))^2, also where l is the class.

  A label l is the image's, or the empty prompt, or the class's, see `relabelled`.
  """

  def loss(params, key):
    batch = relabelled(task, draw(task, rows, key), forgotten)
    target_BxP = task.model.apply(teacher, batch.x_BxP, batch.time_B, batch.label_B)
    return _error(task, params, batch, target_BxP)

  return loss


def relabelled(task: Task, batch: Batch, forgotten: int) -> Batch:
  """Return a batch in which a share `label_dropout` is labelled as the class."""
  is_relabelled_B = batch.spare_B < task.label_dropout
  return batch._replace(label_B=jnp.where(is_relabelled_B, forgotten, batch.label_B))


def _error(task: Task, params: Params, batch: Batch, target_BxP) -> jax.Array:
  predicted_BxP = task.model.apply(params, batch.x_BxP, batch.time_B, batch.label_B)
  return jnp.mean((predicted_BxP - jax.lax.stop_gradient(target_BxP)) ** 2)
