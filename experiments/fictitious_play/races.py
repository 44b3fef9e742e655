"""Plain and anticipatory play side by side, at equal numbers of best responses.

Shapes: G games or ways to break ties, T plays, B numbers of best responses from 0 on.
"""

from collections.abc import Callable
import functools

import jax
import numpy as np
from scipy import stats

from undo_jax.frontier import games

_ELEMENTS_AT_ONCE = 2**22  # Counts or payoffs that are held at once.


def worst_payoffs(
  payoffs: np.ndarray,
  key: jax.Array,
  num_responses: int,
  *,
  num_anticipations: int = 0,
  num_initial_steps: int = 0,
  count: int | None = None,
) -> np.ndarray:
  """Return the row player's worst-case payoff by best responses spent, [G, B].

  Until the next play is finished, the payoff of the last one counts.

  Args:
    payoffs: of games [G, I, J], or of one game [I, J] to be played `count` times.
    key: for ties; every game breaks its ties by its own key.
    num_responses: the most best responses of a player.
    num_anticipations: 0 for fictitious play, 1 for anticipatory fictitious play.
    num_initial_steps: plays without anticipation, after the first play.
    count: G, if there is one game.
  """
  number = (count or 1) if payoffs.ndim == 2 else len(payoffs)
  initial = min(num_initial_steps, num_responses)
  num_steps = 1 + initial + (num_responses - initial) // (num_anticipations + 1)
  num_rows, num_columns = payoffs.shape[-2:]
  size = max(num_rows * num_columns, num_steps * max(num_rows, num_columns))
  lower_GxT, spent_GxT = _played(
    payoffs,
    jax.random.split(key, number),
    num_steps=num_steps,
    num_anticipations=num_anticipations,
    num_initial_steps=num_initial_steps,
    at_once=max(1, min(number, _ELEMENTS_AT_ONCE // size)),
  )
  spent_T = np.asarray(spent_GxT[0])
  latest_B = np.searchsorted(spent_T, np.arange(num_responses + 1), side="right") - 1
  return np.asarray(lower_GxT)[:, latest_B]


@functools.partial(
  jax.jit,
  static_argnames=("num_steps", "num_anticipations", "num_initial_steps", "at_once"),
)
def _played(
  payoffs: jax.Array,
  keys: jax.Array,
  *,
  num_steps: int,
  num_anticipations: int,
  num_initial_steps: int,
  at_once: int,
) -> tuple[jax.Array, jax.Array]:
  """Return worst-case payoffs and best responses after each play."""

  def play(game: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    got = games.anticipatory_fictitious_play(
      game,
      num_steps,
      key=key,
      num_anticipations=num_anticipations,
      num_initial_steps=num_initial_steps,
    )
    return got.lower_T, got.best_responses_T

  if payoffs.ndim == 2:
    return jax.lax.map(lambda key: play(payoffs, key), keys, batch_size=at_once)
  return jax.lax.map(lambda both: play(*both), (payoffs, keys), batch_size=at_once)


def share_ahead(one_GxB: np.ndarray, other_GxB: np.ndarray) -> np.ndarray:
  """Return the share of games in which one play is ahead; ties count half, [B]."""
  ahead, even = one_GxB > other_GxB, one_GxB == other_GxB
  return np.mean(ahead + even / 2, axis=0)


def agresti_coull(
  share: np.ndarray, count: int, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
  """Return the interval of a binomial proportion.

  p~ = (x + z^2 / 2) / (n + z^2);  p~ +- z sqrt(p~ (1 - p~) / (n + z^2))

  Reference: Agresti and Coull, The American Statistician 52 (1998).
  """
  z = float(stats.norm.ppf((1 + confidence) / 2))
  total = count + z**2
  middle = (share * count + z**2 / 2) / total
  half = z * np.sqrt(middle * (1 - middle) / total)
  return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


def first_that(holds: Callable[[np.ndarray], np.ndarray], share_B: np.ndarray):
  """Return the number of best responses from which a condition holds; or None."""
  fails = np.flatnonzero(~holds(share_B))
  first = 0 if not len(fails) else int(fails[-1]) + 1
  return first if first < len(share_B) else None
