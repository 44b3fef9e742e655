"""Updates of the published listing, and what is wrong with them.

When D does not go up, the listing redraws the point at which both bounds meet as
(1 + m) U2^(1 / beta). This has the law of U1^(1 / beta) (1 + y) below 1 + m only if D's
path is not known. But the path is known, since the bounds start from D, and y may come
to lie above D. Further, in the loop that looks for a meeting, the listing compares with
the new lower bound instead of the old one.
"""

import jax
import jax.numpy as jnp

from experiments.vervaat.sampler import Move


def listing(
  lower: jax.Array, above: tuple[jax.Array, ...], move: Move
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
  """Return the listing's step: M compares with the new m, pushed values with the old.

  m' = (1 + m) U2^(1 / beta); M' = m' if U1^(1 / beta) (1 + M) < 1 + m'
  """
  upper, *values = above
  met = (1 + lower) * move.second
  pushed = tuple(_push(value, lower, met, move) for value in values)
  return met, (_push(upper, met, met, move), *pushed)


def old_bound(
  lower: jax.Array, above: tuple[jax.Array, ...], move: Move
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
  """Return the step that compares M with the old m: M' = m' if ... < 1 + m."""
  met = (1 + lower) * move.second
  return met, tuple(_push(value, lower, met, move) for value in above)


def _push(value: jax.Array, bound: jax.Array, met: jax.Array, move: Move) -> jax.Array:
  moved = move.first * (1 + value)
  return jnp.where(moved < 1 + bound, met, moved)
