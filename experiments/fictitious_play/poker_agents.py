"""Populations on poker, whose agents are exact best responses instead of trained ones.

There are the mixtures of plain and anticipatory fictitious play and of double oracle.
What is measured is how much a population's mixture loses to best responses after each
agent.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from experiments.poker import equilibrium, kuhn, leduc
from experiments.poker import tree as trees
from experiments.poker.tree import FIRST, PLAYERS, SECOND, Strategy, Tree
from undo_jax.frontier import best_responses, games
from undo_jax.frontier.best_responses import Mixing

TREES: Mapping[str, Callable[[], Tree]] = {"kuhn": kuhn.tree, "leduc": leduc.tree}
MIXINGS: tuple[Mixing, ...] = ("fictitious", "anticipatory", "equilibrium")


def exploitabilities(
  tree: Tree, mixing: Mixing, num_agents: int, rng: np.random.Generator
) -> list[float]:
  """Return upper - lower of the reported mixture after each agent, [num_agents].

  The first agents are random pure strategies. A loop ends once its bounds have closed;
  its last value then stands for the agents that it no longer needs.

  Args:
    tree: the game.
    mixing: the mixture that agents respond to, see `best_responses.oracle_loop`.
    num_agents: of each player, including the first.
    rng: draws the first agents.
  """

  def respond(player: str, others: Sequence[Strategy], weights: np.ndarray) -> Strategy:
    opponent = SECOND if player == FIRST else FIRST
    mixed = trees.mixture(tree, opponent, others, weights.tolist())
    return trees.best_response(tree, {opponent: mixed}, player)

  first, second = (random_pure(tree, player, rng) for player in PLAYERS)
  population = best_responses.oracle_loop(
    lambda row, column: trees.value(tree, {FIRST: row, SECOND: column}),
    lambda columns, weights: respond(FIRST, columns, weights),
    lambda rows, weights: respond(SECOND, rows, weights),
    (first, second),
    num_rounds=num_agents - 1,
    mixing=mixing,
  )
  who = best_responses.schedule(num_agents, anticipatory=mixing == "anticipatory")
  lost = []
  for agent in range(len(population.rows)):
    weights = who.counted_KxK[agent, : agent + 1] / who.counted_KxK[agent].sum()
    row_weights, column_weights = weights, weights
    if mixing == "equilibrium":
      solution = games.solve(population.payoffs_KxK[: agent + 1, : agent + 1])
      row_weights, column_weights = solution.row_strategy_I, solution.column_strategy_J
    profile = {
      FIRST: trees.mixture(
        tree, FIRST, population.rows[: agent + 1], row_weights.tolist()
      ),
      SECOND: trees.mixture(
        tree, SECOND, population.columns[: agent + 1], column_weights.tolist()
      ),
    }
    upper, lower = (equilibrium.exploited(tree, profile, p) for p in PLAYERS)
    lost.append(upper - lower)
  return lost + [lost[-1]] * (num_agents - len(lost))


def random_pure(tree: Tree, player: str, rng: np.random.Generator) -> Strategy:
  """Return a random pure strategy, with equally likely actions."""
  strategy = {}
  for information_set, actions in trees.information_sets(tree, player).items():
    chosen = int(rng.integers(len(actions)))
    strategy[information_set] = {
      action: float(index == chosen) for index, action in enumerate(actions)
    }
  return strategy
