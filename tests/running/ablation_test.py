"""Models with reserved units: scored whole and without them while they are trained."""

import dataclasses
import types
from typing import Any

import numpy as np

from tests import minimal
from undo_jax import config as builders
from undo_jax import testing
from undo_jax.plan import translation
from undo_jax.plan.config import parse
from undo_jax.running import ablation


def weight(params, problems):
  """A score: the units of the MLPs that still write anything."""
  del problems
  written = np.any(params["layers"]["mlp"]["down"]["kernel"], axis=-1)
  return {"units": np.sum(written)}


def test_a_model_with_reserved_units_is_scored_with_and_without_them():
  plan = translation.plan(parse(builders.shipped("routing_arithmetic:tiny")), 0)
  (stage,) = [each for each in plan if each.name == "routed_whole"]
  run: Any = types.SimpleNamespace(mesh=testing.mesh(1))
  params = minimal.params(stage.model)
  scores = ablation.evaluation(run, stage, weight, {})(params)
  config = stage.model
  units = config.num_layers * config.mlp_width
  reserved = config.num_layers * stage.reserve.mlp_units
  assert reserved > 0
  assert scores == {"units": units, "ablated_units": units - reserved}
  plain = dataclasses.replace(stage, reserve=None)
  assert ablation.ablation(run, plain) is None
  assert ablation.evaluation(run, plain, weight, {})(params) == {"units": units}
