"""Objectives of the study against those they are made of, on parts cut by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.gradient_routing.stories import methods
from undo_jax import testing
from undo_jax.models.decoder import Output
from undo_jax.objectives import cross_entropy, rmu, routed
from undo_jax.objectives import sgtm as sgtm_objective
from undo_jax.objectives.routed import FORGET, RETAIN, UNLABELLED

KEY = jax.random.key(0)
ROUTING = routed.Routing(testing.config(), mlp_units=8, kv_heads=0)
SOURCE = np.array([FORGET, UNLABELLED, FORGET, RETAIN, UNLABELLED, RETAIN, RETAIN, 2])
BATCH = {**jax.device_get(testing.batch(KEY)), "source": SOURCE}
PLAIN = {k: x for k, x in BATCH.items() if k != "source"}


def apply(params, tokens, *, routes=None, capture=()):
  """Score and hidden states of each token alone."""
  del routes
  hidden = params["embedding"][tokens]
  return Output(hidden @ params["embedding"].T, dict.fromkeys(capture, hidden))


DRAWN = np.random.default_rng(0).standard_normal((16, 16))
PARAMS = {"embedding": jnp.asarray(DRAWN, jnp.float32)}


def compiled(objective, batch, frozen=None):
  """The same as `value`, as one program."""
  fn = jax.jit(lambda batch, frozen: value(objective, batch, frozen))
  return fn(batch, frozen)


def value(objective, batch, frozen=None):
  return objective(PARAMS, frozen, batch, KEY)[0].mean()


def rows(chosen):
  return {k: x[chosen] for k, x in PLAIN.items()}


def test_filtering_leaves_out_what_is_labelled_forget():
  expected = compiled(cross_entropy.make(apply), rows(SOURCE != FORGET))
  got = compiled(methods.filtering(apply), BATCH)
  np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_rmu_takes_labelled_rows_against_all_others():
  options = {"layers": (0,), "coefficient": 3.0, "retain_weight": 2.0}
  frozen = {
    "reference": {"embedding": PARAMS["embedding"] + 0.1},
    "direction": np.ones(16, np.float32) / 4,
  }
  parts = {"forget": rows(SOURCE == FORGET), "retain": rows(SOURCE != FORGET)}
  expected = compiled(rmu.make(apply, **options), parts, frozen)
  got = compiled(methods.rmu_by_label(apply, forget_rows=3, **options), BATCH, frozen)
  np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_sgtm_has_a_part_for_each_label(monkeypatch):
  parts = {
    "forget": rows(SOURCE == FORGET),
    "retain": rows(SOURCE == RETAIN),
    "unlabelled": rows(SOURCE == UNLABELLED),
  }
  seen = {}

  def record(apply, routing):
    del apply, routing

    def objective(params, frozen, batch, key):
      seen.update(batch)
      return routed.SumCount(jnp.zeros(()), jnp.ones(())), {}

    return objective

  monkeypatch.setattr(sgtm_objective, "make", record)
  value(methods.sgtm(apply, routing=ROUTING, forget_rows=3), BATCH)
  for name, part in parts.items():
    kept = np.asarray(seen[name]["mask"]).any(axis=1)
    for field in ("inputs", "targets", "mask"):
      np.testing.assert_array_equal(np.asarray(seen[name][field])[kept], part[field])


def test_tokens_are_routed_by_weight_in_rows_labelled_forget_only(monkeypatch):
  seen = []

  def record(apply, **options):
    del apply, options

    def objective(params, frozen, batch, key):
      seen.append(np.asarray(batch["retain_weight"]))
      return routed.SumCount(jnp.zeros(()), jnp.ones(())), {}

    return objective

  monkeypatch.setattr(routed, "make", record)
  weight_V = np.linspace(0, 0.75, 16).astype(np.float32)
  objective = methods.expand_route_ablate(apply, routing=ROUTING)
  value(objective, BATCH, {"retain_weight_V": weight_V})
  expected = np.ones_like(seen[0])
  for row in (0, 2):
    expected[row] = weight_V[np.asarray(BATCH["targets"][row])]
  np.testing.assert_array_equal(seen[0], expected)
