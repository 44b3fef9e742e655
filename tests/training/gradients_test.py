"""Tests of loss and gradients over microbatches, on a model with closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from undo_jax.training.gradients import loss_and_gradients
from undo_jax.types import SumCount

B, D = 8, 3
KEY = jax.random.key(2)


def draw(seed: int = 0):
  rng = np.random.default_rng(seed)
  batch = {
    "x": rng.standard_normal((B, D)),
    "y": rng.standard_normal(B),
    "mask": np.array([1, 1, 1, 0, 1, 0, 0, 0]),
  }
  return {k: jnp.asarray(v, jnp.float32) for k, v in batch.items()}


PARAMS = {"w": jnp.array([0.5, -1.0, 2.0])}


def objective(params, frozen, batch, key):
  """Two terms with counts of their own: masked squares, and all of them."""
  del frozen, key
  squares = (batch["x"] @ params["w"] - batch["y"]) ** 2
  loss = SumCount(
    jnp.stack([jnp.sum(squares * batch["mask"]), 0.5 * jnp.sum(squares)]),
    jnp.stack([jnp.sum(batch["mask"]), jnp.float32(squares.size)]),
  )
  return loss, {"masked": SumCount(loss.sum[0], loss.count[0])}


def closed_form(batch):
  x, y, mask = (np.asarray(batch[k], np.float64) for k in ("x", "y", "mask"))
  error = x @ np.asarray(PARAMS["w"], np.float64) - y
  weight = mask / max(mask.sum(), 1) + 0.5 / B
  return (weight * error**2).sum(), 2 * (weight * error) @ x


@pytest.mark.parametrize("num_microbatches", [1, 2, 4, 8])
def test_loss_and_gradient_are_those_of_the_whole_batch(num_microbatches):
  batch = draw()
  fn = functools.partial(loss_and_gradients, objective)
  fn = jax.jit(functools.partial(fn, num_microbatches=num_microbatches))
  loss, grads, metrics = fn(PARAMS, None, batch, KEY)
  expected, expected_grad = closed_form(batch)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  np.testing.assert_allclose(grads["w"], expected_grad, rtol=2e-6)
  # Metrics stay undivided, so that they can still be added.
  assert metrics["masked"].count == 4


@pytest.mark.parametrize("num_microbatches", [1, 2])
def test_an_empty_mask_divides_by_one(num_microbatches):
  batch = draw() | {"mask": jnp.zeros(B)}
  loss, grads, _ = loss_and_gradients(
    objective, PARAMS, None, batch, KEY, num_microbatches=num_microbatches
  )
  expected, expected_grad = closed_form(batch)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  np.testing.assert_allclose(grads["w"], expected_grad, rtol=2e-6)


def test_each_microbatch_takes_every_ath_row_and_its_own_key():
  def recording(params, frozen, batch, key):
    del frozen
    noise = jax.random.normal(key)
    # Powers of the scale tell which rows were seen with which noise.
    return SumCount(params * noise * jnp.sum(batch["x"]), jnp.float32(1)), {}

  rows = {"x": 10.0 ** jnp.arange(6)}
  loss, grad, _ = loss_and_gradients(
    recording, jnp.float32(1), None, rows, KEY, num_microbatches=3
  )
  noise = [float(jax.random.normal(jax.random.fold_in(KEY, a))) for a in range(3)]
  assert len(set(noise)) == 3
  # Three microbatches of count 1 each.
  expected = sum(noise[a] * (10.0**a + 10.0 ** (a + 3)) for a in range(3)) / 3
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  np.testing.assert_allclose(grad, expected, rtol=1e-6)


@pytest.mark.parametrize("num_microbatches", [3, 16])
def test_microbatches_must_divide_the_batch(num_microbatches):
  message = f"num_microbatches={num_microbatches} must divide the batch of 8"
  with pytest.raises(ValueError, match=message):
    loss_and_gradients(
      objective, PARAMS, None, draw(), KEY, num_microbatches=num_microbatches
    )
