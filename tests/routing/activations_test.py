"""Tests of the routing identity."""

import functools

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

from undo_jax.routing.activations import check_broadcastable, route

B, T, D = 2, 3, 4


def draw(shape, seed: int = 0):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


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
  x = x.at[0].set(jnp.array([jnp.inf, -jnp.inf, jnp.nan, -0.0], dtype))
  same_bits(route(x, jnp.full((1, D), mask)), x)
  same_bits(jax.jit(route)(x, jnp.full((1, D), mask)), x)


MASKS = {
  "number": np.float32(0.3),
  "vector": draw((D,), 1),
  "rows": draw((B, 1, D), 2),
  "positions": draw((B, T, 1), 3),
  "all": draw((B, T, D), 4),
  "negative": -0.75 * jnp.ones((1, 1, D)),
  "zero": jnp.zeros((B, T, D)),
  "bool": np.array([[[True, False, True, False]]]),
  "int": np.array([[[2, 0, 1, -1]]], np.int32),
}


@pytest.mark.parametrize("name", MASKS)
def test_the_gradient_is_the_mask_times_that_of_the_value(name):
  mask, x, w = MASKS[name], draw((B, T, D)), draw((B, T, D), 9)
  got = jax.grad(lambda x: jnp.sum(w * jnp.sin(route(x, mask))))(x)
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
  got = jax.grad(lambda m: jnp.sum(jnp.sin(route(x, m)) * m))(mask)
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
  for grad in (jax.grad(loss), jax.jit(jax.grad(loss))):
    np.testing.assert_allclose(grad(x, mask), expected, rtol=1e-6, atol=1e-7)


def test_vmap_over_the_mask_alone_gives_one_gradient_a_mask():
  x, masks = draw((D,)), draw((3, D), 1)
  got = jax.vmap(jax.grad(lambda x, m: jnp.sum(route(x, m))), (None, 0))(x, masks)
  np.testing.assert_array_equal(got, masks)


def test_nested_masks_multiply():
  a, b, x = draw((D,), 1), draw((D,), 2), draw((D,))
  got = jax.grad(lambda x: jnp.sum(route(route(x, a), b)))(x)
  np.testing.assert_allclose(got, np.asarray(a) * np.asarray(b), rtol=1e-6)


def test_second_derivatives_are_those_of_the_stop_gradient_form():
  mask, x = jnp.array([0.0, 1.0, 0.5, -0.75]), draw((D,))

  def by_stop_gradient(x):
    return mask * x + (1 - mask) * lax.stop_gradient(x)

  def second(identity):
    def f(x):
      return jnp.sum(jnp.sin(identity(x)) * jnp.roll(identity(x), 1))

    return jax.hessian(f)(x), jax.jacrev(jax.jacrev(f))(x)

  routed = second(lambda x: route(x, mask))
  for got, expected in zip(routed, second(by_stop_gradient), strict=True):
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_the_second_derivative_holds_the_mask_twice():
  mask, x = np.array([0.0, 1.0, 0.5, -0.75]), draw((D,))
  grad = jax.grad(lambda x: jnp.sum(jnp.sin(route(x, jnp.float32(mask)))))
  got = jax.grad(lambda x: jnp.sum(grad(x)))(x)
  expected = -(mask**2) * np.sin(np.asarray(x, np.float64))
  np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_a_mask_of_ones_leaves_the_gradient_bit_for_bit():
  x = draw((B, T, D))
  loss = functools.partial(lambda identity, x: jnp.sum(jnp.exp(identity(x))))
  plain = jax.grad(lambda x: loss(lambda y: y, x))(x)
  routed = jax.grad(lambda x: loss(lambda y: route(y, jnp.ones((1, 1, D))), x))(x)
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
      fn(jnp.zeros(x), jnp.ones(mask))
  with pytest.raises(ValueError, match=message):
    check_broadcastable(jnp.ones(mask), x)
