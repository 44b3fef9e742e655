"""Smoother losses against closed forms of small polynomials."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from undo_jax import config
from undo_jax.training.gradients import sharpness_aware
from undo_jax.training.smoothing import Smoothing, smoothed
from undo_jax.utils.records import FieldError
from undo_jax.utils.types import SumCount

KEY = jax.random.key(0)
BATCH = {"scale": jnp.ones(4)}
A = np.float32([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 3.0]])
THETA = np.float32([0.7, -0.4, 0.2])


def polynomial(value):
  """Return an objective of {"x": theta} that is the same for every row."""

  def objective(params, frozen, batch, key):
    del frozen, key
    rows = batch["scale"]
    return SumCount(jnp.sum(rows) * value(params["x"]), jnp.sum(rows)), {}

  return objective


def quadratic(x):
  return 0.5 * x @ jnp.asarray(A) @ x


def quartic(x):
  return jnp.sum(x**4)


def gradient(smoothing, value, *, trainable=(), num_microbatches=1):
  fn = smoothed(smoothing, trainable=trainable)
  fn = functools.partial(fn, polynomial(value), num_microbatches=num_microbatches)
  loss, grads, _ = jax.jit(fn)({"x": jnp.asarray(THETA)}, {}, BATCH, KEY)
  if smoothing.kind != "random":
    np.testing.assert_allclose(loss, value(jnp.asarray(THETA)), rtol=1e-5)
  return np.asarray(grads["x"])


@pytest.mark.parametrize("num_microbatches", [1, 2])
def test_the_penalty_of_a_quadratic_is_exact(num_microbatches):
  smoothing = Smoothing(kind="gradient_penalty", radius=0.1, weight=0.7)
  g = A @ THETA
  expected = g + 0.7 * A @ g / np.linalg.norm(g)
  got = gradient(smoothing, quadratic, num_microbatches=num_microbatches)
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_the_penalty_is_the_derivative_of_a_norm():
  """Of a quartic, whose Hessian moves: the difference tends to it with the radius."""
  x, step, weight = np.float64(THETA), 1e-6, 0.7

  def whole(x):
    return (x**4).sum() + weight * np.linalg.norm(4 * x**3)

  expected = [
    (whole(x + step * e) - whole(x - step * e)) / (2 * step) for e in np.eye(3)
  ]
  errors = []
  for radius in (0.1, 0.01):
    smoothing = Smoothing(kind="gradient_penalty", radius=radius, weight=weight)
    errors.append(np.abs(gradient(smoothing, quartic) - expected).max())
  assert errors[1] < 0.15 * errors[0] < 0.15


def test_a_penalty_of_the_radius_is_sharpness_aware_minimization():
  """g + r (g(theta + r u) - g) / r, u along g: so what is declared weighs it more."""
  smoothing = Smoothing(kind="gradient_penalty", radius=0.3, weight=0.3)
  fn = functools.partial(sharpness_aware(0.3), polynomial(quartic))
  _, expected, _ = jax.jit(fn)({"x": jnp.asarray(THETA)}, {}, BATCH, KEY)
  np.testing.assert_allclose(gradient(smoothing, quartic), expected["x"], rtol=1e-5)
  declared = config.shipped("arithmetic:tiny").models.max_ent_penalty.smoothing
  assert declared.weight != declared.radius


def test_curvature_of_a_quartic():
  """H(theta + r v) - H(theta) along u, by its formula with the same differences."""
  radius, weight = 0.05, 2.0

  def g(x):
    return 4 * x**3

  x = np.float64(THETA)
  away = x + radius * g(x) / np.linalg.norm(g(x))
  u = g(away) - g(x)
  u /= np.linalg.norm(u)
  exact = 12 * (away**2 - x**2) * u  # The Hessians are diagonal.
  smoothing = Smoothing(kind="curvature", radius=radius, weight=weight)
  got = (gradient(smoothing, quartic) - g(x)) / weight
  # The difference of gradients adds 12 * radius * u^2 * (away - x) at most.
  bound = 12 * radius * (u**2 * np.abs(away - x)).max() + 1e-4
  np.testing.assert_allclose(got, exact, rtol=0, atol=bound)


def test_a_quadratic_has_the_same_curvature_everywhere():
  smoothing = Smoothing(kind="curvature", radius=0.1, weight=5.0)
  np.testing.assert_allclose(gradient(smoothing, quadratic), A @ THETA, atol=2e-3)


def test_random_smoothing_adds_what_the_noise_adds():
  """Of a quartic: E[4 (x + s n)^3] = 4 x^3 + 12 s^2 x."""
  smoothing = Smoothing(kind="random", radius=0.3, samples=20_000)
  expected = 4 * THETA**3 + 12 * 0.3**2 * THETA
  np.testing.assert_allclose(gradient(smoothing, quartic), expected, atol=0.03)


@pytest.mark.parametrize("kind", ["random", "gradient_penalty", "curvature"])
def test_what_is_frozen_is_not_moved(kind):
  smoothing = Smoothing(kind=kind, radius=0.3, weight=0.5)
  got = gradient(smoothing, quadratic, trainable=((r"nothing|x", None, None, 0.0),))
  np.testing.assert_allclose(got, A @ THETA, rtol=1e-5)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"radius": 0.0}, "radius: expected a number above 0, got 0.0"),
    ({"weight": -1.0}, "weight"),
    ({"samples": 0}, "samples"),
  ],
)
def test_values_that_cannot_work(fields, message):
  with pytest.raises(FieldError, match=message):
    Smoothing(**({"kind": "random", "radius": 0.1} | fields))
