"""A toy with a distractor: which loss makes a model of one dimension fit what.

The state is (x, y, z): x' = .95 x, while (y, z) moves on a circle of radius 5 by .7 in
each step. The reward is -x^2. A linear model of rank 1, s^ = (s u) v, cannot fit both:
the likelihood prefers the distractor, which is larger, while the return needs x.

Shapes: B states, T steps.
"""

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from scipy import optimize

Kind: TypeAlias = Literal["mle", "l1", "l2"]
LOSSES: tuple[Kind, ...] = ("mle", "l1", "l2")
DISCOUNT = 0.9
_SHRINK, _RADIUS, _ANGLE = 0.95, 5.0, 0.7
_STEPS = 100  # Steps of a return; .9^100 < 3e-5.
_FARTHEST = 1e3  # States of diverging models are clipped to this.


class Fitted(NamedTuple):
  """The errors of a model from some starts."""

  squared_error: float  # |s' - s^|^2, mean.
  return_error: float  # Mean of J in the model minus the true J.
  bound: float  # By model-advantage L1, at the model's own values.


def step(states_Bx3: np.ndarray) -> np.ndarray:
  """Return the next states."""
  cosine, sine = np.cos(_ANGLE), np.sin(_ANGLE)
  x, y, z = states_Bx3.T
  return np.stack([_SHRINK * x, cosine * y - sine * z, sine * y + cosine * z], axis=1)


def predict(params_2x3: np.ndarray, states_Bx3: np.ndarray) -> np.ndarray:
  """Return s^ = (s u) v."""
  after = np.outer(states_Bx3 @ params_2x3[0], params_2x3[1])
  return np.clip(after, -_FARTHEST, _FARTHEST)


def value(states_Bx3: np.ndarray) -> np.ndarray:
  """Return the true value -x^2 / (1 - discount * .95^2), [B]."""
  return -(states_Bx3[:, 0] ** 2) / (1 - DISCOUNT * _SHRINK**2)


def loss(kind: Kind, params_2x3: np.ndarray, states_Bx3: np.ndarray) -> float:
  """Return the mean of |s' - s^|^2, or of |V(s') - V(s^)| or its square, V true."""
  expected, got = step(states_Bx3), predict(params_2x3, states_Bx3)
  if kind == "mle":
    return float(((expected - got) ** 2).sum(axis=1).mean())
  apart_B = np.abs(value(expected) - value(got))
  return float((apart_B if kind == "l1" else apart_B**2).mean())


def draw(rng: np.random.Generator, count: int) -> np.ndarray:
  """Return states, [count, 3], with x in [-2, 2] and anywhere on the circle."""
  x_B, angle_B = rng.uniform(-2, 2, count), rng.uniform(0, 2 * np.pi, count)
  circle = (_RADIUS * np.cos(angle_B), _RADIUS * np.sin(angle_B))
  return np.stack([x_B, *circle], axis=1)


def fit(kind: Kind, rng: np.random.Generator, count: int) -> np.ndarray:
  """Return the model [2, 3] that BFGS finds from a random start on `count` states.

  BFGS is started again twice where it stopped, since value-aware losses are flat or
  bent there.
  """
  states_Bx3 = draw(rng, count)
  params = rng.normal(size=6)
  for _ in range(3):
    params = optimize.minimize(
      lambda flat: loss(kind, flat.reshape(2, 3), states_Bx3), params, method="BFGS"
    ).x
  return params.reshape(2, 3)


def judge(params_2x3: np.ndarray, starts_Bx3: np.ndarray) -> Fitted:
  """Return the errors of a model from these starts."""

  def returned(go, states_Bx3):
    """Return the discounted return of each start, [B]."""
    total_B = np.zeros(len(states_Bx3))
    for time in range(_STEPS):
      total_B -= DISCOUNT**time * states_Bx3[:, 0] ** 2
      states_Bx3 = go(states_Bx3)
    return total_B

  def model(states_Bx3):
    return predict(params_2x3, states_Bx3)

  bound, states_Bx3 = 0.0, starts_Bx3
  for time in range(_STEPS):
    real_Bx3 = step(states_Bx3)
    apart_B = np.abs(returned(model, real_Bx3) - returned(model, model(states_Bx3)))
    bound += DISCOUNT ** (time + 1) * apart_B.mean()
    states_Bx3 = real_Bx3
  error_B = returned(model, starts_Bx3) - returned(step, starts_Bx3)
  squared = ((step(starts_Bx3) - model(starts_Bx3)) ** 2).sum(axis=1).mean()
  return Fitted(float(squared), float(error_B.mean()), float(bound))
