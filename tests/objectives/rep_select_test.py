"""RepSelect: what collapsing does to singular values, and its updates in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from undo_jax import objectives, testing
from undo_jax.models import lora
from undo_jax.objectives import rep_select
from undo_jax.training import state as state_lib
from undo_jax.training.gradients import by_source
from undo_jax.training.step import make_step
from undo_jax.utils.records import FieldError

KERNEL = "layers/mlp/up/kernel"
OPTIONS = {
  "adversary_rate": 0.05,
  "adversary_updates": 3,
  "gradient_updates": 2,
  "components": 3,
  "targets": (KERNEL,),
}


def matrix(seed, *shape):
  return np.random.default_rng(seed).standard_normal(shape)


def np_collapse(m, n):
  left, values, right = np.linalg.svd(np.float64(m), full_matrices=False)
  values[:n] = values[n - 1] ** 2 / values[:n]
  return (left * values) @ right


def test_the_first_singular_values_are_inverted_and_the_others_stay():
  m = np.float32(matrix(0, 6, 4))
  values = np.linalg.svd(m, compute_uv=False)
  actual = np.asarray(rep_select.soft_collapse(m, 3))
  expected = [*values[2] ** 2 / values[:3], values[3]]
  singular = np.linalg.svd(actual, compute_uv=False)
  np.testing.assert_allclose(singular, sorted(expected)[::-1], rtol=1e-5)
  np.testing.assert_allclose(actual, np_collapse(m, 3), atol=1e-5)
  # One component is what it was, and a multiple becomes the multiple.
  np.testing.assert_allclose(rep_select.soft_collapse(m, 1), m, atol=1e-5)
  doubled = rep_select.soft_collapse(2 * m, 3)
  np.testing.assert_allclose(doubled, 2 * actual, atol=1e-5)


def test_what_has_too_few_components_is_nothing():
  m = np.float32(np.outer(matrix(1, 5), matrix(2, 4)))
  assert np.max(np.abs(rep_select.soft_collapse(m, 3))) < 1e-4
  assert not np.any(rep_select.soft_collapse(np.zeros((5, 4), np.float32), 3))


def quadratic(params, tokens):
  """Return logits of a made-up model: tokens are rows of inputs to one matrix."""
  w = params["layers"]["mlp"]["up"]["kernel"][0]
  return Logits(params["embedding"][tokens] @ w)


class Logits:
  def __init__(self, logits):
    self.logits = logits


V, D = 9, 12
EMBEDDING = matrix(3, V, D)
BATCHES = [jax.device_get(testing.batch(jax.random.key(n), vocab=V)) for n in range(7)]


def np_gradient(w, batch):
  """Return the gradient of the cross-entropy with respect to the matrix, float64."""
  hidden = EMBEDDING[batch["inputs"]]
  logits = hidden @ w
  p = np.exp(logits - logits.max(-1, keepdims=True))
  p /= p.sum(-1, keepdims=True)
  wrong = (p - np.eye(V)[batch["targets"]]) * batch["mask"][..., None]
  return np.einsum("bld,blv->dv", hidden, wrong) / batch["mask"].sum()


def numpy_updates(w, a, b, rate):
  """Yield the matrix after each update, by the algorithm."""
  total = np.zeros_like(w)
  for done, batch in enumerate(BATCHES):
    if done < 3:
      g = np_gradient(w + a @ b, batch)
      a, b = a - 0.05 * g @ b.T, b - 0.05 * a.T @ g
    elif done < 5:
      total = total - np_gradient(w + a @ b, batch)
    if done == 4:
      total = np_collapse(total, 3)
    w = w - rate * total if done >= 4 else w
    yield w


def test_updates_are_those_of_the_algorithm():
  join = objectives.method("rep_select", OPTIONS).joins((), **OPTIONS)
  optimizer = optax.chain(join.transform, optax.sgd(0.1))
  step = jax.jit(
    make_step(
      objectives.make("rep_select", quadratic, **OPTIONS),
      optimizer,
      gradients=by_source(join.sources),
      carried=join.carried,
    )
  )
  w = matrix(4, D, V)
  params = {
    "embedding": jnp.float32(EMBEDDING),
    "layers": {"mlp": {"up": {"kernel": jnp.float32(w)[None]}}},
  }
  ((a, b),) = lora.pairs(
    lora.init(params, jax.random.key(0), rank=8, targets=(KERNEL,))
  ).values()
  state = state_lib.create(params, optimizer)
  expected = numpy_updates(w, np.float64(a[0]), np.float64(b[0]), 0.1)
  for batch, matrix_after in zip(BATCHES, expected, strict=True):
    state, metrics = step(state, {}, {"forget": batch}, jax.random.key(1))
    actual = state.params["layers"]["mlp"]["up"]["kernel"][0]
    np.testing.assert_allclose(actual, matrix_after, atol=2e-4)
  np.testing.assert_array_equal(state.params["embedding"], params["embedding"])
  assert np.max(np.abs(actual - w)) > 0.05 and np.isfinite(metrics["loss"])


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"components": 17}, "components: expected at most 16, the smallest side of the"),
    ({"targets": ("head",)}, r"targets: expected matrices for adapters \(.*'head'"),
  ],
)
def test_options_that_cannot_work(options, message):
  given = {"components": 4} | options
  with pytest.raises(FieldError, match=message):
    rep_select.check(testing.config(), given, is_random=False)


def test_options_are_the_same_for_the_loss_and_for_how_gradients_are_joined():
  assert rep_select.joins.__kwdefaults__ == rep_select.make.__kwdefaults__
