"""Programs of a run to be compiled: one for every stage, the state held once."""

import importlib.util
import math

import jax
import pytest

from tests.estimation import aliases
from undo_jax import config as c
from undo_jax import testing
from undo_jax.distributed import sharding
from undo_jax.estimation import programs, topologies
from undo_jax.plan import translation
from undo_jax.plan.config import parse


@pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None,
  reason="the TPU compiler is not installed: pip install 'undo-jax[tpu-compile]'",
)
# All training steps are compiled by one function; rmu leaves a part of the weights.
@pytest.mark.parametrize("stage", ["rmu", "relearn_base"])
def test_results_are_written_over_the_whole_state(stage):
  config = c.shipped("pods:tiny")
  config.model.update(attention="plain", remat="none", logits_chunk=None)
  devices, _ = topologies.get("v5e:2x2")
  mesh = sharding.make_mesh(**config.mesh, devices=devices)
  of_run = programs.of_run(parse(config), mesh)
  lowered = next(each for each in of_run if stage in each.names)
  state = jax.tree.leaves(lowered.args[0])
  compiled = lowered.program.lower(*lowered.args).compile()
  written = aliases.aliases(compiled.as_text())
  assert written == {number: number for number in range(len(state))}
  held = sum(
    math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in state
  )
  # The compiler pads what is smaller than a tile.
  assert compiled.memory_analysis().alias_size_in_bytes >= held


def test_every_stage_of_a_plan_has_one_program_with_the_shapes_it_is_called_with():
  config = c.shipped("arithmetic:tiny")
  config.data.num_equations = 40
  config.data.num_evaluation = 4
  # Called with what max_ent's and undo's are.
  config.models.grad_diff.run = config.models.oracle_matching.run = False
  config.models_at_once = 2
  declared = parse(config)
  of_run = list(programs.of_run(declared, testing.mesh(8, data=2, fsdp=4)))
  names = [name for lowered in of_run for name in lowered.names]
  plan = [stage.name for stage in translation.plan(declared, 0) if stage.name != "data"]
  assert sorted(names) == sorted([*plan, "evaluation"])
  by_name = {name: lowered for lowered in of_run for name in lowered.names}
  assert by_name["base"] is by_name["data_filtering"]
  assert by_name["undo_alpha_0.3"] is by_name["unlearn_and_distill"]
  state, frozen, batch, _ = by_name["undo_alpha_0.3"].args
  assert batch["inputs"].shape == (128, 16) and set(frozen) == {"teacher"}
  # The shapes go through the real programs: nothing is missing or in excess.
  for lowered in of_run:
    out = jax.eval_shape(lowered.program, *lowered.args)
    if "base" in lowered.names:
      assert out[1].keys() == {"cross_entropy", "loss", "gradient_norm"}
    if "evaluation" in lowered.names:
      assert {"retain", "forget"} < out.keys()
    if "relearn_base" in lowered.names:
      assert len(lowered.args[0]) == 2  # As many models as are attacked at once.
      # Evaluations, members of a group; all have their parameters there.
      assert [scores["forget"].shape for scores in out[1]] == [(10, 1)] * 2
      (first, *_), *_ = (jax.tree.leaves(state.params) for state in out[0])
      assert len(first) == 5
