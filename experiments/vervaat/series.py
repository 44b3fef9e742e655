"""The series of a Vervaat perpetuity; its sum, cut off, is almost an exact draw."""

import numpy as np

_SMALLEST = 1e-12  # Last term; the rest of the sum is beta times that on average.


def sample(rng: np.random.Generator, beta: float, count: int) -> np.ndarray:
  """Return draws of sum_k exp(-G_k / beta), G_k the arrivals of a Poisson process.

  The sum ends when all draws have a term below 1e-12. The draws are float64.
  """
  total, arrival = np.zeros(count), np.zeros(count)
  term = np.ones(count)
  while term.max() > _SMALLEST:
    arrival += rng.exponential(size=count)
    term = np.exp(-arrival / beta)
    total += term
  return total
