"""FLOPs from the jaxpr against closed forms and the compiler's own count."""

import jax
from jax.experimental import pallas as pl
import jax.numpy as jnp
import pytest

from undo_jax import testing
from undo_jax.hardware import flops
from undo_jax.models.decoder import Decoder

A = jax.ShapeDtypeStruct((4, 6, 8), jnp.float32)
W = jax.ShapeDtypeStruct((8, 8), jnp.float32)
ONE = 2 * 4 * 6 * 8 * 8  # A @ W.


def times(count):
  return lambda a, w: jax.lax.scan(lambda c, _: (c @ w, None), a, None, length=count)[0]


def either(a, w):
  return jax.lax.cond(a[0, 0, 0] > 0, lambda a: a @ w @ w, lambda a: a @ w, a)


def doubled_rows(a, w):
  return jax.vmap(lambda x: x @ w)(jnp.concatenate([a, a]))


@pytest.mark.parametrize(
  ("fn", "expected"),
  [
    (lambda a, w: a @ w, ONE),
    (jax.jit(lambda a, w: a @ w), ONE),
    (lambda a, w: jnp.einsum("bij,bkj->bik", a, a), 2 * 4 * 6 * 6 * 8),
    (times(7), 7 * ONE),
    (lambda a, w: times(3)(times(5)(a, w), w), 8 * ONE),
    (either, 2 * ONE),
    (doubled_rows, 2 * ONE),
    (lambda a, w: (a @ w, a)[1], 0),  # Nothing depends on it.
    # Forward, forward again, and two products of the gradient.
    (jax.grad(lambda a, w: jax.checkpoint(times(1))(a, w).sum(), (0, 1)), 3 * ONE),
    (jax.grad(lambda a, w: (times(1)(a, w) ** 2).sum(), (0, 1)), 3 * ONE),
    (
      jax.grad(lambda a, w: (jax.checkpoint(times(2))(a, w) ** 2).sum(), (0, 1)),
      # The inner results are needed again, the last one is not.
      (2 + 2 + 4) * ONE,
    ),
  ],
)
def test_products_count_as_often_as_they_are_made(fn, expected):
  assert flops.trace(fn, A, W) == flops.Counted(expected)


def test_a_convolution_is_what_the_compiler_counts():
  image = jax.ShapeDtypeStruct((2, 10, 10, 3), jnp.float32)
  kernel = jax.ShapeDtypeStruct((3, 3, 3, 5), jnp.float32)

  def fn(x, k):
    return jax.lax.conv_general_dilated(
      x, k, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )

  compiled = jax.jit(fn).lower(image, kernel).compile().cost_analysis()
  assert flops.trace(fn, image, kernel).flops == compiled["flops"]


def test_a_model_is_what_compute_accounting_says():
  config = testing.config(num_layers=3)
  decoder = Decoder(config)
  params = jax.eval_shape(decoder.init, jax.random.key(0))
  tokens = jax.ShapeDtypeStruct((2, 12), jnp.int32)
  fn = jax.jit(lambda params, tokens: decoder.apply(params, tokens).logits)
  assert flops.trace(fn, params, tokens).flops == 2 * flops.forward_flops(config, 12)


def test_a_loop_of_unknown_length_counts_once_and_says_so():
  def fn(a, w):
    return jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: c @ w, a)

  counted = flops.trace(fn, A, W)
  assert counted.flops == ONE and counted.uncounted == {"while": 1}


@pytest.mark.parametrize("stated", [None, 5])
def test_a_kernel_counts_what_it_states_or_its_body_at_every_point(stated):
  def body(a_ref, w_ref, out_ref):
    out_ref[...] = (a_ref[0] @ w_ref[...])[None]

  cost = None
  if stated:
    cost = pl.CostEstimate(flops=stated, transcendentals=0, bytes_accessed=0)
  fn = pl.pallas_call(
    body,
    grid=(4,),
    in_specs=[
      pl.BlockSpec((1, 6, 8), lambda i: (i, 0, 0)),
      pl.BlockSpec((8, 8), lambda i: (0, 0)),
    ],
    out_specs=pl.BlockSpec((1, 6, 8), lambda i: (i, 0, 0)),
    out_shape=A,
    interpret=True,
    cost_estimate=cost,
  )
  counted = flops.trace(times(3), A, W)
  counted.add(flops.trace(fn, A, W), times=2)
  assert counted == flops.Counted(3 * ONE + 2 * (stated or ONE), 2 * (stated or ONE))
