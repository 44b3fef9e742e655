"""LoRA: adapters of a model that is only read."""

import jax
import numpy as np

from tests.attacks.tiny import KEY, LORA, MODEL, draw_params, equal
from undo_jax import attacks, testing
from undo_jax.models import lora
from undo_jax.models.decoder import partition_rules


def test_lora_trains_adapters_of_a_model_that_is_only_read():
  params = draw_params()
  members = attacks.members_of(MODEL, "lora", LORA)
  assert members.reads_base
  pairs = members.start(params, KEY)
  equal(pairs, lora.init(params, KEY, rank=2, targets=tuple(LORA["targets"])))
  equal(members.weights(pairs, {"base": params}), params)
  moved = jax.tree.map(lambda x: np.asarray(x) + np.float32(0.1), pairs)
  weights, merge = jax.jit(members.weights), jax.jit(lora.merge)
  merged = merge(params, moved, scale=2.0)
  equal(weights(moved, {"base": params}), merged)
  assert members.rules(pairs) == lora.partition_rules(pairs, partition_rules(MODEL))
  plain = attacks.members_of(MODEL, "finetuning", {}).objective
  batch = testing.batch(KEY)
  loss = jax.jit(members.objective)(moved, {"base": params}, batch, KEY)[0]
  expected = jax.jit(plain)(merged, {}, batch, KEY)[0]
  equal(loss, expected)
  adapters = attacks.REGISTRY.get("lora").adapters
  assert adapters is not None and adapters(LORA).scale == 2.0
