"""Tests of gradients by source against separate calls of jax.grad."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from undo_jax.routing import sources
from undo_jax.routing.activations import route
from undo_jax.utils import trees

NAMES = ("forget", "retain", "other")
F, D = 6, 4  # Hidden units and inputs.
KERNEL, BIAS = "in/kernel", "in/bias"


def draw(*shape, seed=0):
  rng = np.random.default_rng((seed, *shape))
  return rng.standard_normal(shape, np.float32)


PARAMS = {
  "in": {"kernel": draw(D, F), "bias": draw(F)},
  "out": {"kernel": draw(F, 2), "bias": draw(2)},
}
BATCHES = {
  name: (draw(5, D, seed=k), draw(5, 2, seed=k)) for k, name in enumerate(NAMES)
}


def loss(params, batch, mask=None):
  x, y = batch
  hidden = jnp.tanh(x @ params["in"]["kernel"] + params["in"]["bias"])
  hidden = hidden if mask is None else route(hidden, mask)
  return jnp.mean((hidden @ params["out"]["kernel"] + params["out"]["bias"] - y) ** 2)


def assert_close(got, expected, tolerance=1e-6):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(
      x, y, rtol=0, atol=tolerance * max(1.0, np.abs(y).max())
    ),
    got,
    expected,
  )


# ---- Masks on parameters.

MASKS = {
  "forget": trees.mask_from_rules(
    PARAMS,
    [
      (KERNEL, 1, range(4), -0.75),
      (BIAS, 0, range(4), -0.75),
      ("out/.*", None, 0, 0.0),
    ],
  ),
  "retain": trees.mask_from_rules(PARAMS, [("out/kernel", 0, 5, 0.5)]),
  "other": trees.mask_from_rules(PARAMS, []),
}
WEIGHTS = {"forget": 0.5, "retain": 2.0, "other": 1.0}


def routed_loss(params):
  return sum(
    WEIGHTS[name] * loss(sources.route_parameters(params, MASKS[name]), BATCHES[name])
    for name in NAMES
  )


def test_one_backward_pass_sums_the_masked_gradients_of_the_sources():
  value, got = jax.jit(jax.value_and_grad(routed_loss))(PARAMS)
  alone = jax.jit(jax.value_and_grad(loss))
  expected, total = jax.tree.map(np.zeros_like, PARAMS), 0.0
  for name in NAMES:
    loss_k, grad = alone(PARAMS, BATCHES[name])
    total += WEIGHTS[name] * loss_k
    expected = jax.tree.map(
      lambda e, m, g, w=WEIGHTS[name]: e + w * np.asarray(m) * np.asarray(g),
      expected,
      MASKS[name],
      grad,
    )
  np.testing.assert_allclose(value, total, rtol=1e-6)
  assert_close(got, expected)


def test_the_parameters_keep_their_values_bit_for_bit():
  got = jax.jit(sources.route_parameters)(PARAMS, MASKS["forget"])
  jax.tree.map(np.testing.assert_array_equal, got, PARAMS)


def test_a_mask_on_a_layers_input_side_is_a_mask_on_its_hidden_units():
  """T27, and its limit: behind the units nothing is masked."""
  mask = np.array([-0.75, 0.0, 1.0, 1.0, 0.5, 2.0], np.float32)
  on_params = {
    "in": {"kernel": mask[None], "bias": mask},
    "out": {"kernel": np.ones((1, 1)), "bias": np.ones(1)},
  }
  batch = BATCHES["forget"]

  @jax.jit
  def gradients(params):
    by_parameters = jax.grad(
      lambda p: loss(sources.route_parameters(p, on_params), batch)
    )(params)
    return by_parameters, jax.grad(functools.partial(loss, mask=mask))(params, batch)

  assert_close(*gradients(PARAMS))


# ---- Bad input.


@pytest.mark.parametrize(
  ("masks", "message"),
  [
    ({"in": PARAMS["in"]}, "missing: out/bias, out/kernel; unknown: none"),
    (PARAMS | {"head": 1.0}, "missing: none; unknown: head"),
    (
      PARAMS | {"in": {"kernel": np.ones((1, F + 1)), "bias": np.ones(1)}},
      r"mask of in/kernel must broadcast to \(4, 6\), got \(1, 7\)",
    ),
    (
      PARAMS | {"out": {"kernel": np.ones((1, 1)), "bias": np.ones((3, 2))}},
      r"mask of out/bias must broadcast to \(2,\), got \(3, 2\)",
    ),
  ],
)
def test_masks_unlike_the_parameters_are_errors(masks, message):
  with pytest.raises(ValueError, match=message):
    sources.route_parameters(PARAMS, masks)
