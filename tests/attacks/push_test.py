"""Pushes: the projection in NumPy, iterates in their ball, and where they are added."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.attacks.edited import MODEL, PARAMS
from undo_jax import attacks, testing
from undo_jax.attacks import relearning
from undo_jax.attacks.push import projected
from undo_jax.models.decoder import Decoder
from undo_jax.training import population
from undo_jax.training.optimizers import OptimizerConfig, make_population_optimizer
from undo_jax.training.step import make_step
from undo_jax.utils.types import SumCount

KEY = jax.random.key(1)
BATCH = jax.device_get(testing.batch(KEY))
D = MODEL.width
RATES = np.array([1e-2, 0.3, 10.0], np.float32)


def members(**options):
  return attacks.members_of(MODEL, "push", {"layer": None, "radius": 0.5} | options)


def length(push, norm):
  """Return a push's norm in units of the embeddings, in float64."""
  push = np.asarray(push, np.float64)
  return np.sqrt(np.mean(push**2)) if norm == "l2" else np.max(np.abs(push))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_projection_is_the_nearest_vector_of_the_ball(norm):
  draw = np.random.default_rng(0)
  vector = draw.standard_normal(D).astype(np.float32)
  inside = (0.5 * vector / length(vector, norm)).astype(np.float32)
  np.testing.assert_array_equal(projected(inside, 0.6, norm), inside)
  projection = np.asarray(projected(vector, 0.5, norm))
  assert length(projection, norm) == pytest.approx(0.5, rel=1e-6)
  others = draw.standard_normal((4000, D))
  others *= 0.5 / np.array([[max(length(x, norm), 0.5)] for x in others])
  near = projection + 0.02 * draw.standard_normal((4000, D))
  near *= np.array([[min(1, 0.5 / length(x, norm))] for x in near])
  distances = np.linalg.norm(np.concatenate([others, near]) - vector, axis=1)
  assert np.linalg.norm(projection - vector) < distances.min() + 1e-5


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_iterates_stay_in_the_ball_and_end_where_the_loss_is_smallest_in_it(norm):
  """On |d - target|^2 that is the projection of the target."""
  target = np.random.default_rng(1).standard_normal(D).astype(np.float32)
  parts = members(norm=norm)
  assert parts.project is not None

  def distance(trained, frozen, batch, key):
    del frozen, batch, key
    return SumCount(jnp.sum((trained["push"] - target) ** 2), jnp.ones(())), {}

  config = OptimizerConfig(name="sgd", learning_rate=1.0, num_steps=1)
  optimizer = make_population_optimizer(config)
  step = relearning.projected(make_step(distance, optimizer), parts.project)
  step = jax.jit(population.over_replicas(step))
  state = population.create(parts.start(PARAMS, KEY), optimizer, jnp.asarray(RATES))
  np.testing.assert_array_equal(state.params["push"], np.zeros((3, D)))
  for _ in range(200):
    state, _ = step(state, (), BATCH, KEY)
    lengths = [length(push, norm) for push in state.params["push"]]
    assert max(lengths) <= 0.5 * (1 + 1e-6)
  nearest = projected(target, 0.5, norm)
  np.testing.assert_allclose(state.params["push"][0], nearest, atol=1e-3)


@pytest.mark.parametrize(("layer", "index"), [(None, 0), (0, 1), (1, 2)])
def test_a_push_is_added_in_units_of_the_embeddings(layer, index):
  parts, decoder = members(layer=layer), Decoder(MODEL)
  push = np.random.default_rng(0).standard_normal(D).astype(np.float32)
  unit = np.sqrt(np.mean(np.asarray(PARAMS["embedding"], np.float64) ** 2) * D)

  @jax.jit
  def both(params, push):
    tree = parts.weights({"push": push}, {"base": params})
    pushed = parts.apply(tree, BATCH["inputs"], capture=(index,))
    return pushed, decoder.apply(params, BATCH["inputs"], capture=(index,))

  pushed, plain = both(PARAMS, push)
  moved = pushed.captured[index] - plain.captured[index]
  np.testing.assert_allclose(
    moved, np.broadcast_to(unit * push, moved.shape), atol=1e-4
  )
  assert np.abs(pushed.logits - plain.logits).max() > 1e-3
  pushed, plain = both(PARAMS, 0 * push)  # No push is no attack.
  np.testing.assert_allclose(pushed.logits, plain.logits, atol=1e-6)
