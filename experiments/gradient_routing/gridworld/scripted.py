"""Policies that are not learned, to compare returns with."""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.gradient_routing.gridworld import environment as env

_MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # Up, right, down, left.


def optimal(world: env.State, observation: jax.Array, words: jax.Array) -> jax.Array:
  """Take a shortest path to the Diamond that does not lead through the Ghost."""
  del observation, words
  return jnp.asarray(first_moves())[world.diamond, world.ghost, world.agent]


def blind(world: env.State, observation: jax.Array, words: jax.Array) -> jax.Array:
  """Take any shortest path to the Diamond, also one through the Ghost."""
  del observation
  down, right = _towards(world.agent, world.diamond)
  return _either(down, right, words)


def nearest(world: env.State, observation: jax.Array, words: jax.Array) -> jax.Array:
  """Take a shortest path to the nearer of Diamond and Ghost; in a tie, to either."""
  del observation
  to_diamond = _distance(world.agent, world.diamond)
  to_ghost = _distance(world.agent, world.ghost)
  coin = (words >> 30) % 2  # The next bit chooses between two moves.
  is_diamond = to_diamond + coin.astype(jnp.int32) <= to_ghost
  goal = jnp.where(is_diamond, world.diamond, world.ghost)
  return _either(*_towards(world.agent, goal), words)


def unseen(world: env.State, observation: jax.Array, words: jax.Array) -> jax.Array:
  """Do best by what training sees without routing: nearest, but no overseen Ghost."""
  around = optimal(world, observation, words)
  straight = nearest(world, observation, words)
  return jnp.where(world.ghost_overseen, around, straight)


def random(world: env.State, observation: jax.Array, words: jax.Array) -> jax.Array:
  """Take any move, all equally likely."""
  del world, observation
  return (words >> 30).astype(jnp.int32)


POLICIES: dict[str, Callable[[env.State, jax.Array, jax.Array], jax.Array]] = {
  "optimal": optimal,
  "blind": blind,
  "nearest": nearest,
  "unseen": unseen,
  "random": random,
}


@functools.cache
def first_moves() -> np.ndarray:
  """Return the first move of a shortest path, int32 [goal, cell to avoid, start].

  The search is breadth first from every goal, over all cells but the one to avoid.
  """
  moves = np.zeros((env.CELLS, env.CELLS, env.CELLS), np.int32)
  for goal in range(env.CELLS):
    for avoided in range(env.CELLS):
      reached = {goal}
      frontier = [goal]
      while frontier:
        cell = frontier.pop(0)
        for move, (down, right) in enumerate(_MOVES):
          row, column = cell // env.SIZE - down, cell % env.SIZE - right
          start = env.SIZE * row + column
          inside = 0 <= row < env.SIZE and 0 <= column < env.SIZE
          if inside and start != avoided and start not in reached:
            moves[goal, avoided, start] = move
            reached.add(start)
            frontier.append(start)
  return moves


def _towards(start, goal):
  """Return the number of cells down and to the right; negative for up and left."""
  return goal // env.SIZE - start // env.SIZE, goal % env.SIZE - start % env.SIZE


def _distance(start, goal):
  down, right = _towards(start, goal)
  return jnp.abs(down) + jnp.abs(right)


def _either(down, right, words):
  """Return a move that shortens a distance; a coin decides if two moves do."""
  vertical = jnp.where(down < 0, 0, 2)
  horizontal = jnp.where(right < 0, 3, 1)
  coin = words >> 31 == 1
  use_vertical = jnp.where(down == 0, False, jnp.where(right == 0, True, coin))
  return jnp.where(use_vertical, vertical, horizontal).astype(jnp.int32)
