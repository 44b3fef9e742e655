"""Tests of new units and heads in the decoder."""

import functools

import jax
import numpy as np
import pytest

from undo_jax import testing
from undo_jax.models import expansion
from undo_jax.models.decoder import Decoder, shapes
from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.routing import era, masks
from undo_jax.utils import trees
from undo_jax.utils.types import ConfigError

CONFIGS = {
  "gemma2": testing.config(),
  "all biases, norms of heads, untied": testing.config(
    activation="silu",
    norm_offset=False,
    post_norms=False,
    qk_norm=True,
    tied=False,
    qkv_bias=True,
    out_bias=True,
    mlp_bias=True,
  ),
}
TOKENS = np.random.default_rng(5).integers(0, 16, (4, 8))
KEY = jax.random.key(1)
SIZES = {"mlp_units": 8, "kv_heads": 1}  # With 2 query heads of width 8.


# What is zero or has no gradient is asked of the model with every kind of parameter.
GEMMA2, EVERY = CONFIGS.values()


@functools.cache
def parameters(config):
  draw = np.random.default_rng(1).standard_normal
  drawn = jax.tree.map(lambda s: np.float32(0.4 * draw(s.shape)), shapes(config))
  return jax.device_put(drawn)


@functools.cache
def expand(config, **options):
  """Return what `expand` does, all parameters drawn by one program."""
  rest = []

  @jax.jit
  def draw(params):
    larger, params, grown = expansion.expand(config, params, KEY, **SIZES, **options)
    rest[:] = larger, grown
    return params

  params = draw(parameters(config))
  return rest[0], params, rest[1]


@functools.cache
def compiled(config):
  """Return (params, routes) -> (gradients, logits)."""

  def loss(params, routes):
    logits = Decoder(config).apply(params, TOKENS[:, :-1], routes=routes).logits
    return cross_entropy(logits, TOKENS[:, 1:], np.ones((4, 7))).mean(), logits

  run = jax.jit(jax.grad(loss, has_aux=True))
  return lambda params, routes: jax.device_get(run(params, routes))


def logits_of(config, params):
  return compiled(config)(params, {})[1]


@functools.cache
def plain(config):
  return jax.jit(lambda params: Decoder(config).apply(params, TOKENS[:, :-1]).logits)


def leaves(tree):
  return dict(zip(trees.paths(tree), jax.tree.leaves(tree), strict=True))


def new_of(tree, grown):
  """Return {path: the new entries}, cut out by hand."""
  return {
    path: np.moveaxis(np.asarray(leaves(tree)[path]), axis, -1)[..., old:]
    for path, (axis, old, _) in grown.params.items()
  }


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_expanded_model_computes_what_it_did(config):
  """T28."""
  params = parameters(config)
  larger, grown_params, grown = expand(config)
  assert (larger.mlp_width, larger.num_kv_heads, larger.num_heads) == (40, 3, 6)
  jax.tree.map(
    lambda s, x: np.testing.assert_equal(x.shape, s.shape), shapes(larger), grown_params
  )
  np.testing.assert_allclose(
    plain(larger)(grown_params), plain(config)(params), rtol=0, atol=1e-5
  )
  again, contracted = expansion.contract(larger, grown_params, grown)
  assert again == config
  jax.tree.map(np.testing.assert_array_equal, contracted, params)
  drawn = new_of(grown_params, grown)
  for path, new in drawn.items():
    is_zero = path.endswith(("bias", "out/kernel", "down/kernel"))
    assert bool(np.any(new)) is not is_zero, path


@functools.cache
def scratch(config):
  """Return an expanded model all of whose new entries matter, biases too."""
  larger, params, grown = expand(config, same_logits=False)
  rng = np.random.default_rng(2)

  def noised(x, is_new):
    noise = (0.4 * rng.standard_normal(x.shape)).astype(np.float32)
    return np.where(is_new, noise, x)

  is_new = jax.jit(lambda p: era.new_entries(p, grown))(params)
  return larger, jax.tree.map(noised, params, is_new), grown


def ablate(params, grown):
  return jax.jit(lambda x: era.ablate(x, grown))(params)


def test_the_ablated_model_computes_what_the_contracted_one_does():
  larger, params, grown = scratch(EVERY)
  smaller, contracted = expansion.contract(larger, params, grown)
  expected = np.asarray(plain(smaller)(contracted))
  assert np.abs(logits_of(larger, params) - expected).max() > 0.1
  ablated = logits_of(larger, ablate(params, grown))
  np.testing.assert_allclose(ablated, expected, rtol=0, atol=1e-5)


def test_ablated_units_and_heads_have_no_gradient():
  """T29, with its limit: what only leads nowhere grows again."""
  larger, params, grown = scratch(EVERY)
  grads, _ = compiled(larger)(ablate(params, grown), {})
  assert not any(np.any(new) for new in new_of(grads, grown).values())
  for path, grad in leaves(grads).items():
    assert np.any(grad), path
  outward = {
    path: growth
    for path, growth in grown.params.items()
    if "out" in path or "down" in path
  }
  one_side = ablate(params, era.Expansion(outward))
  grads, _ = compiled(larger)(one_side, {})
  for path, new in new_of(grads, era.Expansion(outward)).items():
    assert np.all(np.any(new != 0, axis=-1)), path


def test_other_layers_get_zeros_that_stay():
  larger, params, grown = expand(EVERY, layers=(1,), same_logits=False)
  grads, _ = compiled(larger)(params, {})
  for path, new in new_of(params, grown).items():
    assert not np.any(new[0]), path
    assert bool(np.any(new[1])) is not path.endswith("bias"), path
  for path, new in new_of(grads, grown).items():
    assert not np.any(new[0]) and np.any(new[1]), path


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_reserved_units_are_those_that_an_expansion_would_append(config):
  larger, _, grown = expand(config)
  assert expansion.reserve(larger, **SIZES) == grown


def test_forget_tokens_train_the_new_units_and_heads():
  larger, params, grown = scratch(GEMMA2)

  @jax.jit
  def routed(params):
    tables = era.masks_for(grown, params).tables
    return masks.routes(tables, np.zeros((4, 7), int), larger.num_layers)

  routes = routed(params)
  grads = leaves(compiled(larger)(params, routes)[0])
  for path, (axis, old, _) in grown.params.items():
    before, new = np.split(np.moveaxis(np.asarray(grads[path]), axis, -1), [old], -1)
    assert np.any(new), path
    # What leads out of old units still learns: see the table of where masks act.
    assert bool(np.any(before)) is ("out" in path or "down" in path), path


# ---- Bad input.


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (
      lambda: expansion.expand(GEMMA2, parameters(GEMMA2), KEY),
      "not both 0, got 0 and 0",
    ),
    (
      lambda: expansion.expand(
        GEMMA2, parameters(GEMMA2), KEY, mlp_units=-1, kv_heads=1
      ),
      "mlp_units >= 0 .* got -1 and 1",
    ),
    (
      lambda: expansion.expand(GEMMA2, expand(GEMMA2)[1], KEY, mlp_units=4),
      r"attention/key/kernel has the shape \(2, 16, 24\), .*\(2, 16, 16\).* expanded",
    ),
    (
      lambda: expansion.expand(
        GEMMA2, parameters(GEMMA2) | {"x": 1.0}, KEY, mlp_units=4
      ),
      "not those of the model's config: x",
    ),
    (
      lambda: expansion.expand(
        GEMMA2, parameters(GEMMA2), KEY, mlp_units=4, layers=(2,)
      ),
      r"lie in \[0, 2\), got \[2\]",
    ),
    (lambda: expansion.reserve(GEMMA2, mlp_units=32), "32 and 0 cannot be set aside"),
    (lambda: expansion.reserve(GEMMA2, kv_heads=2), "0 and 2 cannot be set aside"),
  ],
)
def test_bad_input_is_told(call, message):
  with pytest.raises(ConfigError, match=message):
    call()
