"""The routed autoencoder: its loss in float64, and which gradient goes where (T33)."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.gradient_routing import splitting as config_file
from experiments.gradient_routing.splitting import autoencoder
from experiments.gradient_routing.splitting.config import Config
from experiments.shared import typed

PIXELS, LATENT, ROWS = 6, 4, 12
SETTINGS = typed.read(Config, config_file.get_config()).settings


def make_weights(name="routing", **changes):
  setting = dataclasses.replace(SETTINGS[name], **changes)
  return autoencoder.make_weights(setting, LATENT)


def make_params(separate_decoders=False):
  sizes = {"hidden": (10, 7), "latent": LATENT, "separate_decoders": separate_decoders}
  init = functools.partial(autoencoder.init, pixels=PIXELS, **sizes)
  return jax.device_get(jax.jit(init)(jax.random.key(0)))


@pytest.fixture(scope="module")
def params():
  return make_params()


@pytest.fixture(scope="module")
def batch():
  rng = np.random.default_rng(0)
  return {
    "images": jnp.asarray(rng.uniform(-1, 1, (ROWS, PIXELS)), jnp.float32),
    "group": jnp.asarray(np.arange(ROWS) % 3 > 0, jnp.int32),  # 4 of 0, 8 of 1.
    "present": jnp.asarray(np.arange(ROWS) < ROWS - 1, jnp.float32),
  }


value_and_grad = jax.jit(jax.value_and_grad(autoencoder.loss, has_aux=True))


def grads(params, batch, weights):
  return jax.device_get(value_and_grad(params, batch, weights)[1])


def test_the_papers_networks_have_its_sizes():
  model = typed.read(Config, config_file.get_config("paper")).model
  sizes = {"hidden": model.hidden, "latent": model.latent, "separate_decoders": False}
  init = functools.partial(autoencoder.init, pixels=784, **sizes)
  shapes = jax.eval_shape(init, jax.random.key(0))
  count = {
    name: sum(math.prod(x.shape) for x in jax.tree.leaves(tree))
    for name, tree in shapes.items()
  }
  # The authors' networks, counted by hand.
  assert count == {
    "encoder": 2_673_152,
    "decoder_0": 2_673_936,
    "certificate_0": 2_665_744,
    "certificate_1": 2_665_744,
  }


# ---- The value, from the formula in float64.


def dense(layers, x):
  for index, layer in enumerate(layers):
    x = x @ np.float64(layer["kernel"]) + np.float64(layer.get("bias", 0.0))
    x = np.maximum(x, 0) if index < len(layers) - 1 else x
  return x


def expected_loss(params, batch, setting):
  rows = np.asarray(batch["present"]) == 1
  x, group = np.float64(batch["images"])[rows], np.asarray(batch["group"])[rows]
  z = dense(params["encoder"], x)
  decoders = [params["decoder_0"], params.get("decoder_1", params["decoder_0"])]
  total = 0.0
  for g, decoder in enumerate(decoders):
    error = np.abs(dense(decoder, z[group == g]) - x[group == g])
    total += setting.seen[g] * error.mean()
  certificates = [params["certificate_0"], params["certificate_1"]]
  for half, certificate in zip(np.split(z, 2, axis=1), certificates, strict=True):
    total += np.abs(dense(certificate, half) - x).mean()
  z = z[np.asarray(setting.seen)[group] == 1]
  halves = np.split(z, 2, axis=1)
  for half, weight in zip(halves, setting.l1, strict=True):
    total += weight * np.abs(half).mean(0).sum()
  centred = z - z.mean(0)
  standard = centred / np.sqrt(z.var(0, ddof=1) + 1e-8)  # Ours: never by zero.
  first, second = np.split(standard, 2, axis=1)
  correlation = np.abs(first.T @ second / len(z)).mean()
  return total + setting.correlation * correlation


@pytest.mark.parametrize(
  "name, separate, changes",
  [
    ("routing", False, {"l1": (0.3, 0.7), "correlation": 2.0}),
    ("second_group_only", False, {"l1": (0.3, 0.7), "correlation": 2.0}),
    ("routing_separate_decoders", True, {}),
  ],
)
def test_the_loss_is_that_of_the_formula(batch, name, separate, changes):
  setting = dataclasses.replace(SETTINGS[name], **changes)
  params, weights = make_params(separate), make_weights(name, **changes)
  (actual, _), _ = value_and_grad(params, batch, weights)
  np.testing.assert_allclose(actual, expected_loss(params, batch, setting), rtol=1e-5)


def test_a_constant_unit_has_no_correlation_and_finite_gradients():
  code = jnp.ones((5, LATENT)).at[:, 1:].set(jnp.arange(15.0).reshape(5, 3) ** 2)
  fn = jax.jit(jax.value_and_grad(autoencoder.mean_correlation))
  value, grad = fn(code, jnp.ones(5))
  inner = np.abs(np.corrcoef(np.asarray(code[:, 1:]).T)[0, 1:])
  np.testing.assert_allclose(value, inner.sum() / 4 * 4 / 5, rtol=1e-5)
  assert np.isfinite(grad).all()


# ---- The gradient.


def two_branches(params, batch, weights):
  """The reconstruction as the paper writes it: a decoder pass for each group."""
  z = autoencoder.mlp.apply(params["encoder"], batch["images"])
  first, second = jnp.split(z, 2, axis=1)
  stop = jax.lax.stop_gradient
  total = 0.0
  for group, code in enumerate(([first, stop(second)], [stop(first), second])):
    out = autoencoder.mlp.apply(params["decoder_0"], jnp.concatenate(code, 1))
    error = jnp.abs(out - batch["images"]).mean(1)
    of_group = (batch["group"] == group) * batch["present"]
    total += weights.seen_G[group] * jnp.sum(of_group * error) / jnp.sum(of_group)
  return total


PLAIN = {"l1": (0.0, 0.0), "correlation": 0.0}


def test_one_routed_pass_has_the_gradients_of_two_branches(params, batch):
  weights = make_weights(**PLAIN)
  routed, expected = (
    grads(params, batch, weights),
    jax.jit(jax.grad(two_branches))(params, batch, weights),
  )
  for part in ("encoder", "decoder_0"):
    for one, other in zip(
      jax.tree.leaves(routed[part]), jax.tree.leaves(expected[part]), strict=False
    ):
      np.testing.assert_allclose(one, other, atol=1e-6)
  # In the decoder they are those without routing, in the encoder they are not.
  free = grads(params, batch, make_weights("no_routing", **PLAIN))
  for one, other in zip(jax.tree.leaves(routed), jax.tree.leaves(free), strict=True):
    if one.shape == (7, LATENT):  # The encoder's last kernel.
      assert np.abs(one - other).max() > 1e-3
  np.testing.assert_allclose(
    routed["decoder_0"][0]["kernel"], free["decoder_0"][0]["kernel"], atol=1e-7
  )


@pytest.mark.parametrize("group", [0, 1])
def test_a_group_moves_its_half_of_the_code_alone(params, batch, group):
  only = {**batch, "present": (batch["group"] == group).astype(jnp.float32)}
  kernel_HxZ = grads(params, only, make_weights(**PLAIN))["encoder"][-1]["kernel"]
  first, second = np.abs(np.split(np.asarray(kernel_HxZ), 2, axis=1)).max((1, 2))
  own, other = (first, second) if group == 0 else (second, first)
  assert other == 0.0 and own > 1e-3


def test_certificates_do_not_move_the_encoder(params, batch):
  unseen = make_weights(seen=(0.0, 0.0), **PLAIN)
  gradients = grads(params, batch, unseen)
  assert all(not leaf.any() for leaf in jax.tree.leaves(gradients["encoder"]))
  for half in range(2):
    assert all(leaf.any() for leaf in jax.tree.leaves(gradients[f"certificate_{half}"]))
  # Each sees its half alone: the other half's units change nothing in it.
  code = jnp.ones((2, LATENT))
  moved = autoencoder.certify(params, code.at[:, LATENT // 2 :].set(5.0))
  same = autoencoder.certify(params, code)
  np.testing.assert_array_equal(moved[0], same[0])
  assert (moved[1] != same[1]).any()


def test_penalties_are_not_routed(params, batch):
  """Their gradient is what they add: the same with and without routing."""

  def added(name):
    with_them = grads(params, batch, make_weights(name, l1=(0.3, 0.7), correlation=2.0))
    without = grads(params, batch, make_weights(name, **PLAIN))
    return [
      a - b
      for a, b in zip(
        jax.tree.leaves(with_them["encoder"]),
        jax.tree.leaves(without["encoder"]),
        strict=False,
      )
    ]

  for routed, free in zip(added("routing"), added("no_routing"), strict=True):
    np.testing.assert_allclose(routed, free, atol=1e-6)
    assert np.abs(free).max() > 1e-3


def test_scores_are_errors_by_half_and_group(params, batch):
  errors, certified = jax.jit(autoencoder.scores)(params, batch)
  x, group = np.float64(batch["images"]), np.asarray(batch["group"])
  z = dense(params["encoder"], x)
  for half in range(2):
    out = dense(params[f"certificate_{half}"], np.split(z, 2, axis=1)[half])
    np.testing.assert_allclose(certified[half], out, atol=1e-5)
    for g in range(2):
      error = (out - x)[group == g]
      mse, mae = errors["certificate_mse"][half, g], errors["certificate_mae"][half, g]
      np.testing.assert_allclose(mse, (error**2).mean(), rtol=1e-5)
      np.testing.assert_allclose(mae, np.abs(error).mean(), rtol=1e-5)
