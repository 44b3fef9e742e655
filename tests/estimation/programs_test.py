"""Donation in programs compiled for a slice: the state is held once."""

import importlib.util
import math

import jax
import pytest

from undo_jax import config as c
from undo_jax.distributed import sharding
from undo_jax.estimation import compiled_text, programs, topologies
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
  found = programs.of_run(parse(config), mesh)
  lowered = next(each for each in found if stage in each.names)
  state = jax.tree.leaves(lowered.args[0])
  compiled = lowered.program.lower(*lowered.args).compile()
  aliases = compiled_text.aliases(compiled.as_text())
  assert aliases == {number: number for number in range(len(state))}
  held = sum(
    math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in state
  )
  # The compiler pads what is smaller than a tile.
  assert compiled.memory_analysis().alias_size_in_bytes >= held
