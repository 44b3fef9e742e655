"""How much a model's error changes the return: exact, on small tables in float64.

With d the normalized discounted occupancy of a policy in the MDP M, V' its values in
the model M' and the model-advantage

  ma(s, a) = discount * (E_{s'~P} V'(s') - E_{s''~P'} V'(s''))

the difference of the returns is an expectation of ma, and obeys a chain of bounds:

  J_M - J_M' = E_d[ma] / (1 - discount)
  |J_M - J_M'| <= E_d|ma| / (1 - discount)
               <= discount / (1 - discount) * E|V'(s') - V'(s'')|       (L1)
               <= discount / (1 - discount) * sqrt(E(V'(s') - V'(s''))^2)  (L2)

with s' ~ P and s'' ~ P' drawn independently at (s, a) ~ d.

Shapes: S states, A actions. Reference: Modhe et al., arXiv 2106.14080.
"""

from typing import NamedTuple

import numpy as np


class Mdp(NamedTuple):
  """A Markov decision process, or a model of one."""

  transitions_SxAxS: np.ndarray
  rewards_SxA: np.ndarray
  start_S: np.ndarray
  discount: float


class Chain(NamedTuple):
  """The difference of two returns, computed by both identities, and its bounds."""

  difference: float  # J_M - J_M', computed from the returns.
  identity: float  # From the model-advantage, at the occupancy of M.
  dual: float  # From values of M, at the occupancy of M'.
  absolute: float  # E_d|ma| / (1 - discount)
  l1: float
  l2: float


def draw(rng: np.random.Generator, states: int, actions: int, discount: float) -> Mdp:
  """Return a random MDP: Dirichlet transitions and start, Gaussian rewards."""
  return Mdp(
    rng.dirichlet(np.ones(states), size=(states, actions)),
    rng.normal(size=(states, actions)),
    rng.dirichlet(np.ones(states)),
    discount,
  )


def values(mdp: Mdp, policy_SxA: np.ndarray) -> np.ndarray:
  """Return V = (I - discount * P_pi)^-1 r_pi, [S]."""
  through_SxS = np.einsum("sa,sat->st", policy_SxA, mdp.transitions_SxAxS)
  rewards_S = (policy_SxA * mdp.rewards_SxA).sum(axis=1)
  return np.linalg.solve(
    np.eye(len(through_SxS)) - mdp.discount * through_SxS, rewards_S
  )


def occupancy(mdp: Mdp, policy_SxA: np.ndarray) -> np.ndarray:
  """Return (1 - discount) * sum_t discount^t * p(s_t, a_t), [S, A]; it adds up to 1."""
  through_SxS = np.einsum("sa,sat->st", policy_SxA, mdp.transitions_SxAxS)
  system = np.eye(len(through_SxS)) - mdp.discount * through_SxS.T
  visits_S = np.linalg.solve(system, (1 - mdp.discount) * mdp.start_S)
  return visits_S[:, None] * policy_SxA


def advantage(mdp: Mdp, other_SxAxS: np.ndarray, values_S: np.ndarray) -> np.ndarray:
  """Return discount * (E_{s'~P} V(s') - E_{s''~P'} V(s'')), [S, A]."""
  return mdp.discount * ((mdp.transitions_SxAxS - other_SxAxS) @ values_S)


def chain(mdp: Mdp, model: Mdp, policy_SxA: np.ndarray) -> Chain:
  """Return the difference of the returns of a policy in an MDP and in its model.

  Args:
    mdp: M.
    model: M', with the same rewards, start and discount.
    policy_SxA: probabilities of actions.
  """
  values_S, modeled_S = values(mdp, policy_SxA), values(model, policy_SxA)
  visited_SxA = occupancy(mdp, policy_SxA)
  advantage_SxA = advantage(mdp, model.transitions_SxAxS, modeled_S)
  over_SxA = advantage(mdp, model.transitions_SxAxS, values_S)
  apart_SxS = np.abs(modeled_S[:, None] - modeled_S)
  l1_SxA, l2_SxA = (
    np.einsum("sat,sau,tu->sa", mdp.transitions_SxAxS, model.transitions_SxAxS, each)
    for each in (apart_SxS, apart_SxS**2)
  )
  horizon = 1 / (1 - mdp.discount)
  return Chain(
    difference=float(mdp.start_S @ (values_S - modeled_S)),
    identity=float(horizon * (visited_SxA * advantage_SxA).sum()),
    dual=float(horizon * (occupancy(model, policy_SxA) * over_SxA).sum()),
    absolute=float(horizon * (visited_SxA * np.abs(advantage_SxA)).sum()),
    l1=float(horizon * mdp.discount * (visited_SxA * l1_SxA).sum()),
    l2=float(horizon * mdp.discount * (visited_SxA * l2_SxA).sum() ** 0.5),
  )


def beaten_by_one_state(mdp: Mdp, policy_SxA: np.ndarray) -> tuple[float, float]:
  """Return L1 and L2 of the best one-state model, divided by those of the true model.

  From each state and action, the one-state model goes to the one state with the least
  loss at the values of M. A mean is never below its least term, so neither ratio
  exceeds 1: losses of samples do not single out a true model with random transitions.
  """
  values_S = values(mdp, policy_SxA)
  visited_SxA = occupancy(mdp, policy_SxA)
  apart_SxS = np.abs(values_S[:, None] - values_S)
  ratios = []
  for power in (1, 2):
    to_one_SxAxS = mdp.transitions_SxAxS @ apart_SxS**power
    truth_SxA = (to_one_SxAxS * mdp.transitions_SxAxS).sum(axis=2)
    best_SxA = to_one_SxAxS.min(axis=2)
    means = [(visited_SxA * each).sum() for each in (best_SxA, truth_SxA)]
    ratios.append(float((means[0] / means[1]) ** (1 / power)))
  return ratios[0], ratios[1]
