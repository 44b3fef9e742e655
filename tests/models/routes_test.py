"""Tests of what routing masks do to a whole decoder, and of masks in factors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from undo_jax import testing
from undo_jax.distributed import sharding
from undo_jax.models.decoder import NODES, Decoder
from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.routing import masks
from undo_jax.routing.activations import TokenMask, dense

N, B, L = 3, 4, 6
CONFIG = testing.config(num_layers=N, attention_softcap=5.0)
F, H, D = CONFIG.mlp_width, CONFIG.num_heads, CONFIG.width
OLD = 24  # Of the 32 MLP units; the others are where forget data is routed.
BATCH = testing.batch(jax.random.key(3), rows=B, length=L)
UNITS = {"mlp/hidden": (F,), "attention/heads": (H, 1)}
RNG = np.random.default_rng(0)


@functools.cache
def parameters():
  """Draw parameters of a size at which every part matters."""
  shapes = jax.eval_shape(Decoder(CONFIG).init, jax.random.key(0))
  draw = np.random.default_rng(1).standard_normal
  return jax.tree.map(lambda s: jnp.asarray(0.4 * draw(s.shape), jnp.float32), shapes)


def units(node):
  return UNITS.get(node, (D,))


def without_attention(params):
  attention = dict(params["layers"]["attention"])
  attention["out"] = jax.tree.map(jnp.zeros_like, attention["out"])
  return params | {"layers": params["layers"] | {"attention": attention}}


@functools.cache
def compiled(**changes):
  model = Decoder(
    testing.config(**{"num_layers": N, "attention_softcap": 5.0} | changes)
  )

  def loss(params, routes, weights_BxL, batch):
    logits = model.apply(params, batch["inputs"], routes=routes).logits
    return cross_entropy(logits, batch["targets"], weights_BxL).sum

  return jax.jit(jax.value_and_grad(loss))


IDS = jnp.asarray(RNG.integers(0, 3, (B, L)))
ALL = jnp.ones((B, L))


def ones():
  """Return factors for every node that route nothing."""
  return {
    node: masks.at_layers(
      masks.select(masks.make_table(jnp.ones(units(node)), jnp.ones(units(node))), IDS),
      N,
    )
    for node in NODES
  }


def run(weights=ALL, params=None, **routes):
  routes = ones() | {name.replace("__", "/"): mask for name, mask in routes.items()}
  params = parameters() if params is None else params
  return compiled()(params, routes, weights, BATCH)


def forget_mask(ids, layers=None):
  """Return factors whose row 0 closes the old MLP units."""
  row = (jnp.arange(F) >= OLD).astype(jnp.float32)
  table = masks.make_table(row, jnp.ones(F))
  return masks.at_layers(masks.select(table, ids), N, layers)


def assert_close(got, expected, tolerance=3e-6):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(
      x, y, rtol=0, atol=tolerance * np.abs(y).max()
    ),
    got,
    expected,
  )


def drawn(layers=None):
  return {
    node: masks.at_layers(
      masks.select(
        masks.make_table(*RNG.uniform(-1, 1, (2, *units(node))).astype(np.float32)), IDS
      ),
      N,
      layers,
    )
    for node in NODES
  }


def whole(mask):
  """Return the factors multiplied out, [N, B, L, ...units]."""
  return jnp.stack(
    [dense(TokenMask(table, mask.weights_BxLxS)) for table in mask.table]
  )


@pytest.fixture(scope="module")
def routed():
  routes = drawn(layers=(0, 2))
  return routes, compiled()(parameters(), routes, ALL, BATCH)


def test_factors_route_as_the_masks_they_stand_for(routed):
  routes, got = routed
  expected = compiled()(
    parameters(), {name: whole(mask) for name, mask in routes.items()}, ALL, BATCH
  )
  assert_close(got, expected)


def test_eight_devices_that_recompute_layers_route_as_one(routed):
  routes, expected = routed
  mesh = testing.mesh(8, data=4, fsdp=1, tensor=2)
  batch = sharding.put_batch(
    {"batch": BATCH, "ids": np.asarray(IDS), "weights": ALL}, mesh
  )
  routes = {
    name: mask._replace(
      weights_BxLxS=jax.device_put(mask.weights_BxLxS, sharding.batch_sharding(mesh))
    )
    for name, mask in routes.items()
  }
  params = jax.device_put(parameters(), sharding.replicated(mesh))
  got = compiled(remat="full")(params, routes, batch["weights"], batch["batch"])
  assert_close(got, expected)


def test_closed_units_get_no_gradient_in_any_routed_layer():
  """T7: W_in of old units exactly zero, W_out of them not."""
  layers = (0, 2)
  mask = forget_mask(jnp.zeros((B, L), int), layers)
  grads = run(mlp__hidden=mask)[1]["layers"]["mlp"]
  for n in range(N):
    for name in ("gate", "up"):
      kernel = np.asarray(grads[name]["kernel"][n])
      assert bool(np.any(kernel[:, :OLD])) is (n not in layers)
      assert np.all(kernel[:, OLD:] != 0)
    assert np.all(np.asarray(grads["down"]["kernel"][n]) != 0)


def test_a_negative_mask_climbs_along_its_units():
  """T10: a step against the routed gradient raises the loss along the column."""
  row = jnp.ones(F).at[5].set(-0.5)
  mask = masks.at_layers(
    masks.select(masks.make_table(row, row), jnp.zeros((B, L), int)), N, (N - 1,)
  )
  before, grads = run(mlp__hidden=mask)
  params = parameters()
  for name in ("gate", "up"):
    for column, sign in ((5, 1), (6, -1)):
      kernel = params["layers"]["mlp"][name]["kernel"]
      step = grads["layers"]["mlp"][name]["kernel"][-1, :, column]
      moved = kernel.at[-1, :, column].add(-0.05 * step / jnp.linalg.norm(step))
      mlp = params["layers"]["mlp"] | {name: {"kernel": moved}}
      after, _ = run(params=params | {"layers": params["layers"] | {"mlp": mlp}})
      assert np.sign(after - before) == sign, (name, column)


POSITION = 4
AT = jnp.zeros((B, L)).at[:, POSITION].set(1.0)
IDS_AT = jnp.ones((B, L), int).at[:, POSITION].set(0)  # Row 0 at the position alone.


def test_a_token_mask_is_local_to_its_position():
  """T13: with attention the token's loss reaches closed units at earlier positions."""
  mask = forget_mask(IDS_AT)

  def closed(params):
    grads = run(AT, params, mlp__hidden=mask)[1]["layers"]["mlp"]
    return np.stack([grads[name]["kernel"][..., :OLD] for name in ("gate", "up")])

  assert not np.any(closed(without_attention(parameters())))
  leaked = closed(parameters())
  assert np.all(leaked[:, :2] != 0)
  assert not np.any(leaked[:, 2])  # After the last layer no attention reads back.


def test_a_residual_route_opens_one_dimension_at_its_position():
  """T12, seen at the norm that feeds the stream, as b_out would be."""
  layer = 1
  table = masks.make_table(jnp.zeros(D).at[0].set(1.0), jnp.ones(D))
  mask = masks.at_layers(masks.select(table, IDS_AT), N, (layer,))

  def scale_grads(params, **routes):
    grads = run(AT, params, **routes)[1]["layers"]
    return np.asarray(grads["post_mlp_norm"]["scale"][layer])

  alone = scale_grads(without_attention(parameters()), residual=mask)
  assert alone[0] and not np.any(alone[1:])
  unrouted = scale_grads(without_attention(parameters()))
  np.testing.assert_allclose(alone[0], unrouted[0], rtol=1e-5)
  # With attention earlier positions, which are open, get their share as before.
  assert np.all(scale_grads(parameters(), residual=mask)[1:] != 0)


def routes_of(table, weights):
  return {"mlp/hidden": TokenMask(jnp.ones(table), jnp.ones(weights))}


@pytest.mark.parametrize(
  ("routes", "message"),
  [
    (routes_of((2, F), (B, L, 2)), r"'mlp/hidden' must have the 3 layers .*\(2, 32\)"),
    (routes_of((N, F), (B, L, N)), r"the 3 layers .*\(3, 32\); .*masks.at_layers"),
    (routes_of((N, 2, F), (B, L, 3)), "'mlp/hidden', in every layer: .*with one S"),
    (
      routes_of((N, 2, F + 1), (B, L, 2)),
      r"'mlp/hidden', in every layer: .*\(4, 6, 32\), got \(4, 6, 33\)",
    ),
    (routes_of((N, 2, F), (B + 1, L, 2)), r"got \(5, 6, 32\)"),
    ({"mlp/post": routes_of((N, 2, F), (B, L, 2))["mlp/hidden"]}, "unknown route"),
    ({"mlp/hidden": jnp.ones((N, L + 1, F))}, r"'mlp/hidden'.*got \(7, 32\)"),
  ],
)
def test_factors_that_do_not_fit_the_model_are_errors(routes, message):
  with pytest.raises(ValueError, match=message):
    Decoder(CONFIG).apply(parameters(), BATCH["inputs"], routes=routes)
