"""Losses on a model that predicts what its label says; updates against optax."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.direct_inversion import schedule, training
from experiments.direct_inversion.training import Rows, Task

BARS = schedule.alpha_bars()
IMAGES, LABELS = np.arange(6.0)[:, None] * np.ones(2), np.array([0, 1, 2, 0, 1, 2])


def of_label(params, x_BxP, time, label):
  """Predict params[label] for every pixel."""
  del time
  return params[label][:, None] * jnp.ones_like(x_BxP)


def task(dropout=0.0, apply=of_label):
  model = types.SimpleNamespace(pixels=2, num_classes=3, apply=apply)
  bars = jnp.asarray(BARS, jnp.float32)
  images = jnp.asarray(IMAGES, jnp.float32)
  return Task(model, images, jnp.asarray(LABELS), bars, 4_000, dropout)


def rows(*index):
  return Rows(jnp.asarray([*index, 5, 5]), jnp.asarray(len(index)))


KEY = jax.random.key(0)


def test_batches_are_noised_images_of_the_rows_at_all_times():
  batch = training.draw(task(dropout=0.25), rows(1, 3), KEY)
  bars = BARS[np.asarray(batch.time_B)][:, None]
  clean = (batch.x_BxP - np.sqrt(1 - bars) * batch.noise_BxP) / np.sqrt(bars)
  near = np.round(np.asarray(clean[:, 0]))
  easy = np.asarray(batch.time_B) < 700  # Later float32 leaves too few digits.
  assert set(near[easy]) == {1.0, 3.0}
  assert near[easy].mean() == pytest.approx(2, abs=0.1)
  dropped = np.asarray(batch.label_B) == 3
  assert dropped.mean() == pytest.approx(0.25, abs=0.03)
  kept = easy & ~dropped
  assert np.all(np.asarray(batch.label_B)[kept] == LABELS[near[kept].astype(int)])
  times = np.asarray(batch.time_B)
  assert times.min() < 5 and times.max() > 994
  assert times.mean() == pytest.approx(499.5, abs=20)
  assert np.std(batch.noise_BxP) == pytest.approx(1, abs=0.03)


def test_predicting_nothing_costs_the_variance_of_the_noise():
  loss = training.denoising(task(), rows(0, 1, 2))(jnp.zeros(4), KEY)
  assert float(loss) == pytest.approx(1, abs=0.05)


def test_unlearning_asks_the_others_of_the_base_and_keeps_them():
  """Clas 1 is forgotten; the base predicts 10 for it, 2 and 4 for the others."""
  base = jnp.array([2.0, 10.0, 4.0, 7.0])
  loss = training.unlearning(task(), base, rows(1, 4), rows(0, 2, 3), 1)
  silent = float(loss(jnp.zeros(4), KEY))
  assert silent == pytest.approx((2**2 + 4**2) / 2 + 1, abs=0.4)
  # Least where the class is predicted as the mean of the others.
  assert float(loss(jnp.array([0.0, 3, 0, 0]), KEY)) == pytest.approx(2, abs=0.1)
  # With labels dropped the empty prompt is unlearned too, and the class is asked of the
  # other images.
  loss = training.unlearning(task(dropout=0.5), base, rows(1, 4), rows(0, 2, 3), 1)
  grads = jax.grad(loss)(jnp.zeros(4), KEY)
  # d/dp_l: half of the rows ask for 3 (mean); the noise has mean 0.
  np.testing.assert_allclose(grads[jnp.array([1, 3])], [-3, -3], atol=0.35)


def test_distillation_compares_all_labels_with_the_teacher():
  teacher, dropout = jnp.array([0.0, 5.0, 0.0, 0.0]), 0.25
  loss = training.distilling(task(dropout), teacher, rows(0, 2), 1)
  # Rows of no label 1: it stands in a share of them all the same.
  assert float(loss(jnp.zeros(4), KEY)) == pytest.approx(25 * dropout, abs=0.7)
  assert float(loss(teacher, KEY)) == 0


@pytest.mark.parametrize("decay", [True, False])
def test_updates_are_adams_with_half_a_cosine(decay):
  goal = jnp.array([1.0, -2.0, 0.5])

  def loss(params, key):
    return jnp.sum((params["x"] - goal * jax.random.uniform(key)) ** 2)

  params, steps = {"x": jnp.zeros(3)}, 5
  got = training.descend(
    loss, params, KEY, num_updates=steps, learning_rate=0.1, decay=decay
  )
  optimizer = optax.adam(optax.cosine_decay_schedule(0.1, steps) if decay else 0.1)

  @jax.jit
  def update(params, state, index):
    grads = jax.grad(loss)(params, jax.random.fold_in(KEY, index))
    updates, state = optimizer.update(grads, state)
    return optax.apply_updates(params, updates), state

  state = optimizer.init(params)
  for index in range(steps):
    params, state = update(params, state, index)
  np.testing.assert_allclose(got["x"], params["x"], rtol=1e-5)
