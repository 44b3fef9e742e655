"""Exact draws of Vervaat perpetuities by coupling from the past.

A chain D dominates Y. It walks on {x0 - 1, x0, ...}: up with probability 1/3, otherwise
down, or it stays if it is at the bottom. It is stationary and reversible, so it is
drawn backward from time 0. The past is cut into blocks of 1, 2, 4, ... steps. In a
block a lower bound m starts from 0 and an upper bound M from D. Where they meet,
everything that came before is forgotten, and the common value is pushed to time 0
through the later blocks.

Everything is float64, whatever JAX's flag says. Shapes: N draws, T steps.
"""

from collections.abc import Callable
import functools
from typing import NamedTuple, TypeAlias

import jax
from jax.core import Tracer
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from undo_jax.utils.errors import ConfigError

SMALLEST, LARGEST = 0.01, 1000.0  # Of beta: below, draws underflow; above, they take
# so many steps that a normal distribution will do.
UNIFORMS_PER_STEP = 3
_MOST_LEVELS = 24
_AT_ONCE = 2**20  # Steps, of all draws together, that are held in memory.


class Move(NamedTuple):
  """The randomness of a step, after D has moved."""

  is_up: jax.Array  # Whether D goes up.
  first: jax.Array  # U1^(1 / beta): U1 in (2/3, 1) if D goes up, else in (0, 2/3).
  second: jax.Array  # U2^(1 / beta)
  root: jax.Array  # (2 / 3)^(1 / beta)


# (lower bound, any values above it, move) -> the same after the step.
Update: TypeAlias = Callable[
  [jax.Array, tuple[jax.Array, ...], Move], tuple[jax.Array, tuple[jax.Array, ...]]
]


class Draws(NamedTuple):
  """The results of coupling from the past."""

  values_N: np.ndarray  # float64
  levels_N: np.ndarray  # int; the last block that was used has 2^level steps.
  violations_N: np.ndarray  # int; steps at which the upper bound was above D.

  @property
  def steps_N(self) -> np.ndarray:
    """The number of steps of each draw, in all of its blocks."""
    return 2 ** (self.levels_N + 1) - 1

  @property
  def uniforms_N(self) -> np.ndarray:
    """The number of uniform variables of each draw, D's value at time 0 included."""
    return UNIFORMS_PER_STEP * self.steps_N + 1


def exact(
  lower: jax.Array, above: tuple[jax.Array, ...], move: Move
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
  """Return a step that keeps m <= y <= M <= D and Y's law, given D's path.

  D up:  y' = a (1 + y), m' = a (1 + m), a = U1^(1 / beta)
  else:  m' = r (1 + m) U2^(1 / beta), r = (2 / 3)^(1 / beta), and
         y' = m' if a (1 + y) < r (1 + m), else a (1 + y)

  Below r (1 + m) the law of a (1 + y) does not depend on y, so it may be replaced by
  another draw, the same one for all y.
  """
  reached = move.root * (1 + lower)
  met = jnp.where(move.is_up, move.first * (1 + lower), reached * move.second)

  def push(value):
    moved = move.first * (1 + value)
    return jnp.where(~move.is_up & (moved < reached), met, moved)

  return met, tuple(push(value) for value in above)


def sample(
  key: jax.Array,
  beta: ArrayLike,
  shape: tuple[int, ...] | None = None,
  dtype: np.dtype | type | None = None,
) -> jax.Array:
  """Return exact draws of Y =d U^(1 / beta) (1 + Y), as jax.random's functions do.

  E[exp(-s Y)] = exp(-beta int_0^1 (1 - e^(-s u)) / u du): cumulant k is beta / k.
  A draw takes a random time of O(beta ln beta) on average. It cannot be traced.

  Args:
    key: PRNG key.
    beta: in [0.01, 1000].
    shape: of the result, to which beta is broadcast; None: the shape of beta.
    dtype: of the result; None: JAX's default, float64 if its flag is on.

  Raises:
    ConfigError: if beta is out of range, or traced.
  """
  beta_N, shape = checked(beta, shape)
  values_N = draw(key, beta_N).values_N
  return jnp.asarray(values_N.reshape(shape), jnp.result_type(dtype or float))


def checked(
  beta: ArrayLike, shape: tuple[int, ...] | None
) -> tuple[np.ndarray, tuple[int, ...]]:
  """Return beta of every draw, in float64, and the shape; raise ConfigError."""
  if isinstance(beta, Tracer):
    raise ConfigError(
      "beta is given as numbers, got a traced value: how many steps a draw takes is not"
      " known in advance; draw outside of jit, grad and vmap"
    )
  array = np.asarray(beta, dtype=float)
  if not np.all((array >= SMALLEST) & (array <= LARGEST)):
    raise ConfigError(
      f"beta: expected numbers in [{SMALLEST:g}, {LARGEST:g}], got {beta}"
    )
  shape = array.shape if shape is None else tuple(shape)
  try:
    return np.broadcast_to(array, shape).ravel(), shape
  except ValueError:
    raise ConfigError(
      f"beta of shape {array.shape} cannot be broadcast to shape {shape}"
    ) from None


def draw(
  key: jax.Array,
  beta_N: np.ndarray,
  update: Update = exact,
  *,
  most_levels: int = _MOST_LEVELS,
) -> Draws:
  """Return draws, with the numbers of steps and uniform variables that they took.

  If the bounds of a draw have not met within its blocks, it is drawn again with four
  times the steps, of which the last quarter is the same.

  Args:
    key: PRNG key.
    beta_N: of each draw.
    update: the step, `exact` or one of `published`.
    most_levels: the largest number of blocks.

  Raises:
    RuntimeError: if these blocks are not enough.
  """
  count = len(beta_N)
  keys_N = jax.random.split(key, count)
  values_N, levels_N = np.zeros(count), np.full(count, -1)
  violations_N = np.zeros(count, dtype=int)
  left = np.arange(count)
  levels = _first_levels(float(beta_N.max(initial=0.0)))
  while len(left):
    if levels > most_levels:
      raise RuntimeError(f"{len(left)} draws have not met in {2**most_levels} steps")
    size = max(1, _AT_ONCE // 2**levels)
    for begin in range(0, len(left), size):
      part = left[begin : begin + size]
      padded = np.resize(part, min(size, _padded(len(part))))
      with jax.enable_x64(True):
        got = _windows(keys_N[padded], jnp.asarray(beta_N[padded]), update, levels)
      values_N[part], levels_N[part], violations_N[part] = (
        np.asarray(each)[: len(part)] for each in got
      )
    left = np.flatnonzero(levels_N < 0)
    levels += 2
  return Draws(values_N, levels_N, violations_N)


def _first_levels(beta: float) -> int:
  """Return how many blocks are drawn first: for 2 beta ln(beta + 2) steps or more.

  The number is odd, so that more betas share a program.
  """
  return max(3, int(np.ceil(np.log2(2 + 2 * beta * np.log(beta + 2))))) | 1


def _padded(count: int) -> int:
  """Return `count` or the next larger number of draws with a compiled program."""
  bits = (count - 1).bit_length()
  return 2 ** (8 if bits <= 8 else max(12, bits))


def _windows(keys_N, beta_N, update: Update, levels: int):
  """Return values, levels (-1: the bounds have not met) and violations of the draws."""
  return _pushed(_drawn(keys_N, levels), beta_N, update, levels)


@functools.partial(jax.jit, static_argnames="levels")
def _drawn(keys_N, levels: int):
  """Return the randomness of the draws; all updates share this program."""
  return jax.vmap(lambda key: _randomness(key, levels))(keys_N)


@functools.partial(jax.jit, static_argnames=("update", "levels"))
def _pushed(randomness, beta_N, update: Update, levels: int):
  """Return the values, levels and violations of draws with this randomness."""
  one = functools.partial(_window, update=update, levels=levels)
  return jax.vmap(one)(randomness, beta_N)


def _window(randomness, beta: jax.Array, update: Update, levels: int):
  """Return the same for one draw.

  The arrays go from the farthest step to the last step before time 0.
  """
  root = (2 / 3) ** (1 / beta)
  floor = (1 + root) / (1 - root) - 1  # x0 - 1
  heights_T, is_up_T, first_T, second_T = randomness
  first_T, second_T = first_T ** (1 / beta), second_T ** (1 / beta)
  level_T = np.repeat(np.arange(levels), 2 ** np.arange(levels))[::-1]
  starts_T = np.diff(level_T, prepend=levels) != 0
  ends_T = np.diff(level_T, append=-1) != 0

  def step(carry, now):
    lower, upper, value, level, violations, in_block = carry
    far, near, is_up, first, second, own_level, starts, ends = now
    lower = jnp.where(starts, 0.0, lower)
    upper = jnp.where(starts, floor + far, upper)
    move = Move(is_up, first, second, root)
    lower, (upper, value) = update(lower, (upper, value), move)
    in_block = jnp.where(starts, 0, in_block) + (upper > floor + near)
    meets = ends & (lower == upper)
    before = jnp.where(meets, 0, violations)  # Everything before is forgotten.
    violations = jnp.where(ends, before + in_block, violations)
    value = jnp.where(meets, lower, value)
    level = jnp.where(meets, own_level, level)
    return (lower, upper, value, level, violations, in_block), None

  start = (0.0, 0.0, floor + heights_T[0], -1, 0, 0)
  steps = (
    *(heights_T[:-1], heights_T[1:], is_up_T, first_T, second_T),
    *(jnp.asarray(level_T), jnp.asarray(starts_T), jnp.asarray(ends_T)),
  )
  start = jax.tree.map(jnp.asarray, start)
  (_, _, value, level, violations, _), _ = jax.lax.scan(step, start, steps)
  return value, level, violations


def _randomness(key: jax.Array, levels: int):
  """Return D's heights above its bottom [T + 1], whether it goes up, U1 and U2 [T].

  A step's variables depend on the key and the step's place, not on the number of steps.
  Backward in time D is the reflected walk h_j = S_j + max(h_0, max_{i <= j} -S_i).
  """
  places = jnp.arange(2**levels)
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, places)
  uniforms = jax.vmap(lambda key: jax.random.uniform(key, (3,), float))(keys)
  height = jnp.floor(-jnp.log2(1.0 - uniforms[0, 0]))
  coin_T, first_T, second_T = uniforms[1:].T
  walk_T = jnp.cumsum(jnp.where(coin_T < 1 / 3, 1.0, -1.0))
  heights_T = walk_T + jnp.maximum(height, jax.lax.cummax(-walk_T))
  heights_T = jnp.concatenate([height[None], heights_T])
  is_up_T = heights_T[:-1] > heights_T[1:]  # A step down in backward time.
  first_T = jnp.where(is_up_T, 2 / 3 + first_T / 3, 2 / 3 * first_T)
  return heights_T[::-1], is_up_T[::-1], first_T[::-1], second_T[::-1]
