"""Which weights are chosen: formulas and order against float64 numpy."""

import functools

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from tests.objectives.toy import log_softmax
from undo_jax import objectives, testing
from undo_jax.models.decoder import UNIT_AXES, shapes
from undo_jax.models.gemma2 import Output
from undo_jax.training import saliency

KEY = jax.random.key(3)
SHAPES = {"embedding": (24, 8), "layers": {"mlp": (2, 8, 32), "norm": (2, 8)}}
SIZE = 24 * 8 + 2 * 8 * 32 + 2 * 8


def draw(seed, low=0.0):
  rng = np.random.default_rng(seed)
  is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
  return jax.tree.map(
    lambda s: np.float32(rng.uniform(low, 1, s) ** 4), SHAPES, is_leaf=is_shape
  )


@functools.partial(jax.jit, static_argnums=1)
def highest(scores, share, params, key=KEY):
  return saliency.highest(scores, params, share, key)


def flat(tree):
  return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.mark.parametrize("power", [1, 2])
def test_what_is_averaged_are_powers_of_each_batchs_mean_gradient(power):
  """Of a table of bigrams, whose gradient is softmax minus one-hot."""
  V, batches = 5, 3
  table = np.float32(np.random.default_rng(0).standard_normal((V, V)))
  apply = lambda params, inputs: Output(params["table"][inputs], {})  # noqa: E731
  objective = objectives.make("cross_entropy", apply)
  add = jax.jit(functools.partial(saliency.add_gradients, objective, power=power))
  got, expected = {"table": np.zeros((V, V), np.float32)}, np.zeros((V, V))
  for seed in range(batches):
    batch = testing.batch(jax.random.key(seed), rows=4, length=6, vocab=V)
    got = add(got, {"table": table}, batch, share=1 / batches)
    gradient = np.zeros((V, V))
    probs = np.exp(log_softmax(np.float64(table)))
    batch = jax.device_get(batch)
    for b, t in np.argwhere(batch["mask"]):
      i, target = batch["inputs"][b, t], batch["targets"][b, t]
      gradient[i] += (probs[i] - np.eye(V)[target]) / batch["mask"].sum()
    expected += gradient**power / batches
  np.testing.assert_allclose(got["table"], expected, rtol=1e-5, atol=1e-9)


def test_the_ratio_is_its_formula_and_zero_where_nothing_flows():
  forget, retain = draw(0), draw(1)
  for tree in (forget, retain):
    tree["embedding"][3] = 0.0
  retain["embedding"][4] = 0.0
  got = saliency.ratio(forget, retain)
  f, r = np.float64(flat(forget)), np.float64(flat(retain))
  with np.errstate(invalid="ignore"):
    expected = np.nan_to_num(f / (f + r))
  np.testing.assert_allclose(flat(got), expected, rtol=1e-6)
  assert not np.any(got["embedding"][3]) and np.all(got["embedding"][4] == 1)
  assert np.array_equal(
    np.argsort(f[f * r > 0] / r[f * r > 0]), np.argsort(expected[f * r > 0])
  )


def test_attribution_is_its_formula_and_of_a_stiff_retain_loss_forgettings_alone():
  rng = np.random.default_rng(6)
  theta, forget, retain = (
    jax.tree.map(lambda x: np.float32(rng.standard_normal(x.shape)), draw(0))
    for _ in range(3)
  )
  w, f, r = (np.float64(flat(tree)) for tree in (theta, forget, retain))
  got = saliency.attribution(theta, forget, retain, curvature=0.2)
  np.testing.assert_allclose(flat(got), abs((w - r / 0.2) * f), rtol=1e-4, atol=1e-6)
  stiff = saliency.attribution(theta, forget, retain, curvature=1e12)
  np.testing.assert_allclose(flat(stiff), abs(w * f), rtol=1e-5, atol=1e-9)
  # A weight that the retain loss moves to where forgetting put it bears nothing.
  moved = jax.tree.map(lambda x: np.float32(0.2) * x, theta)
  assert flat(saliency.attribution(theta, forget, moved, curvature=0.2)).max() < 1e-5


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.5, 0.999, 1.0])
def test_the_highest_are_those_of_numpys_partition(share):
  scores = draw(2)
  chosen = flat(highest(scores, share, scores))
  values, count = flat(scores), round(share * SIZE)
  assert chosen.sum() == count
  if 0 < count < SIZE:
    least = np.partition(values, SIZE - count)[SIZE - count]
    assert np.array_equal(chosen, values >= least)


def test_of_equal_scores_as_many_are_chosen_as_are_missing_at_random():
  scores = jax.tree.map(lambda x: np.float32(np.round(x * 3)), draw(2))
  values, count = flat(scores), round(0.3 * SIZE)
  assert sum(values > 0) > count > sum(values > 1)  # The last are among the ones.
  chosen = flat(highest(scores, 0.3, scores))
  assert chosen.sum() == count
  assert np.all(chosen[values > 1]) and not np.any(chosen[values < 1])
  other = flat(highest(scores, 0.3, scores, jax.random.key(4)))
  assert other.sum() == count and np.any(other != chosen)


def test_equal_scores_choose_a_random_share_of_every_parameter():
  zeros = jax.tree.map(np.zeros_like, draw(0))
  chosen = highest(zeros, 0.25, zeros)
  assert flat(chosen).sum() == 0.25 * SIZE
  for leaf in (chosen["embedding"], chosen["layers"]["mlp"]):
    assert abs(leaf.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / leaf.size)


def test_units_are_chosen_whole_by_their_summed_squares():
  config = testing.config(num_layers=2)
  rng = np.random.default_rng(5)
  fisher = jax.tree.map(lambda s: np.float32(rng.random(s.shape)), shapes(config))
  summed = jax.jit(lambda tree: saliency.by_unit(tree, UNIT_AXES))(fisher)
  mlp = fisher["layers"]["mlp"]["up"]["kernel"]
  assert summed["layers"]["mlp"]["up"]["kernel"].shape == (2, 1, config.mlp_width)
  np.testing.assert_allclose(
    summed["layers"]["mlp"]["up"]["kernel"][:, 0], np.sum(mlp, 1), rtol=1e-6
  )
  np.testing.assert_allclose(
    summed["embedding"][:, 0], np.sum(fisher["embedding"], 1), rtol=1e-6
  )
  np.testing.assert_array_equal(
    summed["final_norm"]["scale"], fisher["final_norm"]["scale"]
  )
  chosen = highest(summed, 0.4, fisher)
  entries, units = [], []
  for score, bit, whole in zip(
    *map(jax.tree.leaves, (summed, chosen, fisher)), strict=True
  ):
    each = whole.size // score.size
    entries += [
      (s, each, b) for s, b in zip(np.ravel(score), np.ravel(bit), strict=True)
    ]
    units.append(whole.size)
  entries.sort(key=lambda entry: -entry[0])
  wanted, weights = round(0.4 * sum(units)), 0
  for _, each, is_chosen in entries:
    assert is_chosen == (weights < wanted)
    weights += each


def test_damped_alphas_are_selective_synaptic_dampening():
  forget, retain = draw(0), draw(1)
  forget["embedding"][3] = retain["embedding"][3] = retain["embedding"][4] = 0.0
  theta = np.random.default_rng(8).standard_normal(SIZE)
  alphas = saliency.damped(forget, retain, selection=2.0, dampening=0.7)
  got = (1 - np.float64(flat(alphas))) * theta
  f, r = np.float64(flat(forget)), np.float64(flat(retain))
  expected = theta.copy()
  for i in range(SIZE):
    if f[i] > 2.0 * r[i]:
      expected[i] *= min(0.7 * r[i] / f[i], 1)
  assert 0.1 < np.mean(expected != theta) < 0.9
  np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


def test_eight_devices_choose_the_same():
  scores = draw(2)
  scores["layers"]["mlp"] = np.round(scores["layers"]["mlp"], 1)  # With ties.
  mesh = testing.mesh(8, data=2, fsdp=2, tensor=2)
  where = {
    "embedding": P("tensor", "fsdp"),
    "layers": {"mlp": P(None, "fsdp", "tensor"), "norm": P()},
  }
  spread = jax.tree.map(
    lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec)), scores, where
  )
  jax.tree.map(
    np.testing.assert_array_equal,
    highest(spread, 0.4, spread),
    highest(scores, 0.4, scores),
  )


def test_more_weights_are_counted_than_an_integer_of_32_bits_holds():
  one = np.ones((3, 1, 1), bool)
  for count, expected in ((9_000_000_000, True), (9_000_000_001, False)):
    got = saliency._holds({"a": one}, {"a": np.uint32(3_000_000_000)}, count)
    assert bool(got) is expected
