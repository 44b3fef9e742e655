"""Two swing-ups in pure JAX, from observation to observation.

An angle of 0 is upright. Both are integrated by semi-implicit Euler steps: velocities
first, positions by the new velocities.
"""

from collections.abc import Callable
import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Environment:
  """A task of continuous control; actions are in [-1, 1] and are clipped."""

  size: int  # S, of an observation.
  start: Callable[[jax.Array], jax.Array]  # Uniform in [-1, 1], [..., 2] -> [..., S]
  step: Callable[[jax.Array, jax.Array], jax.Array]  # ([..., S], [...]) -> [..., S]
  reward: Callable[[jax.Array, jax.Array], jax.Array]  # ([..., S], [...]) -> [...]
  scale: float  # Of rewards in training, so that values are some units.


def pendulum_step(
  observation: jax.Array, action: jax.Array, *, seconds: float = 0.05
) -> jax.Array:
  """Return the next (cos, sin, velocity) of a rod of length and mass 1, torque <= 2.

  angle'' = 3 g / (2 l) * sin(angle) + 3 / (m l^2) * torque,  g = 10, |velocity| <= 8

  Reference: the Pendulum of OpenAI's Gym.
  """
  angle = jnp.arctan2(observation[..., 1], observation[..., 0])
  torque = 2.0 * jnp.clip(action, -1.0, 1.0)
  faster = observation[..., 2] + seconds * (15.0 * jnp.sin(angle) + 3.0 * torque)
  velocity = jnp.clip(faster, -8.0, 8.0)
  angle = angle + seconds * velocity
  return jnp.stack([jnp.cos(angle), jnp.sin(angle), velocity], axis=-1)


def pendulum_reward(observation: jax.Array, action: jax.Array) -> jax.Array:
  """Return -(angle^2 + .1 velocity^2 + .001 torque^2)."""
  angle = jnp.arctan2(observation[..., 1], observation[..., 0])
  torque = 2.0 * jnp.clip(action, -1.0, 1.0)
  return -(angle**2 + 0.1 * observation[..., 2] ** 2 + 0.001 * torque**2)


def cartpole_step(
  observation: jax.Array, action: jax.Array, *, seconds: float = 0.04
) -> jax.Array:
  """Return the next (x, speed, cos, sin, velocity): cart 1 kg, rod .1 kg, 1 m, 10 N.

  With l half of the rod's length, M both masses, m the rod's, and F the force:
  push = (F + m l velocity^2 sin) / M
  angle'' = (g sin - cos push) / (l (4/3 - m cos^2 / M))
  x'' = push - m l angle'' cos / M

  Reference: Barto, Sutton and Anderson 1983 (without friction).
  """
  place, speed, cosine, sine, velocity = (observation[..., i] for i in range(5))
  mass, total, half, gravity = 0.1, 1.1, 0.5, 9.8
  force = 10.0 * jnp.clip(action, -1.0, 1.0)
  push = (force + mass * half * velocity**2 * sine) / total
  inertia = half * (4 / 3 - mass * cosine**2 / total)
  turning = (gravity * sine - cosine * push) / inertia
  faster = push - mass * half * turning * cosine / total
  velocity, speed = velocity + seconds * turning, speed + seconds * faster
  angle = jnp.arctan2(sine, cosine) + seconds * velocity
  place = place + seconds * speed
  return jnp.stack([place, speed, jnp.cos(angle), jnp.sin(angle), velocity], axis=-1)


def cartpole_reward(observation: jax.Array, action: jax.Array) -> jax.Array:
  """Return cos(angle) - .02 x^2 - .01 action^2."""
  place, cosine = observation[..., 0], observation[..., 2]
  return cosine - 0.02 * place**2 - 0.01 * jnp.clip(action, -1.0, 1.0) ** 2


def _pendulum_start(uniform: jax.Array) -> jax.Array:
  angle, velocity = jnp.pi * uniform[..., 0], uniform[..., 1]
  return jnp.stack([jnp.cos(angle), jnp.sin(angle), velocity], axis=-1)


def _cartpole_start(uniform: jax.Array) -> jax.Array:
  place, angle = 0.3 * uniform[..., 0], jnp.pi + 0.3 * uniform[..., 1]
  zero = jnp.zeros_like(place)
  return jnp.stack([place, zero, jnp.cos(angle), jnp.sin(angle), zero], axis=-1)


ENVIRONMENTS = {
  "pendulum": Environment(3, _pendulum_start, pendulum_step, pendulum_reward, 0.02),
  "cartpole": Environment(5, _cartpole_start, cartpole_step, cartpole_reward, 0.1),
}
