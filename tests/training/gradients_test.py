"""Tests of loss and gradients over microbatches, on a model with closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from undo_jax.training.gradients import by_source, loss_and_gradients, sharpness_aware
from undo_jax.utils.types import SumCount

B, D = 8, 3
KEY = jax.random.key(2)


def draw(seed: int = 0):
  rng = np.random.default_rng(seed)
  batch = {
    "x": rng.standard_normal((B, D)),
    "y": rng.standard_normal(B),
    "mask": np.array([1, 1, 1, 0, 1, 0, 0, 0]),
  }
  return {k: np.float32(v) for k, v in batch.items()}


PARAMS = {"w": np.float32([0.5, -1.0, 2.0])}


@functools.cache
def compiled(fn, objective, **options):
  return jax.jit(functools.partial(fn, objective, **options))


def run(fn, objective, params, batch=None, **options):
  return jax.device_get(compiled(fn, objective, **options)(params, None, batch, KEY))


def objective(params, frozen, batch, key):
  """Two terms with counts of their own: masked squares, and all of them."""
  del frozen, key
  squares = (batch["x"] @ params["w"] - batch["y"]) ** 2
  loss = SumCount(
    jnp.stack([jnp.sum(squares * batch["mask"]), 0.5 * jnp.sum(squares)]),
    jnp.stack([jnp.sum(batch["mask"]), jnp.float32(squares.size)]),
  )
  return loss, {"masked": SumCount(loss.sum[0], loss.count[0])}


def closed_form(batch, w=(0.5, -1.0, 2.0)):
  x, y, mask = (np.asarray(batch[k], np.float64) for k in ("x", "y", "mask"))
  error = x @ np.asarray(w, np.float64) - y
  weight = mask / max(mask.sum(), 1) + 0.5 / B
  return (weight * error**2).sum(), 2 * (weight * error) @ x


@pytest.mark.parametrize("num_microbatches", [1, 2, 4, 8])
def test_loss_and_gradient_are_those_of_the_whole_batch(num_microbatches):
  batch = draw()
  loss, grads, metrics = run(
    loss_and_gradients, objective, PARAMS, batch, num_microbatches=num_microbatches
  )
  expected, expected_grad = closed_form(batch)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  np.testing.assert_allclose(grads["w"], expected_grad, rtol=2e-6)
  # Metrics stay undivided, so that they can still be added.
  assert metrics["masked"].count == 4


@pytest.mark.parametrize("num_microbatches", [1, 2])
def test_an_empty_mask_divides_by_one(num_microbatches):
  batch = draw() | {"mask": np.zeros(B, np.float32)}
  loss, grads, _ = run(
    loss_and_gradients, objective, PARAMS, batch, num_microbatches=num_microbatches
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

  rows = {"x": np.float32(10) ** np.arange(6, dtype=np.float32)}
  loss, grad, _ = run(
    loss_and_gradients, recording, np.float32(1), rows, num_microbatches=3
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


# ---- Sharpness-aware minimization.


sam = functools.cache(sharpness_aware)


@pytest.mark.parametrize(
  ("rho", "num_microbatches"), [(0.05, 1), (0.05, 4), (3.0, 1), (3.0, 2)]
)
def test_sam_takes_the_gradient_of_the_whole_batch_uphill_of_it(rho, num_microbatches):
  batch = draw()
  loss, grads, metrics = run(
    sam(rho), objective, PARAMS, batch, num_microbatches=num_microbatches
  )
  here, uphill = closed_form(batch)
  w = np.asarray(PARAMS["w"], np.float64) + rho * uphill / np.linalg.norm(uphill)
  np.testing.assert_allclose(grads["w"], closed_form(batch, w)[1], rtol=2e-6)
  # Loss and metrics are those before the perturbation.
  np.testing.assert_allclose(loss, here, rtol=1e-6)
  plain = run(loss_and_gradients, objective, PARAMS, batch)[2]["masked"].mean()
  np.testing.assert_allclose(metrics["masked"].mean(), plain, rtol=1e-6)


def half_square(params, frozen, batch, key):
  """Half the squared norm, whose gradient is the point where it is taken."""
  del frozen, batch, key
  total = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))
  return SumCount(0.5 * total, jnp.float32(1)), {}


POINT = {
  "matrix": np.random.default_rng(3).standard_normal((3, 4), np.float32),
  "vector": np.float32([7.0, -3.0]),
}
ROWS = {"x": np.zeros(2, np.float32)}


def perturbation(rho, point=POINT, **options):
  grads = run(sam(rho, **options), half_square, point, ROWS)[1]
  return jax.tree.map(lambda g, p: np.float64(g) - np.float64(p), grads, point)


def norm(tree):
  return np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(tree)))


@pytest.mark.parametrize("rho", [0.01, 0.5, 20.0])
def test_the_perturbation_has_the_norm_rho_over_all_parameters(rho):
  moved = perturbation(rho)
  np.testing.assert_allclose(norm(moved), rho, rtol=1e-6, atol=1e-6)
  assert norm(moved["matrix"]) > 0.2 * rho and norm(moved["vector"]) > 0.2 * rho


def test_what_is_not_trained_is_not_perturbed_and_does_not_count():
  moved = perturbation(0.5, trainable=(("matrix", 0, (0, 2), 1.0),))
  np.testing.assert_allclose(norm(moved), 0.5, rtol=1e-5)
  assert not np.any(moved["vector"]) and not np.any(moved["matrix"][1])
  rows = np.asarray(POINT["matrix"])[[0, 2]]
  expected = 0.5 * rows / np.linalg.norm(rows)
  np.testing.assert_allclose(moved["matrix"][[0, 2]], expected, rtol=1e-5, atol=1e-6)


def test_rho_zero_is_the_plain_gradient_bit_for_bit():
  assert sharpness_aware(0.0) is loss_and_gradients


def test_a_zero_gradient_is_not_divided_by():
  zeros = jax.tree.map(np.zeros_like, POINT)
  assert norm(perturbation(0.5, zeros)) == 0.0


def test_sam_is_that_of_optax_on_one_batch():
  batch, rho, rate = draw(), 0.3, 0.1
  other = optax.contrib.sam(
    optax.sgd(rate),
    optax.chain(optax.contrib.normalize(), optax.sgd(rho)),
    opaque_mode=True,
  )

  def grad_fn(params, _):
    return loss_and_gradients(objective, params, None, batch, KEY)[1]

  @jax.jit
  def update(params, state):
    updates, state = other.update(grad_fn(params, 0), state, params, grad_fn=grad_fn)
    return optax.apply_updates(params, updates), state

  params, state = PARAMS, jax.jit(other.init)(PARAMS)
  mine = PARAMS
  for _ in range(3):
    params, state = update(params, state)
    grads = run(sam(rho), objective, mine, batch)[1]
    mine = jax.tree.map(lambda p, g: p - rate * g, mine, grads)
  np.testing.assert_allclose(mine["w"], params["w"], rtol=1e-5)


def test_a_negative_rho_is_an_error():
  with pytest.raises(ValueError, match="rho must be at least 0, got -0.1"):
    sharpness_aware(-0.1)


@pytest.mark.parametrize("num_microbatches", [1, 4])
def test_gradients_by_source_are_those_of_each_copy(num_microbatches):
  batch, factor = draw(), {"forget": 2.0, "retain": -1.0}

  def between(params, frozen, batch, key):
    """Of 2 * forget - retain, which is `w` where both are."""
    mixed = sum(factor[name] * params[name]["w"] for name in factor)
    return objective({"w": mixed}, frozen, batch, key)

  loss, grads, _ = run(
    by_source(factor), between, PARAMS, batch, num_microbatches=num_microbatches
  )
  expected, expected_grad = closed_form(batch)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  assert set(grads) == set(factor)
  for name, scale in factor.items():
    np.testing.assert_allclose(grads[name]["w"], scale * expected_grad, rtol=2e-6)
