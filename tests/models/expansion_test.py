"""Tests of new units and heads in the decoder."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from undo_jax import testing
from undo_jax.models import expansion
from undo_jax.models.decoder import Decoder
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
BATCH = testing.batch(jax.random.key(5), rows=4, length=7)
KEY = jax.random.key(1)
SIZES = {"mlp_units": 8, "kv_heads": 1}  # With 2 query heads of width 8.


@pytest.fixture(scope="module", params=CONFIGS)
def config(request):
  return CONFIGS[request.param]


@functools.cache
def parameters(config):
  shapes = jax.eval_shape(Decoder(config).init, jax.random.key(0))
  draw = np.random.default_rng(1).standard_normal
  return jax.tree.map(lambda s: jnp.asarray(0.4 * draw(s.shape), jnp.float32), shapes)


@functools.cache
def compiled(config):
  """Returns (params, routes) -> (gradients, logits)."""

  def loss(params, routes):
    logits = Decoder(config).apply(params, BATCH["inputs"], routes=routes).logits
    return cross_entropy(logits, BATCH["targets"], BATCH["mask"]).mean(), logits

  return jax.jit(jax.grad(loss, has_aux=True))


def logits_of(config, params):
  return compiled(config)(params, {})[1]


@functools.cache
def plain(config):
  return jax.jit(lambda params: Decoder(config).apply(params, BATCH["inputs"]).logits)


def leaves(tree):
  return dict(zip(trees.paths(tree), jax.tree.leaves(tree), strict=True))


def new_of(tree, grown):
  """Returns {path: the new entries}, cut out by hand."""
  return {
    path: np.asarray(jnp.moveaxis(leaves(tree)[path], axis, -1))[..., old:]
    for path, (axis, old, _) in grown.params.items()
  }


def test_the_expanded_model_computes_what_it_did(config):
  """T28."""
  params = parameters(config)
  larger, grown_params, grown = expansion.expand(config, params, KEY, **SIZES)
  assert (larger.mlp_width, larger.num_kv_heads, larger.num_heads) == (40, 3, 6)
  shapes = jax.eval_shape(Decoder(larger).init, KEY)
  jax.tree.map(
    lambda s, x: np.testing.assert_equal(x.shape, s.shape), shapes, grown_params
  )
  np.testing.assert_allclose(
    logits_of(larger, grown_params), plain(config)(params), rtol=0, atol=1e-5
  )
  again, contracted = expansion.contract(larger, grown_params, grown)
  assert again == config
  jax.tree.map(np.testing.assert_array_equal, contracted, params)
  drawn = new_of(grown_params, grown)
  for path, new in drawn.items():
    is_zero = path.endswith(("bias", "out/kernel", "down/kernel"))
    assert bool(np.any(new)) is not is_zero, path


@pytest.fixture(scope="module")
def scratch(config):
  """An expanded model all of whose new entries matter, biases too."""
  larger, params, grown = expansion.expand(
    config, parameters(config), KEY, **SIZES, same_logits=False
  )
  rng = np.random.default_rng(2)
  noise = jax.tree.map(
    lambda x: jnp.asarray(0.4 * rng.standard_normal(x.shape)), params
  )
  is_new = era.new_entries(params, grown)
  params = jax.tree.map(lambda x, n, new: jnp.where(new, n, x), params, noise, is_new)
  return larger, params, grown


def test_the_ablated_model_computes_what_the_contracted_one_does(config, scratch):
  larger, params, grown = scratch
  smaller, contracted = expansion.contract(larger, params, grown)
  expected = plain(smaller)(contracted)
  assert np.abs(logits_of(larger, params) - expected).max() > 0.1
  ablated = logits_of(larger, era.ablate(params, grown))
  np.testing.assert_allclose(ablated, expected, rtol=0, atol=1e-5)


def test_ablated_units_and_heads_have_no_gradient(config, scratch):
  """T29, with its limit: what only leads nowhere grows again."""
  larger, params, grown = scratch
  grads, _ = compiled(larger)(era.ablate(params, grown), {})
  assert not any(np.any(new) for new in new_of(grads, grown).values())
  for path, grad in leaves(grads).items():
    assert np.any(grad), path
  outward = {
    path: growth
    for path, growth in grown.params.items()
    if "out" in path or "down" in path
  }
  one_side = era.ablate(params, era.Expansion(outward))
  grads, _ = compiled(larger)(one_side, {})
  for path, new in new_of(grads, era.Expansion(outward)).items():
    assert np.all(np.any(new != 0, axis=-1)), path


def test_other_layers_get_zeros_that_stay(config):
  larger, params, grown = expansion.expand(
    config, parameters(config), KEY, **SIZES, layers=(1,), same_logits=False
  )
  grads, _ = compiled(larger)(params, {})
  for path, new in new_of(params, grown).items():
    assert not np.any(new[0]), path
    assert bool(np.any(new[1])) is not path.endswith("bias"), path
  for path, new in new_of(grads, grown).items():
    assert not np.any(new[0]) and np.any(new[1]), path


def test_reserved_units_are_those_that_an_expansion_would_append(config, scratch):
  larger, _, grown = scratch
  assert expansion.reserve(larger, **SIZES) == grown


@pytest.mark.parametrize("config", ["gemma2"], indirect=True)
def test_forget_tokens_train_the_new_units_and_heads(config, scratch):
  larger, params, grown = scratch
  tables = era.masks_for(grown, params).tables
  ids = jnp.zeros((4, 7), int)
  routes = masks.routes(tables, ids, larger.num_layers)
  grads = leaves(compiled(larger)(params, routes)[0])
  for path, (axis, old, _) in grown.params.items():
    before, new = np.split(np.moveaxis(np.asarray(grads[path]), axis, -1), [old], -1)
    assert np.any(new), path
    # What leads out of old units still learns: see the table of where masks act.
    assert bool(np.any(before)) is ("out" in path or "down" in path), path


# ---- Bad input.

PARAMS = parameters(CONFIGS["gemma2"])
PLAIN = CONFIGS["gemma2"]
EXPANDED = expansion.expand(PLAIN, PARAMS, KEY, mlp_units=4)[1]


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: expansion.expand(PLAIN, PARAMS, KEY), "not both 0, got 0 and 0"),
    (
      lambda: expansion.expand(PLAIN, PARAMS, KEY, mlp_units=-1, kv_heads=1),
      "mlp_units >= 0 .* got -1 and 1",
    ),
    (
      lambda: expansion.expand(PLAIN, EXPANDED, KEY, mlp_units=4),
      r"layers/mlp/down/kernel has the shape \(2, 36, 16\), .*\(2, 32, 16\).* expanded",
    ),
    (
      lambda: expansion.expand(PLAIN, PARAMS | {"x": 1.0}, KEY, mlp_units=4),
      "not those of the model's config: x",
    ),
    (
      lambda: expansion.expand(PLAIN, PARAMS, KEY, mlp_units=4, layers=(2,)),
      r"lie in \[0, 2\), got \[2\]",
    ),
    (lambda: expansion.reserve(PLAIN, mlp_units=32), "32 and 0 cannot be set aside"),
    (lambda: expansion.reserve(PLAIN, kv_heads=2), "0 and 2 cannot be set aside"),
  ],
)
def test_bad_input_is_told(call, message):
  with pytest.raises(ConfigError, match=message):
    call()
