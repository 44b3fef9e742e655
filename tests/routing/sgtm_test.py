"""Tests of selective gradient masking against separate gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from undo_jax.routing import era, sgtm
from undo_jax.routing.transforms import route_sources

OLD, NEW, D = 5, 3, 4


def draw(*shape, seed=0):
  rng = np.random.default_rng((seed, *shape))
  return rng.standard_normal(shape, np.float32)


PARAMS = {
  "in": {"kernel": draw(D, OLD + NEW), "bias": draw(OLD + NEW)},
  "out": {"kernel": draw(OLD + NEW, 2), "bias": draw(2)},
}
RULES = [("in/kernel", 1, NEW), ("in/bias", 0, NEW), ("out/kernel", 0, NEW)]
EXPANSION = era.reserve(PARAMS, RULES)
BATCHES = {
  name: (draw(6, D, seed=k), draw(6, 2, seed=k)) for k, name in enumerate(sgtm.SOURCES)
}


def loss(params, batch):
  hidden = jnp.tanh(batch[0] @ params["in"]["kernel"] + params["in"]["bias"])
  out = hidden @ params["out"]["kernel"] + params["out"]["bias"]
  return jnp.mean((out - batch[1]) ** 2)


gradient = jax.jit(jax.grad(loss))


def source_loss(params, source):
  return loss(sgtm.view(params, EXPANSION, source), BATCHES[source])


@jax.jit
def routed(params):
  """The gradient of the losses' sum as an optax chain sees it."""
  grads = {name: jax.grad(source_loss)(params, name) for name in sgtm.SOURCES}
  transform = route_sources(sgtm.masks(params, EXPANSION))
  return transform.update(grads, transform.init(params))[0]


def split(tree):
  """Return (forget entries, the rest) of the three grown arrays, and the last bias."""
  kernel, bias, out = tree["in"]["kernel"], tree["in"]["bias"], tree["out"]["kernel"]
  forget = (kernel[:, OLD:], bias[OLD:], out[OLD:])
  return forget, (kernel[:, :OLD], bias[:OLD], out[:OLD], tree["out"]["bias"])


def test_the_routed_gradient_is_that_of_the_three_rules():
  got_forget, got_rest = split(jax.device_get(routed(PARAMS)))
  grads = {
    name: jax.device_get(gradient(PARAMS, batch)) for name, batch in BATCHES.items()
  }
  # Retain runs on a model that has only the other units.
  small = era.contract(PARAMS, EXPANSION)
  retain = split(jax.device_get(gradient(small, BATCHES["retain"])))[1]
  forget, unlabelled = split(grads["forget"])[0], split(grads["unlabelled"])
  for got, *parts in zip(got_forget, forget, unlabelled[0], strict=True):
    np.testing.assert_allclose(got, sum(parts), rtol=1e-5, atol=1e-6)
  for got, *parts in zip(got_rest, retain, unlabelled[1], strict=True):
    np.testing.assert_allclose(got, sum(parts), rtol=1e-5, atol=1e-6)


def test_forget_batches_see_the_model_as_it_is_and_retain_batches_the_ablated_one():
  for source in ("forget", "unlabelled"):
    view = sgtm.view(PARAMS, EXPANSION, source)
    jax.tree.map(np.testing.assert_array_equal, view, PARAMS)
  view = sgtm.view(PARAMS, EXPANSION, "retain")
  assert era.is_ablated(view, EXPANSION)
  jax.tree.map(
    np.testing.assert_array_equal,
    era.contract(view, EXPANSION),
    era.contract(PARAMS, EXPANSION),
  )


@pytest.mark.parametrize("source", sgtm.SOURCES)
def test_each_source_trains_its_own_part_alone(source):
  masks = {source: sgtm.masks(PARAMS, EXPANSION)[source]}
  transform = route_sources(masks)

  @jax.jit
  def update(params):
    grads = {source: jax.grad(source_loss)(params, source)}
    return transform.update(grads, transform.init(params))[0]

  forget, rest = split(jax.device_get(update(PARAMS)))
  assert [np.all(leaf != 0) for leaf in forget] == [source != "retain"] * 3
  assert [np.all(leaf != 0) for leaf in rest] == [source != "forget"] * 4
  closed = {"forget": rest, "retain": forget, "unlabelled": ()}[source]
  assert not any(np.any(leaf) for leaf in closed)


def test_bad_input_is_told():
  with pytest.raises(ValueError, match="unknown source 'x'; SGTM has forget, retain"):
    sgtm.view(PARAMS, EXPANSION, "x")
  small = era.contract(PARAMS, EXPANSION)
  uses = [lambda s=source: sgtm.view(small, EXPANSION, s) for source in sgtm.SOURCES]
  for use in (*uses, lambda: sgtm.masks(small, EXPANSION)):
    with pytest.raises(
      ValueError, match="in/bias must have 5 .* 3 .*contracted already"
    ):
      use()
