"""Divergences against scipy in float64, in chunks, on eight devices, at limits."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest
from scipy import special

from tests.objectives.toy import MASK, B, D, L, assert_trees_close, draw_logits
from undo_jax import objectives, testing
from undo_jax.objectives import chunked, divergences
from undo_jax.objectives.distillation import forward_kl
from undo_jax.utils.records import FieldError

STUDENT, TEACHER = np.float32(draw_logits(0)), np.float32(draw_logits(1))
CASES = [
  ("forward_kl", 2.0, 0.5),
  ("reverse_kl", 1.0, 0.5),
  ("reverse_kl", 3.0, 0.5),
  ("jsd", 1.0, 0.5),
  ("jsd", 2.0, 0.1),
]
EACH = pytest.mark.parametrize(("name", "temperature", "beta"), CASES)


def reference(name, student, teacher, temperature=1.0, beta=0.5, mask=MASK):
  """Return the mean by scipy's relative entropy, in float64."""
  p_S, p_T = (
    special.softmax(np.float64(logits) / temperature, axis=-1)
    for logits in (student, teacher)
  )
  kl = lambda p, q: special.rel_entr(p, q).sum(-1)  # noqa: E731
  middle = beta * p_T + (1 - beta) * p_S
  value = {
    "forward_kl": kl(p_T, p_S),
    "reverse_kl": kl(p_S, p_T),
    "jsd": beta * kl(p_T, middle) + (1 - beta) * kl(p_S, middle),
  }[name]
  return temperature**2 * (value * mask).sum() / mask.sum()


def loss_of(name, temperature, beta):
  return divergences.make(name, temperature=temperature, jsd_beta=beta)


def value_and_gradients(loss, student, teacher):
  def value(student, teacher):
    return loss(student, teacher, MASK).mean()

  return jax.jit(jax.value_and_grad(value, argnums=(0, 1)))(student, teacher)


@EACH
def test_a_divergence_is_its_formula_and_moves_the_student_alone(
  name, temperature, beta
):
  loss = loss_of(name, temperature, beta)
  value, (grad, to_teacher) = value_and_gradients(loss, STUDENT, TEACHER)
  of = functools.partial(reference, name, temperature=temperature, beta=beta)
  np.testing.assert_allclose(value, of(STUDENT, TEACHER), rtol=2e-6)
  assert not np.any(to_teacher)
  direction = np.random.default_rng(5).standard_normal(STUDENT.shape)
  ends = [of(STUDENT + h * direction, TEACHER) for h in (1e-5, -1e-5)]
  expected = (ends[0] - ends[1]) / 2e-5
  np.testing.assert_allclose(np.vdot(grad, direction), expected, rtol=1e-5)


def test_at_temperature_one_the_forward_kl_is_the_public_one():
  got = loss_of("forward_kl", 1.0, 0.5)(STUDENT, TEACHER, MASK)
  np.testing.assert_array_equal(got, forward_kl(STUDENT, TEACHER, MASK))


def test_the_jensen_shannon_divergence_tends_to_both_kls():
  student, teacher = np.float32(0.2) * STUDENT, np.float32(0.6) * TEACHER
  for beta, name in ((1e-3, "forward_kl"), (1 - 1e-3, "reverse_kl")):
    got = loss_of("jsd", 1.0, beta)(student, teacher, MASK).mean() / 1e-3
    np.testing.assert_allclose(got, reference(name, student, teacher), rtol=0.05)
    other = reference(name, teacher, student)
    assert abs(got - other) > 0.1 * other


@pytest.mark.parametrize("scale", [1e4, 1e15])
@EACH
def test_gradients_are_finite_where_predictions_are_sure(
  name, temperature, beta, scale
):
  student, teacher = np.float32(scale) * STUDENT, np.float32(scale) * TEACHER
  loss = loss_of(name, temperature, beta)
  for leaf in jax.tree.leaves(value_and_gradients(loss, student, teacher)):
    assert np.all(np.isfinite(leaf))


@pytest.mark.parametrize(("name", "top"), [("reverse_kl", 0), ("jsd", 5)])
def test_chunks_on_eight_devices_change_nothing(name, top):
  normal = np.random.default_rng(7).standard_normal
  hidden, weights = np.float32(normal((2, B, L, D))), np.float32(normal((2, 16, D)))
  unembed = lambda weights, hidden: hidden @ weights.T  # noqa: E731
  how = {"temperature": 2.0, "jsd_beta": 0.3, "teacher_top_k": top}
  loss = divergences.make(name, **how)

  def value(student, weights, teacher, other, chunk):
    parts = [(student, weights), (teacher, other)]
    logits = [
      chunked.Deferred(h, w, unembed, chunk) if chunk else unembed(w, h)
      for h, w in parts
    ]
    return loss(*logits, MASK).mean()

  fn = jax.jit(jax.value_and_grad(value, argnums=(0, 1)), static_argnums=4)
  args = hidden[0], weights[0], hidden[1], weights[1]
  expected = fn(*args, None)
  mesh = testing.mesh(8, data=2, fsdp=2, tensor=2)
  rows, columns = NamedSharding(mesh, P(("data", "fsdp"))), P("tensor", None)
  wheres = rows, NamedSharding(mesh, columns)
  spread = [jax.device_put(x, wheres[i % 2]) for i, x in enumerate(args)]
  assert_trees_close(fn(*spread, 4), expected, 2e-6)


def joined(probs, teacher, k):
  """Return probabilities [..., k + 1] by numpy's order of the teacher's."""
  tokens = np.argsort(-teacher, axis=-1)
  ordered = np.take_along_axis(probs, tokens, axis=-1)
  return np.concatenate([ordered[..., :k], ordered[..., k:].sum(-1, keepdims=True)], -1)


@pytest.mark.parametrize("k", [1, 4, 10, 11])
def test_of_the_teachers_tokens_the_likeliest_are_kept(k):
  probs = [special.softmax(np.float64(x) / 2, axis=-1) for x in (STUDENT, TEACHER)]
  p_S, p_T = (joined(p, probs[1], k) for p in probs)
  expected = {"forward_kl": special.rel_entr(p_T, p_S).sum(-1)}
  expected["reverse_kl"] = special.rel_entr(p_S, p_T).sum(-1)
  middle = 0.3 * p_T + 0.7 * p_S
  expected["jsd"] = (
    0.3 * special.rel_entr(p_T, middle) + 0.7 * special.rel_entr(p_S, middle)
  ).sum(-1)
  for name, value in expected.items():
    how = {"temperature": 2.0, "jsd_beta": 0.3}
    got = divergences.make(name, **how, teacher_top_k=k)(STUDENT, TEACHER, MASK).mean()
    mean = 4 * (value * MASK).sum() / MASK.sum()
    np.testing.assert_allclose(got, mean, rtol=3e-6)
    whole = divergences.make(name, **how)(STUDENT, TEACHER, MASK).mean()
    if k < 10:
      assert got < whole
    else:  # Of the last token alone, or of none: nothing is joined.
      np.testing.assert_allclose(got, whole, rtol=1e-6 * (k < 11))


kept_of = jax.jit(divergences.predictions, static_argnums=1)


@pytest.mark.parametrize(("name", "k"), [("forward_kl", 1), ("jsd", 4)])
def test_predictions_that_were_kept_teach_as_the_teacher_does(name, k):
  predictions = kept_of(TEACHER, k)
  log_probs, tokens = predictions["teacher_log_probs"], predictions["teacher_tokens"]
  p_S, p_T = (special.softmax(np.float64(x), axis=-1) for x in (STUDENT, TEACHER))
  of_classes = joined(p_T, p_T, k)
  np.testing.assert_allclose(np.exp(log_probs), of_classes, rtol=2e-6, atol=1e-9)
  np.testing.assert_array_equal(tokens, np.argsort(-TEACHER, axis=-1)[..., :k])
  kept = divergences.make_kept(name, jsd_beta=0.3)

  def loss(student, log_probs, mask):
    return kept(student, log_probs, np.uint8(tokens), mask)

  value, (grad, to_teacher) = value_and_gradients(loss, STUDENT, log_probs)
  assert not np.any(to_teacher)
  of = functools.partial(reference, name, beta=0.3)
  logs = np.log(joined(p_S, p_T, k)), np.log(of_classes)
  np.testing.assert_allclose(value, of(*logs), rtol=3e-6)
  whole = divergences.make(name, jsd_beta=0.3, teacher_top_k=k)
  expected, (expected_grad, _) = value_and_gradients(whole, STUDENT, TEACHER)
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  np.testing.assert_allclose(grad, expected_grad, rtol=0, atol=1e-7)


def test_predictions_are_kept_and_read_in_chunks():
  unembed = lambda weights, hidden: hidden @ weights  # noqa: E731
  predictions = kept_of(TEACHER, 3)
  log_probs, tokens = predictions["teacher_log_probs"], predictions["teacher_tokens"]
  kept = divergences.make_kept("forward_kl")

  def of(logits):
    value, grad = jax.value_and_grad(lambda x: kept(x, log_probs, tokens, MASK).mean())(
      logits
    )
    again = chunked.mapped(functools.partial(divergences.predictions, k=3), logits)
    return value, getattr(grad, "hidden_BxLxD", grad), again

  of = jax.jit(of)
  # Four of six positions at a time.
  deferred = chunked.Deferred(jnp.asarray(STUDENT), np.eye(11, dtype="f"), unembed, 4)
  assert_trees_close(of(deferred), of(STUDENT), 1e-6)


def test_all_log_probabilities_stand_for_the_logits_at_any_temperature():
  (log_probs,) = kept_of(TEACHER, 0).values()
  p_T = special.log_softmax(np.float64(TEACHER), axis=-1)
  np.testing.assert_allclose(log_probs, p_T, rtol=0, atol=3e-6)
  for temperature in (1.0, 2.0):
    loss = divergences.make("reverse_kl", temperature=temperature)
    expected = reference("reverse_kl", STUDENT, TEACHER, temperature)
    np.testing.assert_allclose(
      loss(STUDENT, log_probs, MASK).mean(), expected, rtol=2e-6
    )


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e15])
def test_gradients_through_the_joined_class(scale):
  student, teacher = np.float32(scale) * STUDENT, np.float32(scale) * TEACHER
  loss = divergences.make("forward_kl", teacher_top_k=3)
  value, grads = value_and_gradients(loss, student, teacher)
  assert np.isfinite(value) and not np.any(grads[1]) and np.all(np.isfinite(grads[0]))
  if scale == 1:
    # dKL/dz = p_S - p_T for kept tokens; of the others each takes its part of the
    # joined class: p_S * (1 - rest_T / rest_S).
    p_S, p_T = (special.softmax(np.float64(x), axis=-1) for x in (student, teacher))
    kept = np.argsort(np.argsort(-p_T, axis=-1), axis=-1) < 3
    rest_S, rest_T = (np.where(kept, 0, p).sum(-1, keepdims=True) for p in (p_S, p_T))
    expected = np.where(kept, p_S - p_T, p_S * (1 - rest_T / rest_S))
    expected *= MASK[..., None] / MASK.sum()
    np.testing.assert_allclose(grads[0], expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("divergence", "kl"),
    ("divergence", None),
    ("temperature", 0.0),
    ("temperature", -1.0),
    ("temperature", "2"),
    ("temperature", float("nan")),
    ("jsd_beta", 0.0),
    ("jsd_beta", 1.0),
    ("jsd_beta", None),
    ("teacher_top_k", -1),
    ("teacher_top_k", None),
    ("teacher_top_k", 2.0),
    ("teacher_top_k", True),
  ],
)
def test_what_cannot_work_is_named(field, value):
  with pytest.raises(FieldError, match=f"^{field}: expected .*, got") as error:
    objectives.make("forward_kl", lambda *_: None, **{field: value})
  assert "\n" not in str(error.value) and error.value.field == field
