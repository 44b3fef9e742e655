"""Adaptive RMU: a target as long as the states are."""

import numpy as np

from tests.objectives.toy import (
  FROZEN,
  N,
  batch_of,
  draw_params,
  numpy_apply,
  run,
)


def scaled(params, factor):
  """Return the toy with all hidden states times a factor."""
  return params | {"embedding": factor * np.asarray(params["embedding"])}


def test_states_that_are_k_times_as_long_are_steered_k_times_as_far():
  params, batch = draw_params(1), batch_of("adaptive_rmu")
  errors = []
  for factor in (1.0, 4.0):
    frozen = FROZEN | {"reference": scaled(FROZEN["reference"], factor)}
    metrics = run("adaptive_rmu", scaled(params, factor), batch, frozen=frozen)[2]
    errors.append(metrics["forget_steering_error"].mean())
  np.testing.assert_allclose(errors[1], 16 * errors[0], rtol=1e-6)


def test_it_is_rmu_where_all_states_are_equally_long():
  params, batch = draw_params(1), batch_of("rmu")
  reference = dict(FROZEN["reference"])
  row = np.asarray(reference["embedding"])[:1]
  reference["embedding"] = np.tile(row, (len(reference["embedding"]), 1))
  reference["layers"] = np.ones((N, row.shape[1]), np.float32)
  frozen = FROZEN | {"reference": reference}
  state = numpy_apply(reference, batch["forget"]["inputs"])[1][1]
  length = float(np.linalg.norm(state[0, 0]))
  mine = run("adaptive_rmu", params, batch, frozen=frozen)[0]
  rmu = run("rmu", params, batch, frozen=frozen, coefficient=1.5 * length)[0]
  np.testing.assert_allclose(mine, rmu, rtol=2e-6)
