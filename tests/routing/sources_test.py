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
  return jnp.asarray(rng.standard_normal(shape), jnp.float32)


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


def losses(params, batches):
  return jnp.stack([loss(params, batches[name]) for name in NAMES])


def assert_close(got, expected, tolerance=1e-6):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(
      x, y, rtol=0, atol=tolerance * max(1.0, np.abs(y).max())
    ),
    got,
    expected,
  )


@pytest.mark.parametrize("together", [False, True])
def test_one_pullback_gives_the_gradients_of_separate_calls(together):
  """T25."""
  fn = sources.per_source_value_and_grad(losses, NAMES, together=together)
  values, grads = jax.jit(fn)(PARAMS, BATCHES)
  assert set(grads) == set(NAMES)
  for k, name in enumerate(NAMES):
    value, grad = jax.value_and_grad(loss)(PARAMS, BATCHES[name])
    np.testing.assert_allclose(values[k], value, rtol=1e-6)
    assert_close(grads[name], grad)


def test_losses_that_share_their_forward_pass_are_told_apart():
  def split(params, batch):
    x, y = batch
    hidden = jnp.tanh(x @ params["in"]["kernel"] + params["in"]["bias"])
    error = (hidden @ params["out"]["kernel"] + params["out"]["bias"] - y) ** 2
    return jnp.mean(error, axis=0), hidden

  fn = sources.per_source_value_and_grad(split, ("a", "b"), has_aux=True)
  values, grads, hidden = jax.jit(fn)(PARAMS, BATCHES["forget"])
  np.testing.assert_allclose(hidden, split(PARAMS, BATCHES["forget"])[1], rtol=1e-6)
  for k, name in enumerate(("a", "b")):
    value, grad = jax.value_and_grad(lambda p, k=k: split(p, BATCHES["forget"])[0][k])(
      PARAMS
    )
    np.testing.assert_allclose(values[k], value, rtol=1e-6)
    assert_close(grads[name], grad)


def test_gradients_by_source_of_a_population():
  population = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), PARAMS)
  fn = sources.per_source_value_and_grad(losses, NAMES)
  values, grads = jax.vmap(fn, (0, None))(population, BATCHES)
  for r in range(2):
    one = jax.tree.map(lambda x, r=r: x[r], population)
    expected = fn(one, BATCHES)
    assert_close((values[r], jax.tree.map(lambda x, r=r: x[r], grads)), expected)


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
  expected, total = jax.tree.map(np.zeros_like, PARAMS), 0.0
  for name in NAMES:
    loss_k, grad = jax.value_and_grad(loss)(PARAMS, BATCHES[name])
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
  by_parameters = jax.grad(
    lambda p: loss(sources.route_parameters(p, on_params), batch)
  )(PARAMS)
  by_activations = jax.grad(functools.partial(loss, mask=mask))(PARAMS, batch)
  assert_close(by_parameters, by_activations)


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


def test_sources_need_distinct_names_and_a_loss_each():
  for names in ((), ("a", "a")):
    with pytest.raises(ValueError, match="need distinct names"):
      sources.per_source_value_and_grad(losses, names)
  fn = sources.per_source_value_and_grad(losses, ("a", "b"))
  with pytest.raises(ValueError, match=r"shape \(2,\) of the sources .*got \(3,\)"):
    fn(PARAMS, BATCHES)
