"""Outcomes of games in which players and chance draw all their actions in advance.

Shapes: N draws, S information sets of an owner, D nodes of the tree, A actions.
"""

from collections.abc import Hashable, Mapping, Sequence
import dataclasses

import numpy as np

from experiments.poker import tree as trees
from experiments.poker.tree import End, Profile, Tree

# By owner's name, the action at each of its information sets, [N, S].
Strategies = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Table:
  """A game and a profile as arrays."""

  factors: tuple[str, ...]  # Owners of decisions.
  cumulative: dict[str, np.ndarray]  # [S, A], sums of the actions' probabilities.
  owner_D: np.ndarray  # Index of the factor; -1 at ends.
  information_set_D: np.ndarray
  child_DxA: np.ndarray
  utility_D: np.ndarray  # The first player's, at ends.

  def draw(self, factor: str, rng: np.random.Generator, count: int) -> np.ndarray:
    """Return `count` pure strategies of a factor; see the function `draw`."""
    return draw(self, factor, rng, count)

  def outcomes(self, strategies: Strategies) -> np.ndarray:
    """Return the utility of each game of the n-th strategies of all factors, [N]."""
    count = len(strategies[self.factors[0]])
    return play(self, strategies, [np.arange(count)] * len(self.factors))


def tabulate(tree: Tree, profile: Profile, factors: Sequence[str]) -> Table:
  """Return a game and a profile as arrays, for `draw` and `play`."""
  nodes = list(trees.nodes(tree))
  place = {id(node): index for index, node in enumerate(nodes)}
  most = max(len(n.children) for n in nodes if not isinstance(n, End))
  sets: dict[str, dict[Hashable, int]] = {name: {} for name in factors}
  probabilities: dict[str, list[np.ndarray]] = {name: [] for name in factors}
  owner_D, set_D = np.full(len(nodes), -1), np.zeros(len(nodes), dtype=int)
  child_DxA = np.zeros((len(nodes), most), dtype=int)
  utility_D = np.zeros(len(nodes))
  for index, node in enumerate(nodes):
    if isinstance(node, End):
      utility_D[index] = node.utilities[0]
      continue
    of_owner = sets[node.owner]
    if node.information_set not in of_owner:
      of_owner[node.information_set] = len(of_owner)
      taken = list(trees.action_probabilities(node, profile).values())
      probabilities[node.owner].append(np.pad(taken, (0, most - len(taken))))
    owner_D[index] = factors.index(node.owner)
    set_D[index] = of_owner[node.information_set]
    children = [place[id(child)] for child in node.children.values()]
    child_DxA[index, : len(children)] = children
  cumulative = {name: np.cumsum(of, axis=1) for name, of in probabilities.items()}
  return Table(tuple(factors), cumulative, owner_D, set_D, child_DxA, utility_D)


def draw(table: Table, factor: str, rng: np.random.Generator, count: int) -> np.ndarray:
  """Return the actions of `count` pure strategies of a factor, [N, S]."""
  cumulative_SxA = table.cumulative[factor]
  draws_NxS = rng.random((count, len(cumulative_SxA))) * cumulative_SxA[:, -1]
  return (draws_NxS[..., None] >= cumulative_SxA[:, :-1]).sum(axis=-1).astype(np.int8)


def play(
  table: Table, strategies: Strategies, places: Sequence[np.ndarray]
) -> np.ndarray:
  """Return the utility of games between strategies, of the shape of `places`.

  Args:
    table: the game.
    strategies: of each factor.
    places: for each factor the indices of the strategies that play, of one shape.
  """
  shape = np.shape(places[0])
  at_N = np.zeros(int(np.prod(shape)), dtype=int)
  flat = [np.ravel(place) for place in places]
  while (table.owner_D[at_N] >= 0).any():
    owners_N, sets_N = table.owner_D[at_N], table.information_set_D[at_N]
    for index, factor in enumerate(table.factors):
      turn = np.flatnonzero(owners_N == index)
      actions = strategies[factor][flat[index][turn], sets_N[turn]]
      at_N[turn] = table.child_DxA[at_N[turn], actions]
  return table.utility_D[at_N].reshape(shape)


def crossed(table: Table, strategies: Strategies) -> np.ndarray:
  """Return utilities of all strategies against each other, with an axis per factor."""
  counts = [len(strategies[factor]) for factor in table.factors]
  return play(table, strategies, list(np.indices(counts)))
