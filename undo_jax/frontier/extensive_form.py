"""Variance of a game's outcome by players and chance, in closed form from its leaves.

Each player's actions at all of its information sets, drawn at once before play, are one
factor, and so are those of chance; the outcome is a function of the factors. The split
depends on how chance is labelled: a deck shuffled in advance is one information set, a
fresh draw at every node is many. First-order effects of players are the same for both,
that of chance may differ.

Reference: Cloud and Laber, arXiv 2009.04834.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
import dataclasses
import math

import numpy as np

from undo_jax.frontier import variance
from undo_jax.utils.errors import ConfigError

_ROWS = 512  # Of pairs of leaves that are held in memory.


@dataclasses.dataclass(frozen=True)
class Choice:
  """An action on the way to a leaf."""

  factor: str  # The player, or chance.
  information_set: Hashable
  action: Hashable
  probability: float  # Of the action, by the factor's behaviour strategy.


@dataclasses.dataclass(frozen=True)
class Leaf:
  """An end of the game."""

  utility: float
  path: tuple[Choice, ...]


@dataclasses.dataclass(frozen=True)
class _Factor:
  """What the leaves ask of one factor's strategy."""

  asked_Z: np.ndarray  # int; which of the S different sets of choices.
  reach_S: np.ndarray  # Probability that a strategy has all of them.
  joint_SxS: np.ndarray  # Probability that one strategy has both sets.


def components(leaves: Sequence[Leaf]) -> dict[variance.Group, float]:
  """Return the variance component of every non-empty set of factors.

  Args:
    leaves: all of them that are reached with a positive probability.

  Raises:
    ConfigError: see `explained`.
  """
  factors = _factors(leaves)
  return variance.from_explained(
    {group: _explained(leaves, factors, group) for group in variance.subsets(factors)}
  )


def explained(leaves: Sequence[Leaf], group: Iterable[str]) -> float:
  """Return V_G = Var(E[utility | strategies of G]).

  V_G = sum_{z, z'} u(z) u(z') prod_{i in G} J_i(z, z') prod_{i not in G} e_i(z) e_i(z')
        - (E u)^2

  with e_i(z) the probability that i's strategy allows z, and J_i(z, z') that one draw
  of it allows both: 0 where they differ at an information set, else the product over
  the union of their choices. Exact, float64; pairs are of leaves that ask different
  things of the group, which are fewer than the leaves.

  Args:
    leaves: all of them that are reached with a positive probability.
    group: players, and chance, by the name that their choices have.

  Raises:
    ConfigError: if the probabilities of the leaves do not add up to 1.
  """
  return _explained(leaves, _factors(leaves), frozenset(group))


def _explained(
  leaves: Sequence[Leaf], factors: Mapping[str, _Factor], group: variance.Group
) -> float:
  """Return the same, of factors that are known."""
  reach = {name: factor.reach_S[factor.asked_Z] for name, factor in factors.items()}
  utility_Z = np.array([leaf.utility for leaf in leaves], dtype=float)
  ones_Z = np.ones(len(leaves))
  reach_Z = np.prod([ones_Z, *reach.values()], axis=0)
  whole = float(reach_Z.sum())
  if not math.isclose(whole, 1.0, rel_tol=1e-9):
    raise ConfigError(f"the probabilities of all leaves add up to 1, got {whole:.9g}")
  inside = [name for name in factors if name in group]
  if not inside:
    return 0.0
  asked_UxG, place_Z = np.unique(
    np.stack([factors[name].asked_Z for name in inside], axis=1),
    axis=0,
    return_inverse=True,
  )
  outside = [reach[name] for name in factors if name not in group]
  weight_Z = np.prod([utility_Z, *outside], axis=0)
  weight_U = np.bincount(place_Z.ravel(), weight_Z)
  square = 0.0
  for begin in range(0, len(asked_UxG), _ROWS):
    rows = slice(begin, begin + _ROWS)
    joint = [
      factors[name].joint_SxS[np.ix_(asked_U[rows], asked_U)]
      for name, asked_U in zip(inside, asked_UxG.T, strict=True)
    ]
    square += float(weight_U[rows] @ np.prod(joint, axis=0) @ weight_U)
  return square - float(reach_Z @ utility_Z) ** 2


def _factors(leaves: Sequence[Leaf]) -> dict[str, _Factor]:
  """Return what the leaves ask of each factor, by its name."""
  names = sorted({choice.factor for leaf in leaves for choice in leaf.path})
  return {name: _factor(leaves, name) for name in names}


def _factor(leaves: Sequence[Leaf], name: str) -> _Factor:
  """Return what the leaves ask of one factor's strategy.

  Two sets of choices agree if they share as many choices as information sets.
  """
  taken = [[c for c in leaf.path if c.factor == name] for leaf in leaves]
  choices = list(dict.fromkeys(choice for path in taken for choice in path))
  of_leaves = [frozenset(path) for path in taken]
  order = {sequence: index for index, sequence in enumerate(dict.fromkeys(of_leaves))}
  sets = list(dict.fromkeys(choice.information_set for choice in choices))
  place = {choice: index for index, choice in enumerate(choices)}
  has_SxC = np.zeros((len(order), len(choices)))
  for sequence, row in order.items():
    has_SxC[row, [place[choice] for choice in sequence]] = 1
  places = [sets.index(choice.information_set) for choice in choices]
  meets_SxI = has_SxC @ np.eye(len(sets))[places]
  log_C = np.log([choice.probability for choice in choices])
  own_S = has_SxC @ log_C
  union_SxS = own_S[:, None] + own_S - (has_SxC * log_C) @ has_SxC.T
  agree_SxS = has_SxC @ has_SxC.T == meets_SxI @ meets_SxI.T
  return _Factor(
    asked_Z=np.array([order[sequence] for sequence in of_leaves]),
    reach_S=np.exp(own_S),
    joint_SxS=agree_SxS * np.exp(union_SxS),
  )
