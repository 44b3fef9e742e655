"""Distillation: the divergence from the teacher, two teachers, activations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.objectives.toy import (
  FROZEN,
  KEY,
  MASK,
  B,
  L,
  apply,
  assert_trees_close,
  batch_of,
  draw_logits,
  draw_params,
  log_softmax,
  make,
  np_activation_error,
  np_forward_kl,
  np_objective,
  run,
)
from undo_jax import objectives
from undo_jax.objectives import divergences
from undo_jax.objectives.distillation import forward_kl
from undo_jax.training.gradients import loss_and_gradients


@pytest.mark.parametrize("scale", [1.0, 3.0, 100.0])
def test_forward_kl_is_its_formula(scale):
  student, teacher = (
    np.float32(draw_logits(0, scale)),
    np.float32(draw_logits(1, scale)),
  )
  got = forward_kl(student, teacher, jnp.asarray(MASK))
  expected = np_forward_kl(student, teacher, MASK)
  np.testing.assert_allclose(got.mean(), expected, rtol=1e-6)
  # The other direction is another number: which one it is matters.
  assert abs(np_forward_kl(teacher, student, MASK) - expected) > 1e-3 * expected


@pytest.mark.parametrize(
  "options", [{"kl_weight": 0.7}, {"divergence": "jsd", "teacher_top_k": 3}]
)
def test_predictions_in_the_batch_stand_for_the_teacher(options):
  params, batch = draw_params(0), batch_of("forward_kl")
  top_k = options.get("teacher_top_k", 0)
  kept = divergences.predictions(
    apply(FROZEN["teacher"], batch["inputs"]).logits, top_k
  )
  objective = objectives.make("forward_kl", apply, **options)
  gradients = jax.jit(functools.partial(loss_and_gradients, objective))
  expected = gradients(params, FROZEN, batch, KEY)
  got = gradients(params, {}, {**batch, **kept}, KEY)
  assert_trees_close(got, expected, 2e-6)
  assert got[2].keys() == {options.get("divergence", "forward_kl")}


def test_forward_kl_is_zero_iff_the_distributions_are_equal():
  teacher = np.float32(draw_logits(0))
  constants = np.float32(np.random.default_rng(1).integers(-4, 5, (B, L, 1)))
  mask = jnp.ones((B, L))
  assert abs(forward_kl(teacher + constants, teacher, mask).mean()) < 1e-6
  for b, t in ((0, 0), (3, 4), (B - 1, L - 1)):
    student = teacher.copy()
    student[b, t, 2] += 0.5
    assert forward_kl(student, teacher, mask).sum > 1e-4


def test_forward_kl_is_never_negative():
  # Down to pairs so close that rounding could show.
  for scale in (1e-3, 0.1, 10.0):
    teacher = np.float32(draw_logits(0))
    student = np.float32(teacher + draw_logits(1, scale))
    for row in range(B):
      kl = forward_kl(student[row : row + 1], teacher[row : row + 1], jnp.ones((1, L)))
      assert kl.sum >= 0 or scale == 1e-3 and kl.sum > -L * 1e-6


def test_forward_kl_moves_the_student_to_the_teacher():
  student, teacher = np.float32(draw_logits(0)), np.float32(draw_logits(1))

  def loss(student, teacher):
    return forward_kl(student, teacher, jnp.asarray(MASK)).mean()

  to_student, to_teacher = jax.grad(loss, (0, 1))(student, teacher)
  difference = np.exp(log_softmax(np.float64(student)))
  difference -= np.exp(log_softmax(np.float64(teacher)))
  expected = difference * MASK[..., None] / MASK.sum()
  np.testing.assert_allclose(to_student, expected, rtol=0, atol=1e-8)
  assert not np.any(to_teacher)


@pytest.mark.parametrize("activation_weight", [0.0, 10.0])
def test_a_switch_takes_one_teacher_with_the_given_probability(activation_weight):
  params, batch, p = draw_params(1), batch_of("forward_kl"), 0.3
  objective = make(
    "forward_kl",
    base_share=p,
    base_choice="switch",
    activation_weight=activation_weight,
  )
  keys = jax.random.split(KEY, 1000)
  values = jax.lax.map(lambda k: objective(params, FROZEN, batch, k)[0].mean(), keys)
  expected = [
    np_objective("forward_kl", params, FROZEN | {"teacher": FROZEN[role]}, batch)[0]
    for role in ("teacher", "base")
  ]
  error = np_activation_error(params, FROZEN["teacher"], batch)
  values = np.asarray(values, np.float64) - activation_weight * error
  from_base = np.abs(values - expected[1]) < 1e-5
  assert np.all(from_base | (np.abs(values - expected[0]) < 1e-5))
  assert abs(from_base.mean() - p) < 4 * np.sqrt(p * (1 - p) / 1000)


@pytest.mark.parametrize("choice", ["mixed", "switch"])
def test_all_of_the_share_leaves_base_alone_to_teach(choice):
  params, batch = draw_params(1), batch_of("forward_kl")
  loss, grads, _ = run("forward_kl", params, batch, base_share=1.0, base_choice=choice)
  frozen = {"teacher": FROZEN["base"]}
  expected, expected_grads, _ = run("forward_kl", params, batch, frozen=frozen)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  assert_trees_close(grads, expected_grads, 1e-6)


def test_activations_alone_teach_the_layers_alone():
  options = {"kl_weight": 0.0, "activation_weight": 2.0}
  params, batch = draw_params(1), batch_of("forward_kl")
  loss, grads, metrics = run("forward_kl", params, batch, **options)
  error = np_activation_error(params, FROZEN["teacher"], batch)
  np.testing.assert_allclose(loss, 2.0 * error, rtol=1e-6)
  assert list(metrics) == ["activation_error"]
  assert not np.any(grads["embedding"]) and not np.any(grads["out"])
  # A layer that is the teacher's adds nothing, whatever the others are.
  params["layers"] = params["layers"].at[1].set(FROZEN["teacher"]["layers"][1])
  grads = run("forward_kl", params, batch, **options)[1]["layers"]
  assert np.all(grads[0]) and not np.any(grads[1])


@pytest.mark.parametrize(
  ("options", "passes"),
  [
    ({}, (1, 1, ("teacher",))),
    ({"kl_weight": 2.0}, (1, 1, ("teacher",))),
    ({"kl_weight": 0.0, "activation_weight": 1.0}, (1, 1, ("teacher",))),
    ({"activation_weight": 10.0}, (2, 1, ("teacher",))),
    ({"base_share": 0.1}, (1, 2, ("teacher", "base"))),
    ({"base_share": 0.1, "base_choice": "switch"}, (1, 1, ("teacher", "base"))),
  ],
)
def test_options_decide_the_passes_of_distillation(options, passes):
  method = objectives.method("forward_kl", options)
  assert (len(method.trains), len(method.reads), method.frozen) == passes
