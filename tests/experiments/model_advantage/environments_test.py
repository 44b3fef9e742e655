"""Swing-ups against scipy's integrator, by equations written from energies."""

import jax
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from experiments.model_advantage import environments as envs

SECONDS, COUNT = 5e-4, 600


def pendulum(_, state, action):
  """Uniform rod of mass 1 and length 1 on a hinge, g = 10: I angle'' = torque."""
  angle, velocity = state
  inertia, weight = 1 / 3, 10 * 0.5 * np.sin(angle)
  return [velocity, (weight + 2 * action) / inertia]


def cartpole(_, state, action):
  """Lagrange's equations of a cart and a uniform rod, as a linear system."""
  _, angle, speed, velocity = state
  cart, rod, half, gravity = 1.0, 0.1, 0.5, 9.8
  coupled = rod * half * np.cos(angle)
  masses = [[cart + rod, coupled], [coupled, rod * half**2 * (1 + 1 / 3)]]
  forces = [
    10 * action + rod * half * velocity**2 * np.sin(angle),
    rod * gravity * half * np.sin(angle),
  ]
  return [speed, velocity, *np.linalg.solve(masses, forces)]


def stepped(step, start, action):
  """Return the observation after short steps."""
  advance = jax.jit(
    lambda s: jax.lax.fori_loop(
      0, COUNT, lambda _, x: step(x, action, seconds=SECONDS), s
    )
  )
  return np.asarray(advance(np.float32(start)))


def solved(motion, start, action):
  end = SECONDS * COUNT
  got = solve_ivp(motion, (0, end), start, args=(action,), rtol=1e-10, atol=1e-10)
  return got.y[:, -1]


@pytest.mark.parametrize(
  "angle, velocity, action", [(3.0, 0.5, 0.7), (0.4, -1.0, -0.3)]
)
def test_the_pendulum_moves_as_its_equation_says(angle, velocity, action):
  got = stepped(envs.pendulum_step, [np.cos(angle), np.sin(angle), velocity], action)
  angle, velocity = solved(pendulum, [angle, velocity], action)
  expected = [np.cos(angle), np.sin(angle), velocity]
  np.testing.assert_allclose(got, expected, atol=2e-3)


@pytest.mark.parametrize(
  "angle, velocity, action", [(3.0, 0.5, 0.7), (0.4, -1.0, -0.3)]
)
def test_cart_and_pole_move_as_lagrange_says(angle, velocity, action):
  start = [0.2, -0.1, np.cos(angle), np.sin(angle), velocity]
  got = stepped(envs.cartpole_step, start, action)
  place, angle, speed, velocity = solved(cartpole, [0.2, angle, -0.1, velocity], action)
  expected = [place, speed, np.cos(angle), np.sin(angle), velocity]
  np.testing.assert_allclose(got, expected, atol=3e-3)


def test_actions_are_clipped_and_rewards_are_best_upright():
  for name, world in envs.ENVIRONMENTS.items():
    drawn = np.random.default_rng(0).uniform(-1, 1, (50, 2)).astype(np.float32)
    starts = np.asarray(world.start(drawn))
    assert starts.shape == (50, world.size)
    np.testing.assert_array_equal(
      world.step(starts, np.full(50, 3.0)), world.step(starts, np.ones(50))
    )
    upright = np.zeros(world.size, np.float32)
    upright[0 if name == "pendulum" else 2] = 1.0
    best = float(world.reward(upright, np.zeros(())))
    assert best > float(np.max(world.reward(starts, np.zeros(50))))


def test_the_pendulum_rewards_as_gyms_does():
  angle, velocity, action = 2.5, -1.5, 0.5
  got = envs.pendulum_reward(
    np.float32([np.cos(angle), np.sin(angle), velocity]), np.float32(action)
  )
  expected = -(2.5**2 + 0.1 * 1.5**2 + 0.001 * (2 * 0.5) ** 2)
  np.testing.assert_allclose(float(got), expected, rtol=1e-6)
