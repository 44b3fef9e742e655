"""Trained agents on Kuhn poker: hands against the tree, training against exactness."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.fictitious_play import trained_agents
from experiments.fictitious_play.config import Trained
from experiments.poker import equilibrium, kuhn, leduc
from experiments.poker import tree as trees
from experiments.poker.tree import FIRST, PLAYERS, SECOND

GAME = kuhn.tree()
TABLE = trained_agents.tabulate(GAME)
SIZES = Trained(
  games=("kuhn",),
  agents=3,
  repetitions=2,
  updates=150,
  hands=64,
  learning_rate=0.05,
  entropy=0.001,
  width=8,
)


def drawn(tree, player, rng):
  sets = trees.information_sets(tree, player)
  return {
    s: dict(zip(a, rng.dirichlet(np.ones(len(a))), strict=True))
    for s, a in sets.items()
  }


def array(strategy):
  return np.array([list(of.values()) for of in strategy.values()], np.float32)


@pytest.mark.parametrize("side", [0, 1])
def test_hands_are_worth_what_the_tree_says(side):
  """Mean utility against two agents that are drawn by their weights."""
  rng = np.random.default_rng(side)
  learner, opponent = PLAYERS[side], PLAYERS[1 - side]
  own = drawn(GAME, learner, rng)
  others = [drawn(GAME, opponent, rng) for _ in range(2)]
  weights = np.array([0.3, 0.7], np.float32)
  draws = rng.random((TABLE.depth + 1, 200_000), dtype=np.float32)
  utility, taken = jax.jit(functools.partial(trained_agents.play, TABLE, side))(
    jnp.log(array(own)), np.stack([array(o) for o in others]), weights, draws
  )
  expected = sum(
    w * trees.value(GAME, {learner: own, opponent: o})
    for w, o in zip(weights, others, strict=True)
  )
  error = np.std(utility) / len(utility) ** 0.5
  assert abs(np.mean(utility) - expected) < 4 * error
  assert np.isfinite(taken).all() and float(np.max(taken)) <= 0


def test_the_gradient_of_hands_is_that_of_the_value():
  """REINFORCE's mean over many hands against finite differences on the tree."""
  rng = np.random.default_rng(0)
  opponent = drawn(GAME, SECOND, rng)
  logits = rng.normal(size=(6, 2)).astype(np.float32)
  draws = rng.random((TABLE.depth + 1, 400_000), dtype=np.float32)

  def surrogate(logits):
    log_policy = jax.nn.log_softmax(logits)
    utility, taken = trained_agents.play(
      TABLE, 0, log_policy, jnp.asarray(array(opponent))[None], jnp.ones(1), draws
    )
    return jnp.mean((utility - utility.mean()) * taken)

  got = jax.jit(jax.grad(surrogate))(logits)
  sets = trees.information_sets(GAME, FIRST)

  def value(logits):
    policy = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    own = {
      s: dict(zip(a, p, strict=True))
      for (s, a), p in zip(sets.items(), policy, strict=True)
    }
    return trees.value(GAME, {FIRST: own, SECOND: opponent})

  for place in np.ndindex(6, 2):
    moved = np.zeros((6, 2))
    moved[place] = 1e-4
    there, back = value(np.float64(logits) + moved), value(np.float64(logits) - moved)
    assert abs(float(got[place]) - (there - back) / 2e-4) < 0.01


def test_a_trained_response_is_near_the_best_and_the_same_alone():
  """Of both players, against a mixture that can be exploited much."""
  rng = np.random.default_rng(1)
  others = np.stack([[array(drawn(GAME, p, rng)) for _ in range(2)] for p in PLAYERS])
  weights = np.array([[0.5, 0.5], [0.2, 0.8]], np.float32)
  train = functools.partial(trained_agents.train, TABLE, SIZES)
  keys = jax.random.split(jax.random.key(0), 2)
  got = jax.jit(jax.vmap(train))(jnp.arange(2), others[::-1], weights[::-1], keys)
  alone = jax.jit(train)(1, others[0], weights[0], keys[1])
  np.testing.assert_allclose(got[1], alone, atol=1e-4)
  for side, sign in ((0, 1), (1, -1)):
    other = PLAYERS[1 - side]
    strategies = [trained_agents._strategy(GAME, other, p) for p in others[1 - side]]
    mixed = {
      other: trees.mixture(GAME, other, strategies, weights[1 - side].tolist()),
      PLAYERS[side]: trained_agents._strategy(
        GAME, PLAYERS[side], np.asarray(got[side])
      ),
    }
    best = sign * equilibrium.exploited(GAME, mixed, PLAYERS[side])
    uniform = mixed | {PLAYERS[side]: trees.uniform(GAME, PLAYERS[side])}
    start = sign * trees.value(GAME, uniform)
    assert best - sign * trees.value(GAME, mixed) < 0.15 * (best - start)


def test_populations_report_exact_losses_and_what_agents_miss():
  trained = trained_agents.populations("kuhn", SIZES, jax.random.key(0))
  assert list(trained) == list(trained_agents.MIXINGS)
  first = [of.mixture[:, 0] for of in trained.values()]
  assert np.ptp(first, axis=0).max() == 0 and np.ptp(first[0]) > 0  # By repetition.
  for of in trained.values():
    assert of.mixture.shape == of.response.shape == (2, 3)
    assert of.mixture.min() > 0 and of.response.min() > -1e-6
    assert not of.response[:, 0].any() and of.response[:, 1].max() < 0.3


def test_leduc_fits_the_same_arrays():
  table = trained_agents.tabulate(leduc.tree())
  assert table.legal_2xSxA.shape == (2, 144, 3) and table.depth == 9
  rows = np.concatenate(table.features_2xSxF)
  assert set(rows.sum(axis=1)) == {3.0}  # Own card, public card, history.
