"""Populations on poker whose every agent is a policy trained by reinforcement learning.

A best response is a training run: REINFORCE against opponents that are drawn, one a
hand, from a mixture of those before. All members, that is ways to mix, repetitions and
both players, are trained as one program. What they lose is computed by exact best
responses, which no agent ever sees.

Shapes: M members, N hands, S information sets of a player, A actions, D nodes of the
tree, K agents.
Reference: Williams, Machine Learning 8 (1992).
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.fictitious_play.config import Trained
from experiments.fictitious_play.poker_agents import MIXINGS, TREES
from experiments.gradient_routing import mlp
from experiments.poker import equilibrium
from experiments.poker import tree as trees
from experiments.poker.tree import CHANCE, FIRST, PLAYERS, SECOND, Node, Strategy, Tree
from experiments.variance_decomposition import sampling
from undo_jax.frontier import best_responses, games
from undo_jax.frontier.best_responses import Mixing

_FACTORS = (*PLAYERS, CHANCE)
_NEVER = -1e9  # Logit of an action that there is not.


class Table(NamedTuple):
  """A game as arrays; the first two owners are the players, the third is chance."""

  owner_D: np.ndarray
  information_set_D: np.ndarray
  child_DxA: np.ndarray
  utility_D: np.ndarray
  chance_SxA: np.ndarray  # Cumulated probabilities.
  features_2xSxF: np.ndarray  # Of the players' information sets: one-hot parts.
  legal_2xSxA: np.ndarray
  depth: int


class Losses(NamedTuple):
  """Of one way to mix, [repetitions, K]."""

  mixture: np.ndarray  # Upper - lower of the reported mixture.
  response: np.ndarray  # What both new agents are short of exact best responses.


def tabulate(tree: Tree) -> Table:
  """Return a game as arrays; both players have as many information sets."""
  profile = {player: trees.uniform(tree, player) for player in PLAYERS}
  table = sampling.tabulate(tree, profile, _FACTORS)
  features, legal = [], []
  most = max(
    len(actions)
    for player in PLAYERS
    for actions in trees.information_sets(tree, player).values()
  )
  for player in PLAYERS:
    sets = trees.information_sets(tree, player)
    names: list[Any] = list(sets)  # Tuples: a card, and what has happened.
    parts = [list(dict.fromkeys(part)) for part in zip(*names, strict=True)]
    features.append(
      [
        [float(x == y) for x, part in zip(one, parts, strict=True) for y in part]
        for one in names
      ]
    )
    legal.append([[a < len(actions) for a in range(most)] for actions in sets.values()])
  widest = max(len(of[0]) for of in features)
  padded = [np.pad(of, ((0, 0), (0, widest - len(of[0])))) for of in features]

  def depth(node: Tree) -> int:
    return 1 + max(map(depth, node.children.values())) if isinstance(node, Node) else 0

  return Table(
    table.owner_D,
    table.information_set_D,
    table.child_DxA,
    table.utility_D,
    table.cumulative[CHANCE],
    np.array(padded, np.float32),
    np.array(legal),
    depth(tree),
  )


def train(
  table: Table,
  chosen: Trained,
  player: jax.Array,
  others_KxSxA: jax.Array,
  weights_K: jax.Array,
  key: jax.Array,
) -> jax.Array:
  """Return the policy of a trained best response, [S, A]; may be vmapped.

  Adam on -mean(advantage * log pi) - entropy bonus, over hands; the advantage is the
  utility, normalized over the hands of an update. The learning rate falls to 0.

  Args:
    table: the game.
    chosen: how it is trained.
    player: 0 or 1.
    others_KxSxA: the other player's agents.
    weights_K: of which mixture; zeros are agents that are not in it.
    key: of all that is random.
  """
  inputs_SxF = jnp.asarray(table.features_2xSxF)[player]
  legal_SxA = jnp.asarray(table.legal_2xSxA)[player]
  sizes = (inputs_SxF.shape[-1], chosen.width, legal_SxA.shape[-1])
  init_key, key = jax.random.split(key)
  params = mlp.init(init_key, {"policy": mlp.Network(sizes)})
  rates = optax.linear_schedule(chosen.learning_rate, 0.0, max(chosen.updates, 1))
  optimizer = optax.adam(rates)
  sign = 1.0 - 2.0 * player

  def log_policy(params):
    logits_SxA = mlp.apply(params["policy"], inputs_SxF)
    return jax.nn.log_softmax(jnp.where(legal_SxA, logits_SxA, _NEVER))

  def loss(params, draws_TxN):
    log_SxA = log_policy(params)
    utility_N, taken_N = play(
      table, player, log_SxA, others_KxSxA, weights_K, draws_TxN
    )
    gained_N = sign * utility_N
    advantage_N = (gained_N - gained_N.mean()) / (gained_N.std() + 1e-6)
    spread_SxA = jnp.where(legal_SxA, jnp.exp(log_SxA) * log_SxA, 0.0)
    entropy = -spread_SxA.sum(axis=-1).mean()
    return -jnp.mean(advantage_N * taken_N) - chosen.entropy * entropy

  def update(carry, index):
    params, state = carry
    shape = (table.depth + 1, chosen.hands)
    draws_TxN = jax.random.uniform(jax.random.fold_in(key, index), shape)
    grads = jax.grad(loss)(params, draws_TxN)
    updates, state = optimizer.update(grads, state)
    return (optax.apply_updates(params, updates), state), None

  start = (params, optimizer.init(params))
  (params, _), _ = jax.lax.scan(update, start, jnp.arange(chosen.updates))
  return jnp.exp(log_policy(params)) * legal_SxA


def play(
  table: Table,
  player: jax.Array | int,
  log_SxA: jax.Array,
  others_KxSxA: jax.Array,
  weights_K: jax.Array,
  draws_TxN: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Return utilities and log probabilities of the learner's actions, both [N].

  Args:
    table: the game.
    player: the learner.
    log_SxA: its policy.
    others_KxSxA: the other player's agents, of which each hand draws one.
    weights_K: by these probabilities.
    draws_TxN: uniform in [0, 1): of the agent, then of each move.
  """
  owner_D, set_D, child_DxA, utility_D, chance_SxA = (
    jnp.asarray(each) for each in table[:5]
  )
  own_SxA = jnp.cumsum(jax.lax.stop_gradient(jnp.exp(log_SxA)), axis=-1)
  others_KxSxA = jnp.cumsum(others_KxSxA, axis=-1)

  def pick(cumulated, draw_N):
    scaled = draw_N[:, None] * cumulated[..., -1:]
    return (scaled >= cumulated[..., :-1]).sum(axis=-1)

  agent_N = pick(jnp.cumsum(weights_K)[None], draws_TxN[0])

  def body(carry, draw_N):
    at_N, taken_N = carry
    who_N, set_N = owner_D[at_N], set_D[at_N]
    own_N = pick(own_SxA[set_N], draw_N)
    other_N = pick(others_KxSxA[agent_N, set_N], draw_N)
    chance_N = pick(chance_SxA[set_N], draw_N)
    mine_N = who_N == player
    action_N = jnp.where(mine_N, own_N, jnp.where(who_N == 2, chance_N, other_N))
    taken_N += jnp.where(mine_N, log_SxA[set_N, own_N], 0.0)
    return (jnp.where(who_N < 0, at_N, child_DxA[at_N, action_N]), taken_N), None

  count = draws_TxN.shape[1]
  start = (jnp.zeros(count, jnp.int32), jnp.zeros(count))
  (at_N, taken_N), _ = jax.lax.scan(body, start, draws_TxN[1:])
  return utility_D[at_N].astype(jnp.float32), taken_N


def populations(game: str, chosen: Trained, key: jax.Array) -> dict[Mixing, Losses]:
  """Return what populations lose, by way to mix and agent.

  The first agents are policies of untrained networks, the same for every way to mix.
  """
  tree = TREES[game]()
  table = tabulate(tree)
  members: list[tuple[Mixing, int]] = [
    (mixing, each) for mixing in MIXINGS for each in range(chosen.repetitions)
  ]
  shape = (len(members), 2, chosen.agents, *table.legal_2xSxA.shape[1:])
  agents = np.zeros(shape, np.float32)  # [M, 2, K, S, A]
  losses = np.zeros((2, len(members), chosen.agents))
  for m, (_, each) in enumerate(members):
    keys = jax.random.split(jax.random.fold_in(key, each))
    agents[m, :, 0] = [_untrained(table, chosen, side, keys[side]) for side in (0, 1)]
  trainer = jax.vmap(functools.partial(train, table, chosen))  # Over both players,
  trainer = jax.jit(jax.vmap(trainer, in_axes=(None, 0, 0, 0)))  # and over members.
  played = [_Population(tree, mixing) for mixing, _ in members]
  for agent in range(chosen.agents):
    if agent:
      weights = np.zeros((len(members), 2, chosen.agents), np.float32)
      for m, population in enumerate(played):
        weights[m, :, :agent] = population.weights(counted=False)[::-1]
      keys = jax.random.split(jax.random.fold_in(key, 2**20 + agent), shape[:2])
      trained = trainer(jnp.arange(2), agents[:, ::-1], weights, keys)
      agents[:, :, agent] = np.asarray(trained)
    for m, population in enumerate(played):
      losses[:, m, agent] = population.add(agents[m, :, agent])
  mixture, response = losses.reshape(2, len(MIXINGS), chosen.repetitions, -1)
  pairs = zip(MIXINGS, mixture, response, strict=True)
  return {mixing: Losses(*each) for mixing, *each in pairs}


class _Population:
  """The agents of both players so far, and what they lose."""

  def __init__(self, tree: Tree, mixing: Mixing):
    self.tree, self.mixing = tree, mixing
    self.strategies: dict[str, list[Strategy]] = {player: [] for player in PLAYERS}
    self.payoffs_KxK = np.zeros((0, 0))

  def weights(self, *, counted: bool) -> np.ndarray:
    """Return those of both players' mixtures, [2, K]: reported, or trained against."""
    count = len(self.strategies[FIRST])
    if self.mixing == "equilibrium":
      solution = games.solve(self.payoffs_KxK)
      return np.stack([solution.row_strategy_I, solution.column_strategy_J])
    who = best_responses.schedule(count + 1, anticipatory=self.mixing == "anticipatory")
    of = who.counted_KxK[count - 1] if counted else who.eligible_KxK[count]
    return np.stack([of[:count] / of[:count].sum()] * 2)

  def add(self, policies_2xSxA: np.ndarray) -> tuple[float, float]:
    """Add an agent of each player; return what the mixture and the agents lose."""
    short = 0.0
    new = [
      _strategy(self.tree, *each) for each in zip(PLAYERS, policies_2xSxA, strict=True)
    ]
    if self.strategies[FIRST]:
      faced = self._mixture(counted=False)
      for player, strategy, sign in zip(PLAYERS, new, (1, -1), strict=True):
        got = trees.value(self.tree, {**faced, player: strategy})
        short += sign * (equilibrium.exploited(self.tree, faced, player) - got)
    for player, strategy in zip(PLAYERS, new, strict=True):
      self.strategies[player].append(strategy)
    if self.mixing == "equilibrium":
      self._play_each_other()
    mixed = self._mixture(counted=True)
    upper, lower = (equilibrium.exploited(self.tree, mixed, p) for p in PLAYERS)
    return upper - lower, short

  def _mixture(self, *, counted: bool) -> dict[str, Strategy]:
    return {
      player: trees.mixture(self.tree, player, self.strategies[player], of.tolist())
      for player, of in zip(PLAYERS, self.weights(counted=counted), strict=True)
    }

  def _play_each_other(self) -> None:
    """Put the newest agents' payoffs into the matrix."""
    newest = len(self.payoffs_KxK)
    self.payoffs_KxK = np.pad(self.payoffs_KxK, ((0, 1), (0, 1)))
    for other in range(newest + 1):
      for row, column in {(other, newest), (newest, other)}:
        profile = {
          FIRST: self.strategies[FIRST][row],
          SECOND: self.strategies[SECOND][column],
        }
        self.payoffs_KxK[row, column] = trees.value(self.tree, profile)


def _untrained(table: Table, chosen: Trained, side: int, key: jax.Array) -> np.ndarray:
  """Return the policy of a network before any update, [S, A]."""
  inputs_SxF, legal_SxA = table.features_2xSxF[side], table.legal_2xSxA[side]
  sizes = (inputs_SxF.shape[-1], chosen.width, legal_SxA.shape[-1])
  params = mlp.init(key, {"policy": mlp.Network(sizes)})
  logits_SxA = np.asarray(mlp.apply(params["policy"], jnp.asarray(inputs_SxF)))
  weights_SxA = np.exp(logits_SxA) * legal_SxA
  return weights_SxA / weights_SxA.sum(axis=-1, keepdims=True)


def _strategy(tree: Tree, player: str, policy_SxA: np.ndarray) -> Strategy:
  """Return a policy as a strategy."""
  sets = trees.information_sets(tree, player)
  return {
    information_set: trees.normalized(dict(zip(actions, row.tolist(), strict=False)))
    for (information_set, actions), row in zip(sets.items(), policy_SxA, strict=True)
  }
