"""Equilibria of zero-sum games in trees, by linear programs over sequences.

A sequence is a player's choices on the way to a node. Its realization weight is the
product of the probabilities of these choices. A plan gives each sequence its weight,
which makes utilities linear in it. With A the utilities by both players' sequences,
E x = e the plans of one player and F y = f those of the other,

  max_{x, v} f' v  subject to  A' x >= F' v, E x = e, x >= 0

Reference: Koller, Megiddo and von Stengel, Games and Economic Behavior 14 (1996).
"""

from collections.abc import Hashable
import dataclasses

import numpy as np
from scipy import optimize, sparse

from experiments.poker import tree as trees
from experiments.poker.tree import CHANCE, FIRST, PLAYERS, SECOND, End, Profile, Tree


@dataclasses.dataclass(frozen=True)
class Equilibrium:
  """A profile, with lower <= value of the game <= upper."""

  profile: Profile
  lower: float  # What the first player's strategy earns against its best response.
  upper: float  # What the second player's strategy leaves to its best response.


@dataclasses.dataclass
class _Sequences:
  """A player's sequences and information sets, in the order of the walk."""

  index: dict[tuple[Hashable, Hashable] | None, int]  # By (set, action); None: empty.
  sets: dict[Hashable, int]  # The sequence that leads to each information set.

  def constraints(self) -> tuple[sparse.csr_array, np.ndarray]:
    """Return E and e: the empty sequence has weight 1, and sets pass weight on."""
    rows, columns, values = [0], [0], [1.0]
    for row, (information_set, parent) in enumerate(self.sets.items(), start=1):
      children = [
        i for key, i in self.index.items() if key and key[0] == information_set
      ]
      rows += [row] * (len(children) + 1)
      columns += [parent, *children]
      values += [-1.0] + [1.0] * len(children)
    right = np.zeros(1 + len(self.sets))
    right[0] = 1.0
    shape = (len(right), len(self.index))
    return sparse.csr_array((values, (rows, columns)), shape=shape), right


def solve(tree: Tree) -> Equilibrium:
  """Return an equilibrium, a vertex of the linear programs, and its certificate.

  Actions are equally likely where the opponent's or the player's own plan never leads.

  Raises:
    ConfigError: if the game is not zero-sum.
  """
  trees.check_zero_sum(tree)
  players = {player: _Sequences({None: 0}, {}) for player in PLAYERS}
  entries: dict[tuple[int, int], float] = {}
  _walk(tree, players, (0, 0), 1.0, entries)
  payoffs = sparse.csr_array(
    (list(entries.values()), tuple(zip(*entries, strict=True))),
    shape=tuple(len(players[player].index) for player in PLAYERS),
  )
  first, second = players[FIRST], players[SECOND]
  profile = {
    FIRST: _strategy(tree, FIRST, first, _plan(payoffs, first, second)),
    SECOND: _strategy(tree, SECOND, second, _plan(-payoffs.T, second, first)),
  }
  lower, upper = (exploited(tree, profile, player) for player in (SECOND, FIRST))
  return Equilibrium(profile, lower, upper)


def exploited(tree: Tree, profile: Profile, responder: str) -> float:
  """Return the first player's utility once a player best-responds to the other."""
  response = trees.best_response(tree, profile, responder)
  return trees.value(tree, {**profile, responder: response})


def _walk(
  node: Tree,
  players: dict[str, _Sequences],
  reached: tuple[int, int],
  chance: float,
  entries: dict[tuple[int, int], float],
) -> None:
  """Index the sequences and add up the utilities of each pair."""
  if isinstance(node, End):
    entries[reached] = entries.get(reached, 0.0) + chance * node.utilities[0]
    return
  if node.owner == CHANCE:
    for action, probability in (node.probabilities or {}).items():
      _walk(node.children[action], players, reached, chance * probability, entries)
    return
  side = PLAYERS.index(node.owner)
  own = players[node.owner]
  parent = own.sets.setdefault(node.information_set, reached[side])
  if parent != reached[side]:
    raise ValueError(f"{node.owner} forgets on the way to {node.information_set!r}")
  for action, child in node.children.items():
    key = (node.information_set, action)
    place = own.index.setdefault(key, len(own.index))
    after = (place, reached[1]) if side == 0 else (reached[0], place)
    _walk(child, players, after, chance, entries)


def _plan(payoffs: sparse.csr_array, own: _Sequences, other: _Sequences) -> np.ndarray:
  """Return the realization weights that guarantee the most."""
  (own_E, own_e), (other_F, other_f) = own.constraints(), other.constraints()
  num_own, num_free = len(own.index), len(other_f)
  result = optimize.linprog(
    c=np.concatenate([np.zeros(num_own), -other_f]),
    A_ub=sparse.hstack([-payoffs.T, other_F.T], format="csr"),
    b_ub=np.zeros(len(other.index)),
    A_eq=sparse.hstack([own_E, sparse.csr_array((len(own_e), num_free))], format="csr"),
    b_eq=own_e,
    bounds=[(0, None)] * num_own + [(None, None)] * num_free,
    method="highs-ds",
  )
  if result.status != 0:
    raise RuntimeError(f"HiGHS did not solve the game: {result.message}")
  return np.maximum(result.x[:num_own], 0.0)


def _strategy(
  tree: Tree, owner: str, sequences: _Sequences, plan: np.ndarray
) -> trees.Strategy:
  """Return the probabilities of actions that a plan implies."""
  strategy = {}
  for information_set, actions in trees.information_sets(tree, owner).items():
    weights = {a: float(plan[sequences.index[information_set, a]]) for a in actions}
    strategy[information_set] = trees.normalized(weights)
  return strategy
