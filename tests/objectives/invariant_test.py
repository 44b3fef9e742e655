"""ILU: what its penalty is of, where it is zero, what it costs."""

import jax
import numpy as np
import pytest

from tests.objectives.formulas import slope as numpy_slope
from tests.objectives.toy import (
  FROZEN,
  apply,
  assert_trees_close,
  batch_of,
  draw_params,
  np_given,
  run,
)
from undo_jax import objectives, testing
from undo_jax.objectives import invariant
from undo_jax.utils.types import ConfigError

BATCH = batch_of("invariant")


def test_the_slope_is_that_of_weights_that_grow_alike():
  params, part = draw_params(1), jax.device_get(BATCH["environment"])
  got = jax.jit(lambda p: invariant.slope(apply, p, part))(params)

  def lost(w):
    grown = {k: w * np.float64(v) for k, v in params.items()}
    given = np_given(grown, FROZEN, BATCH | {"retain": part}, None)
    return given.retain_cross_entropy

  np.testing.assert_allclose(got, (lost(1 + 1e-5) - lost(1 - 1e-5)) / 2e-5, rtol=1e-5)
  given = np_given(params, FROZEN, BATCH, None)
  np.testing.assert_allclose(got, numpy_slope(given, part), rtol=1e-5)


def test_no_weights_and_no_weight_of_the_penalty_are_the_other_method():
  params = draw_params(1)
  zeros = jax.tree.map(np.zeros_like, params)
  metrics = run("invariant", zeros, BATCH)[2]
  assert metrics["invariance"].mean() == 0
  loss, grads, _ = run("invariant", params, BATCH, invariance_weight=0.0)
  other = run("npo", params, batch_of("npo"))
  np.testing.assert_allclose(loss, other[0], rtol=1e-6)
  assert_trees_close(grads, other[1], 1e-6)


@pytest.mark.parametrize(
  ("options", "changes", "message"),
  [
    ({"around": "rmu", "layers": ()}, {}, "layers: expected layers in"),
    ({"environments": ()}, {}, "environments: expected names of at least one part"),
    ({}, {"logits_chunk": 4}, "model.logits_chunk: expected None .*invariant.*got 4"),
    ({}, {"attention": "splash"}, "attention: expected plain .*got 'splash'"),
  ],
)
def test_options_that_cannot_work(options, changes, message):
  method = objectives.method("invariant", {"around": "npo"})
  with pytest.raises(ConfigError, match=message):
    assert method.check is not None
    method.check(
      testing.config(**changes), {"around": "npo"} | options, is_random=False
    )


def test_what_it_trains_and_reads_is_the_other_methods_and_its_environments():
  options = {"around": "rmu", "layers": (1,), "environments": ("one", "two")}
  method = objectives.method("invariant", options)
  assert sorted(method.trains) == ["forget", *3 * ["one"], "retain", *3 * ["two"]]
  assert method.reads == ("retain",) and method.frozen == ("reference", "direction")
  assert method.trainable is not None
  assert method.trainable(**options) == (("layers/mlp/down/kernel", (1,)),)
  around_npo = objectives.method("invariant", {"around": "npo", "retain_loss": "kl"})
  assert around_npo.reads == ("forget", "retain")
