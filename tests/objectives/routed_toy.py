"""The MLPs of a decoder alone, with its paths, for tests of routed objectives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from undo_jax import testing
from undo_jax.models.decoder import Output
from undo_jax.objectives import (
  cross_entropy,
  distillation,
  routed,
  routed_distillation,
  sgtm,
)
from undo_jax.routing import era
from undo_jax.routing.activations import route
from undo_jax.routing.sgtm import SOURCES
from undo_jax.routing.transforms import route_sources
from undo_jax.training.gradients import loss_and_gradients

CONFIG = testing.config()
ROUTING = routed.Routing(CONFIG, mlp_units=8, kv_heads=0)
RESERVED = ROUTING.expansion()
KEY = jax.random.key(0)
SOURCE = np.array([0, 1, 2, 0, 1, 0, 2, 1], np.int32)
BATCH = {**jax.device_get(testing.batch(KEY)), "source": SOURCE}


def apply(params, tokens, *, routes=None, capture=()):
  """The decoder's MLPs alone, with its paths: compiling all of it would take long."""
  x_BxLxD = jnp.cumsum(jnp.take(params["embedding"], tokens, axis=0), axis=1)
  mlp, unrouted = params["layers"]["mlp"], []
  for n in range(2):
    hidden = jax.nn.silu(x_BxLxD @ mlp["gate"]["kernel"][n])
    hidden *= x_BxLxD @ mlp["up"]["kernel"][n]
    unrouted.append(hidden)
    if routes:
      mask = routes["mlp/hidden"]
      hidden = route(hidden, mask._replace(table=mask.table[n]))
    x_BxLxD += hidden @ mlp["down"]["kernel"][n]
  captured = dict.fromkeys(capture, jnp.stack(unrouted))
  return Output(x_BxLxD @ params["embedding"].T, captured)


def draw(seed):
  normal = np.random.default_rng(seed).standard_normal
  shapes = {"gate": (2, 16, 32), "up": (2, 16, 32), "down": (2, 32, 16)}
  mlp = {
    name: {"kernel": np.float32(0.4 * normal(shape))} for name, shape in shapes.items()
  }
  embedding = np.float32(0.4 * normal((16, 16)))
  return {"embedding": embedding, "layers": {"mlp": mlp}}


PARAMS = draw(1)
FROZEN = {"teacher": draw(2)}


@functools.cache
def compiled(objective, num_microbatches=1):
  fn = functools.partial(loss_and_gradients, num_microbatches=num_microbatches)
  return jax.jit(lambda params, batch: fn(objective, params, FROZEN, batch, KEY))


def run(objective, batch=BATCH, params=PARAMS, **options):
  return jax.device_get(compiled(objective, **options)(params, batch))


def assert_close(got, expected, tolerance=3e-6):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(
      x, y, rtol=0, atol=tolerance * np.abs(y).max()
    ),
    got,
    expected,
  )


PLAIN = {
  routed.make: ("cross_entropy", cross_entropy.make(apply)),
  routed_distillation.make: ("forward_kl", distillation.make(apply)),
}


def check_routing(make, layer):
  """Forget rows train the reserved units, other rows everything, in one layer.

  The gradients are the sum of two by hand.
  """
  routing = ROUTING._replace(layers=(layer,), old_target=-0.5)
  objective = make(apply, routing=routing)
  loss, grads, metrics = run(objective)
  name, plain = PLAIN[make]
  expected_loss, unrouted, _ = run(plain)
  np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)

  def alone(is_forget):
    mask = BATCH["mask"] * ((SOURCE == 0) == is_forget)[:, None]
    part, part_grads, _ = run(plain, {**BATCH, "mask": mask})
    share = float(mask.sum() / BATCH["mask"].sum())
    return float(part), jax.tree.map(lambda x: share * x, part_grads)

  (forget_loss, forget), (_, rest) = alone(True), alone(False)
  np.testing.assert_allclose(metrics[f"forget_{name}"].mean(), forget_loss, rtol=1e-6)
  for path in ("gate", "up"):
    by_hand = np.array(forget["layers"]["mlp"][path]["kernel"][layer])
    by_hand[:, :24] *= -0.5
    by_hand += rest["layers"]["mlp"][path]["kernel"][layer]
    assert_close(grads["layers"]["mlp"][path]["kernel"][layer], by_hand)
  down = grads["layers"]["mlp"]["down"]["kernel"][layer]
  assert_close(down, unrouted["layers"]["mlp"]["down"]["kernel"][layer])


def check_selective_masking(make, like):
  """One loss over all tokens, the gradients of each part masked by hand."""
  batch = {
    name: jax.device_get(testing.batch(jax.random.key(k)))
    for k, name in enumerate(SOURCES)
  }
  masks = sgtm.masks(PARAMS, routing=ROUTING)
  copies = dict.fromkeys(masks, PARAMS)
  loss, by_source, metrics = run(make(apply, routing=ROUTING), batch, copies)
  route = jax.jit(lambda grads: route_sources(masks).update(grads, optax.EmptyState()))
  grads, _ = route(by_source)
  name, plain = PLAIN[like]
  sums, expected = [], jax.tree.map(np.zeros_like, PARAMS)
  is_new = era.new_entries(PARAMS, RESERVED)
  total = sum(float(part["mask"].sum()) for part in batch.values())
  for source, part in batch.items():
    params = era.ablate(PARAMS, RESERVED) if source == "retain" else PARAMS
    value, part_grads, _ = run(plain, {**part, "source": SOURCE}, params)
    np.testing.assert_allclose(metrics[f"{source}_{name}"].mean(), value, rtol=1e-5)
    share = float(part["mask"].sum()) / total
    sums.append(share * value)
    kept = {"forget": is_new, "retain": jax.tree.map(np.logical_not, is_new)}.get(
      source, jax.tree.map(np.ones_like, is_new)
    )
    expected = jax.tree.map(
      lambda e, g, k, share=share: e + share * g * k, expected, part_grads, kept
    )
  np.testing.assert_allclose(loss, sum(sums), rtol=1e-5)
  assert_close(grads, expected, 1e-5)
