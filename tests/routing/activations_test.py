"""Tests of the routing identity."""

import functools

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

from undo_jax.routing.activations import (
  TokenMask,
  check_broadcastable,
  dense,
  mask_shape,
  route,
)

B, T, D = 2, 3, 4


route_compiled = jax.jit(route)
dense_compiled = jax.jit(dense)


def draw(shape, seed: int = 0):
  return np.random.default_rng(seed).standard_normal(shape, np.float32)


def gradient(fn):
  return jax.jit(jax.grad(fn))


def same_bits(one, two):
  assert one.dtype == two.dtype
  np.testing.assert_array_equal(
    np.asarray(one).view(np.uint8), np.asarray(two).view(np.uint8)
  )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("mask", [0.0, 1.0, 0.3, -0.75, -5e-8])
def test_the_value_is_exact_in_every_dtype(dtype, mask):
  x = draw((64, D)).astype(dtype)
  # Infinities, NaN and negative zero, which arithmetic would not keep.
  x[0] = [np.inf, -np.inf, np.nan, -0.0]
  mask = np.full((1, D), mask, np.float32)
  same_bits(route(x, mask), jnp.asarray(x))
  same_bits(route_compiled(x, mask), x)


MASKS = {
  "number": np.float32(0.3),
  "vector": draw((D,), 1),
  "rows": draw((B, 1, D), 2),
  "positions": draw((B, T, 1), 3),
  "all": draw((B, T, D), 4),
  "negative": np.full((1, 1, D), -0.75, np.float32),
  "zero": np.zeros((B, T, D), np.float32),
  "bool": np.array([[[True, False, True, False]]]),
  "int": np.array([[[2, 0, 1, -1]]], np.int32),
}


@gradient
def sine_gradient(x, mask, w):
  return jnp.sum(w * jnp.sin(route(x, mask)))


@pytest.mark.parametrize("name", MASKS)
def test_the_gradient_is_the_mask_times_that_of_the_value(name):
  mask, x, w = MASKS[name], draw((B, T, D)), draw((B, T, D), 9)
  got = sine_gradient(x, mask, w)
  x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
  expected = np.asarray(mask, np.float64) * w * np.cos(x)
  np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)


def test_the_gradient_keeps_the_dtype_of_the_activation():
  x = draw((D,)).astype(jnp.bfloat16)
  grad = jax.grad(lambda x: jnp.sum(route(x, jnp.array([0.5, 1, 0, -1]))))(x)
  assert grad.dtype == jnp.bfloat16
  np.testing.assert_array_equal(grad.astype(jnp.float32), [0.5, 1, 0, -1])


def test_forward_mode_agrees_with_reverse_mode():
  mask, x, tangent = draw((D,), 1), draw((D,)), draw((D,), 2)
  value, got = jax.jvp(lambda x: route(x, mask), (x,), (tangent,))
  same_bits(value, x)
  np.testing.assert_array_equal(got, np.asarray(mask) * np.asarray(tangent))


def test_the_mask_has_no_gradient():
  x, mask = draw((B, D)), draw((B, D), 1)
  got = gradient(lambda m: jnp.sum(jnp.sin(route(x, m)) * m))(mask)
  # What is left is the explicit factor m.
  np.testing.assert_allclose(got, np.sin(np.asarray(x, np.float64)), rtol=1e-6)


@pytest.mark.parametrize(
  "transform",
  [
    jax.jit,
    jax.checkpoint,
    lambda f: lambda x, m: jnp.sum(jax.vmap(f)(x[:, None], m[:, None])),
    lambda f: lambda x, m: lax.scan(lambda c, xm: (c + f(*xm), None), 0.0, (x, m))[0],
    lambda f: (
      lambda x, m: lax.scan(
        lambda c, xm: (c + jax.checkpoint(f)(*xm), None), 0.0, (x, m)
      )[0]
    ),
  ],
  ids=["jit", "remat", "vmap", "scan", "remat in scan"],
)
def test_the_gradient_is_routed_inside_transformations(transform):
  x, mask = draw((5, D)), draw((5, D), 1)
  loss = transform(lambda x, m: jnp.sum(jnp.sin(route(x, m))))
  expected = np.asarray(mask, np.float64) * np.cos(np.asarray(x, np.float64))
  grad = jax.grad(loss) if transform is jax.jit else gradient(loss)
  np.testing.assert_allclose(grad(x, mask), expected, rtol=1e-6, atol=1e-7)


def test_vmap_over_the_mask_alone_gives_one_gradient_a_mask():
  x, masks = draw((D,)), draw((3, D), 1)
  one = jax.grad(lambda x, m: jnp.sum(route(x, m)))
  got = jax.jit(jax.vmap(one, (None, 0)))(x, masks)
  np.testing.assert_array_equal(got, masks)


def test_nested_masks_multiply():
  a, b, x = draw((D,), 1), draw((D,), 2), draw((D,))
  got = gradient(lambda x: jnp.sum(route(route(x, a), b)))(x)
  np.testing.assert_allclose(got, np.asarray(a) * np.asarray(b), rtol=1e-6)


def test_second_derivatives_are_those_of_the_stop_gradient_form():
  mask, x = np.array([0.0, 1.0, 0.5, -0.75], np.float32), draw((D,))

  def by_stop_gradient(x):
    return mask * x + (1 - mask) * lax.stop_gradient(x)

  def second(identity):
    def f(x):
      return jnp.sum(jnp.sin(identity(x)) * jnp.roll(identity(x), 1))

    return jax.jit(lambda x: (jax.hessian(f)(x), jax.jacrev(jax.jacrev(f))(x)))(x)

  routed = second(lambda x: route(x, mask))
  for got, expected in zip(routed, second(by_stop_gradient), strict=True):
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_the_second_derivative_holds_the_mask_twice():
  mask, x = np.array([0.0, 1.0, 0.5, -0.75]), draw((D,))
  grad = jax.grad(lambda x: jnp.sum(jnp.sin(route(x, jnp.float32(mask)))))
  got = gradient(lambda x: jnp.sum(grad(x)))(x)
  expected = -(mask**2) * np.sin(np.asarray(x, np.float64))
  np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_a_mask_of_ones_leaves_the_gradient_bit_for_bit():
  x = draw((B, T, D))
  loss = functools.partial(lambda identity, x: jnp.sum(jnp.exp(identity(x))))
  plain = gradient(lambda x: loss(lambda y: y, x))(x)
  ones = np.ones((1, 1, D), np.float32)
  routed = gradient(lambda x: loss(lambda y: route(y, ones), x))(x)
  same_bits(routed, plain)


@pytest.mark.parametrize(
  ("mask", "x"),
  [
    ((3,), (4,)),
    ((2, 4), (4,)),  # Would enlarge the activation.
    ((2, 4), (1, 4)),
    ((1, 1, 4), (2, 4)),
    ((2, 1), (3, 4)),
  ],
)
def test_a_mask_that_does_not_broadcast_is_an_error(mask, x):
  message = r"must broadcast to its activation .*, got \("
  for fn in (route, jax.jit(route)):
    with pytest.raises(ValueError, match=message):
      fn(np.zeros(x), np.ones(mask))
  with pytest.raises(ValueError, match=message):
    check_broadcastable(np.ones(mask), x)


# ---- Masks in factors.

S = 3
WEIGHTS = draw((B, T, S), 5)


def by_loops(table, weights):
  """Sum the factors one token at a time in float64."""
  table, weights = np.asarray(table, np.float64), np.asarray(weights, np.float64)
  mask = np.zeros((*weights.shape[:2], *table.shape[1:]))
  for b, t, s in np.ndindex(*weights.shape):
    mask[b, t] += weights[b, t, s] * table[s]
  return mask


@pytest.mark.parametrize("units", [(D,), (D, 1), (2, D)])
@pytest.mark.parametrize("tokens", [(B, T), (B, 1), (1, T)])
def test_a_token_mask_is_the_sum_of_its_factors(units, tokens):
  mask = TokenMask(draw((S, *units), 1), draw((*tokens, S), 2))
  assert mask_shape(mask) == tokens + units
  actual = dense_compiled(mask)
  np.testing.assert_allclose(actual, by_loops(*mask), rtol=1e-5, atol=1e-6)


def test_one_hot_weights_choose_rows_exactly():
  table = np.float32([[-0.75, 1.0, 3.0], [1.0, 1.0, 1.0], [5e-8, 0.0, -2.0]])
  ids = np.array([[0, 2, 1], [2, 2, 0]])
  mask = TokenMask(table, np.eye(3, dtype=np.float32)[ids])
  np.testing.assert_array_equal(dense_compiled(mask), table[ids])


@pytest.mark.parametrize("units", [(D,), (D, 1)], ids=["units", "heads"])
@pytest.mark.parametrize("transform", [jax.jit, jax.checkpoint], ids=["jit", "remat"])
def test_the_gradient_under_a_token_mask_is_that_of_its_sum(units, transform):
  x = draw((B, T, D) if units == (D,) else (B, T, D, 5))
  mask = TokenMask(draw((S, *units), 1), WEIGHTS)
  same_bits(jax.jit(transform(route))(x, mask), x)
  got = gradient(transform(lambda x: jnp.sum(jnp.sin(route(x, mask)))))(x)
  expected = by_loops(*mask) * np.cos(np.asarray(x, np.float64))
  np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_a_token_mask_is_routed_in_forward_mode_and_twice():
  x, mask = draw((B, T, D)), TokenMask(draw((S, D), 1), WEIGHTS)
  weights = by_loops(*mask)
  sin, cos = (f(np.asarray(x, np.float64)) for f in (np.sin, np.cos))
  sine = lambda x: jnp.sin(route(x, mask))  # noqa: E731
  _, got = jax.jit(lambda x: jax.jvp(sine, (x,), (x * 0 + 1,)))(x)
  np.testing.assert_allclose(got, weights * cos, rtol=1e-5, atol=1e-6)
  grad = jax.grad(lambda x: jnp.sum(sine(x)))
  got = gradient(lambda x: jnp.sum(grad(x)))(x)
  np.testing.assert_allclose(got, -(weights**2) * sin, rtol=1e-5, atol=1e-6)


def test_a_token_mask_of_a_low_precision_activation_is_rounded_once():
  x = draw((B, T, D)).astype(jnp.bfloat16)
  mask = TokenMask(draw((S, D), 1), WEIGHTS)
  got = gradient(lambda x: jnp.sum(route(x, mask)))(x)
  assert got.dtype == jnp.bfloat16
  # Half a unit in the last of eight bits; sums of rounded products would be off more.
  np.testing.assert_allclose(np.float64(got), by_loops(*mask), rtol=2**-8, atol=1e-6)


def test_token_masks_of_a_population_differ_by_their_tables():
  x, tables = draw((B, T, D)), draw((4, S, D), 1)

  def grad(table):
    mask = TokenMask(table, WEIGHTS)
    return jax.grad(lambda x: jnp.sum(route(x, mask)))(x)

  expected = [by_loops(table, WEIGHTS) for table in tables]
  np.testing.assert_allclose(
    jax.jit(jax.vmap(grad))(tables), expected, rtol=1e-5, atol=1e-6
  )


def test_a_scan_keeps_the_factors_and_not_the_masks():
  """Layer of 512 units: their masks would take ten times what all else does."""
  N, F = 16, 512
  rows = np.ones((8, 32, F), np.float32)

  def memory(mask, axes):
    def loss(scale, x):
      def layer(x, scale_and_mask):
        scale, mask = scale_and_mask
        return route(x * scale, TokenMask(mask, mask_weights) if axes else mask), None

      return jnp.sum(lax.scan(layer, x, (scale, mask))[0])

    compiled = jax.jit(jax.grad(loss)).lower(np.ones(N, np.float32), rows).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  ones = functools.partial(np.ones, dtype=np.float32)
  mask_weights = ones((8, 32, 2))
  factors = memory(ones((N, 2, F)), True)
  whole = memory(ones((N, 8, 32, F)), False)
  # What both keep: the input of each layer, as large as its mask would be.
  assert factors < whole + 2**20 and factors < 1.3 * N * rows.nbytes


@pytest.mark.parametrize(
  ("table", "weights", "message"),
  [
    ((S, D), (B, T, S + 1), "with one S, got .*3, 4. and .2, 3, 4"),
    ((S, D), (B, S), "needs a table"),
    ((S,), (B, T, S), "needs a table"),
    ((S, D + 1), (B, T, S), "must broadcast to its activation .2, 3, 4., got .2, 3, 5"),
    ((S, D), (B + 1, T, S), "must broadcast"),
  ],
)
def test_factors_that_do_not_fit_are_errors(table, weights, message):
  mask = TokenMask(np.ones(table), np.ones(weights))
  for fn in (route, jax.jit(route)):
    with pytest.raises(ValueError, match=message):
      fn(np.zeros((B, T, D)), mask)
