"""KL weighted by value against float64 numpy, and the identity that it rests on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from configs.model_advantage import value_distillation as config_file
from experiments.model_advantage import value_distillation
from undo_jax import objectives
from undo_jax.plan import config as plan_config
from undo_jax.utils.records import FieldError

RNG = np.random.default_rng(0)
STUDENT, TEACHER = RNG.normal(size=(2, 3, 5, 7)).astype(np.float32)
TARGETS = RNG.integers(0, 7, size=(3, 5))
MASK = (RNG.random((3, 5)) < 0.7).astype(np.float32)


def expected(student, share):
  """The weighted KL, its count, and its gradient by the student's logits."""
  log_S, log_T = (log_softmax(np.float64(x), axis=-1) for x in (student, TEACHER))
  kl = (np.exp(log_T) * (log_T - log_S)).sum(axis=-1)
  taken = [
    np.take_along_axis(np.exp(each), TARGETS[..., None], axis=-1)[..., 0]
    for each in (log_T, log_S)
  ]
  changed = np.abs(taken[0] - taken[1])
  weights = 1 - share + share * changed / ((changed * MASK).sum() / MASK.sum())
  slope = (np.exp(log_S) - np.exp(log_T)) * (weights * MASK)[..., None]
  return (weights * kl * MASK).sum(), MASK.sum(), slope


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_value_and_gradient_are_those_of_the_formula(share):
  """The weights are held constant in the gradient, and average 1."""

  def summed(student):
    got = value_distillation.value_aware_kl(student, TEACHER, TARGETS, MASK, share)
    return got.sum, got.count

  (value, count), slope = jax.jit(jax.value_and_grad(summed, has_aux=True))(STUDENT)
  wanted, positions, wanted_slope = expected(STUDENT, share)
  np.testing.assert_allclose(value, wanted, rtol=2e-5)
  assert count == positions
  np.testing.assert_allclose(slope, wanted_slope, atol=2e-5)


def test_a_rows_probabilities_differ_by_the_sum_over_its_positions():
  """The identity of the docstring, and that its weights bound the difference."""
  teacher, student = RNG.uniform(0.2, 0.9, size=(2, 6))
  terms = [
    teacher[:t].prod() * (teacher[t] - student[t]) * student[t + 1 :].prod()
    for t in range(6)
  ]
  difference = teacher.prod() - student.prod()
  np.testing.assert_allclose(sum(terms), difference, atol=1e-12)
  assert np.all(np.abs(terms) <= np.abs(teacher - student))


def test_the_objective_reads_student_and_teacher_and_refuses_shares():
  logits = {"teacher": TEACHER, "student": STUDENT}

  class Output:
    def __init__(self, which):
      self.logits = jnp.asarray(logits[which])

  objective = value_distillation.METHOD.make(lambda which, _: Output(which), share=0.4)
  batch = {"inputs": TARGETS, "targets": TARGETS, "mask": MASK}
  loss, _ = objective("student", {"teacher": "teacher"}, batch, None)
  np.testing.assert_allclose(loss.sum, expected(STUDENT, 0.4)[0], rtol=2e-5)
  with pytest.raises(FieldError, match="share"):
    objectives.check(f"{value_distillation.__name__}:METHOD", {"share": 1.5})


def test_the_configs_students_cost_the_same():
  config = plan_config.parse(config_file.get_config("tiny"))
  names = ("undo", "value_half", "value_whole")
  students = [config.models[f"{name}_alpha_0.5"] for name in names]
  first = students[0]
  for other in students[1:]:
    for field in ("optimizer", "batch_size", "mixture", "noise", "start", "frozen"):
      assert getattr(other, field) == getattr(first, field)
  assert all(s.stop.rule is None for s in students)
