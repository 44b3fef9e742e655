"""Games of two players and chance as trees, and values and responses of strategies.

A strategy gives, at each information set of its owner, the probability of each action.
Players remember what they knew and did (perfect recall).
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
import dataclasses
from typing import Any, TypeAlias

from undo_jax.frontier.extensive_form import Choice, Leaf
from undo_jax.utils.errors import ConfigError

FIRST, SECOND, CHANCE = "first", "second", "chance"
PLAYERS = (FIRST, SECOND)
_ROUNDING = 1e-12  # Equal utilities may differ by this.
Action: TypeAlias = Any  # Hashable; Any, since keys of mappings are invariant.
# A strategy: probabilities of the actions, by information set.
Strategy: TypeAlias = Mapping[Hashable, Mapping[Action, float]]
# A profile: a strategy of each player, by name.
Profile: TypeAlias = Mapping[str, Strategy]


@dataclasses.dataclass(frozen=True)
class End:
  """An end of the game."""

  utilities: tuple[float, float]  # Of the first and of the second player.


@dataclasses.dataclass(frozen=True)
class Node:
  """A decision of a player or of chance."""

  owner: str
  information_set: Hashable
  children: Mapping[Action, "Tree"]
  probabilities: Mapping[Action, float] | None = None  # Of the actions, if chance's.


Tree: TypeAlias = Node | End


def nodes(tree: Tree) -> Iterator[Tree]:
  """Yield all nodes, each before those below it."""
  yield tree
  if isinstance(tree, Node):
    for child in tree.children.values():
      yield from nodes(child)


def information_sets(tree: Tree, owner: str) -> dict[Hashable, tuple[Action, ...]]:
  """Return the actions at each information set of an owner."""
  return {
    node.information_set: tuple(node.children)
    for node in nodes(tree)
    if isinstance(node, Node) and node.owner == owner
  }


def uniform(tree: Tree, owner: str) -> Strategy:
  """Return the strategy that takes all actions with equal probability."""
  return {
    information_set: dict.fromkeys(actions, 1 / len(actions))
    for information_set, actions in information_sets(tree, owner).items()
  }


def leaves(tree: Tree, profile: Profile) -> list[Leaf]:
  """Return leaves of positive probability, with the first player's utilities."""

  def below(node: Tree, path: tuple[Choice, ...]) -> Iterator[Leaf]:
    if isinstance(node, End):
      yield Leaf(node.utilities[0], path)
      return
    for action, probability in action_probabilities(node, profile).items():
      if probability > 0:
        choice = Choice(node.owner, node.information_set, action, probability)
        yield from below(node.children[action], (*path, choice))

  return list(below(tree, ()))


def value(tree: Tree, profile: Profile) -> float:
  """Return the expected utility of the first player."""
  if isinstance(tree, End):
    return tree.utilities[0]
  probabilities = action_probabilities(tree, profile)
  return sum(
    probability * value(tree.children[action], profile)
    for action, probability in probabilities.items()
    if probability > 0
  )


def action_probabilities(node: Node, profile: Profile) -> Mapping[Action, float]:
  """Return the probability of each action at a node."""
  if node.probabilities is not None:
    return node.probabilities
  return profile[node.owner][node.information_set]


def best_response(tree: Tree, profile: Profile, owner: str) -> Strategy:
  """Return a pure strategy that earns the owner the most against the other strategies.

  Ties go to the first action, also at information sets that play never reaches.
  """
  sign = 1 if owner == FIRST else -1
  weighted: dict[Hashable, list[tuple[Node, float]]] = {}
  _collect(tree, profile, owner, 1.0, weighted)
  chosen: dict[Hashable, Action] = {}

  def worth(node: Tree) -> float:
    if isinstance(node, End):
      return node.utilities[0]
    if node.owner == owner:
      return worth(node.children[choose(node.information_set)])
    probabilities = action_probabilities(node, profile)
    return sum(p * worth(node.children[a]) for a, p in probabilities.items() if p > 0)

  def choose(information_set: Hashable) -> Action:
    if information_set not in chosen:
      at = weighted[information_set]
      worths = {
        action: sum(w * worth(node.children[action]) for node, w in at if w > 0)
        for action in at[0][0].children
      }
      best = max(sign * worth for worth in worths.values())
      chosen[information_set] = next(
        action for action, worth in worths.items() if sign * worth >= best - _ROUNDING
      )
    return chosen[information_set]

  return {
    information_set: {a: float(a == choose(information_set)) for a in actions}
    for information_set, actions in information_sets(tree, owner).items()
  }


def mixture(
  tree: Tree, owner: str, strategies: Sequence[Strategy], weights: Sequence[float]
) -> Strategy:
  """Return the strategy equivalent to drawing one by its weight before the game.

  At an information set each counts by its weight times the probability that its own
  actions lead there; if no strategy leads there, the actions are equally likely.
  """
  actions_of = information_sets(tree, owner)
  sums = {s: dict.fromkeys(actions, 0.0) for s, actions in actions_of.items()}
  seen: set[Hashable] = set()

  def walk(node: Tree, reaches: tuple[float, ...]) -> None:
    if isinstance(node, End) or not any(reaches):
      return
    own = node.owner == owner
    if own and node.information_set not in seen:
      seen.add(node.information_set)
      for strategy, reach in zip(strategies, reaches, strict=True):
        for action, probability in strategy[node.information_set].items():
          sums[node.information_set][action] += reach * probability
    for action, child in node.children.items():
      below = reaches
      if own:
        below = tuple(
          reach * strategy[node.information_set][action]
          for strategy, reach in zip(strategies, reaches, strict=True)
        )
      walk(child, below)

  walk(tree, tuple(weights))
  return {s: normalized(probabilities) for s, probabilities in sums.items()}


def check_zero_sum(tree: Tree) -> None:
  """Raise ConfigError unless the players' utilities add up to 0 at every end."""
  for node in nodes(tree):
    if isinstance(node, End) and sum(node.utilities) != 0:
      raise ConfigError(
        "a game whose equilibrium is sought is zero-sum: utilities add up to 0 at every"
        f" end, got {node.utilities}"
      )


def normalized(probabilities: Mapping[Action, float]) -> Mapping[Action, float]:
  """Return weights divided by their sum; if the sum is 0, equal weights."""
  total = sum(probabilities.values())
  if total <= 0:
    return dict.fromkeys(probabilities, 1 / len(probabilities))
  return {action: p / total for action, p in probabilities.items()}


def _collect(
  tree: Tree,
  profile: Profile,
  owner: str,
  weight: float,
  weighted: dict[Hashable, list[tuple[Node, float]]],
) -> None:
  """Add the owner's nodes, with the probability that the others lead there."""
  if isinstance(tree, End):
    return
  if tree.owner == owner:
    weighted.setdefault(tree.information_set, []).append((tree, weight))
    for child in tree.children.values():
      _collect(child, profile, owner, weight, weighted)
    return
  for action, probability in action_probabilities(tree, profile).items():
    _collect(tree.children[action], profile, owner, weight * probability, weighted)
