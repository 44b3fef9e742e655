"""The series of a Vervaat perpetuity, whose sum is a draw up to what is cut off."""

import numpy as np

_SMALLEST = 1e-12  # Of what is left of the sum, on average beta times that.


def sample(rng: np.random.Generator, beta: float, count: int) -> np.ndarray:
  """Return draws of sum_k exp(-G_k / beta), G_k the arrivals of a Poisson process.

  The sum ends where all draws have a term below 1e-12. Float64.
  """
  total, arrival = np.zeros(count), np.zeros(count)
  term = np.ones(count)
  while term.max() > _SMALLEST:
    arrival += rng.exponential(size=count)
    term = np.exp(-arrival / beta)
    total += term
  return total
