"""Tests of routed training against gradients of the parts taken one by one."""

import jax
import numpy as np
import pytest

from tests.objectives.routed_toy import (
  BATCH,
  KEY,
  PARAMS,
  PLAIN,
  RESERVED,
  ROUTING,
  SOURCE,
  apply,
  assert_close,
  check_routing,
  run,
)
from undo_jax import testing
from undo_jax.objectives import (
  routed,
  sgtm,
  sgtm_distillation,
)
from undo_jax.routing import era
from undo_jax.utils.types import ConfigError

COHERENT = routed.make(apply, routing=ROUTING, coherence_weight=0.3)
TRUSTED = routed.make(apply, routing=ROUTING, coherence_weight=0.3, trusted=True)


def test_forget_rows_train_the_reserved_units_and_other_rows_everything():
  check_routing(routed.make, layer=1)


def test_weights_of_tokens_lie_between_forget_and_retain():
  """A mask is linear in them: w and 1 - w give together what 0 and 1 do."""
  routing = ROUTING._replace(layers=(1,), old_target=-0.5)
  objective = routed.make(apply, routing=routing)

  def weighted(weights_BxL):
    return run(objective, {**BATCH, "retain_weight": weights_BxL})

  shape = BATCH["mask"].shape
  weights = np.linspace(0, 1, BATCH["mask"].size, dtype=np.float32).reshape(shape)
  ones = np.ones_like(weights)
  hard = run(objective, {**BATCH, "source": 0 * SOURCE})
  assert_close(weighted(0 * ones)[:2], hard[:2])
  unrouted = weighted(ones)
  assert_close(unrouted[1], run(PLAIN[routed.make][1])[1])
  loss, grads, _ = weighted(weights)
  np.testing.assert_allclose(loss, unrouted[0], rtol=1e-6)
  others = weighted(1 - weights)[1]
  expected = jax.tree.map(np.add, weighted(0 * ones)[1], unrouted[1])
  assert_close(jax.tree.map(np.add, grads, others), expected)


def test_the_coherence_term_is_the_loss_of_the_smaller_model():
  loss, grads, metrics = run(COHERENT)
  routed_loss, routed_grads, _ = run(routed.make(apply, routing=ROUTING))
  contract = jax.jit(lambda params: era.contract(params, RESERVED))
  small_params = contract(PARAMS)
  mask = BATCH["mask"] * (SOURCE != 0)[:, None]
  plain = PLAIN[routed.make][1]
  coherence, small_grads, _ = run(plain, {**BATCH, "mask": mask}, small_params)
  np.testing.assert_allclose(metrics["coherence"].mean(), coherence, rtol=1e-5)
  np.testing.assert_allclose(loss, routed_loss + 0.3 * coherence, rtol=1e-5)
  difference = jax.tree.map(lambda x, y: (x - y) / 0.3, grads, routed_grads)
  assert_close(contract(difference), small_grads, 1e-4)
  new = era.new_entries(PARAMS, RESERVED)
  for x, of_new in zip(jax.tree.leaves(difference), jax.tree.leaves(new), strict=True):
    np.testing.assert_allclose(np.where(of_new, x, 0), 0, atol=1e-5)


def test_trusted_coherence_reads_labelled_retain_rows_alone():
  known = np.where(SOURCE == 2, 0, SOURCE)  # As if what is not labelled were forget.
  value = jax.jit(TRUSTED)(PARAMS, {}, BATCH, KEY)[1]["coherence"]
  expected = run(COHERENT, {**BATCH, "source": known})[2]["coherence"]
  np.testing.assert_array_equal(value, expected)
  assert 0 < value.count < run(COHERENT)[2]["coherence"].count


def test_sources_of_tokens_and_microbatches_give_the_same():
  expected = run(COHERENT)
  tokens = np.broadcast_to(SOURCE[:, None], BATCH["mask"].shape)
  got = run(COHERENT, {**BATCH, "source": tokens}, num_microbatches=2)
  assert_close(got, expected)


def l1_in_float64(params, tokens, layers):
  """Sum over layers and units of |h|, mean over positions: forward by numpy."""
  mlp = params["layers"]["mlp"]
  x_BxLxD, total = np.cumsum(params["embedding"][tokens], axis=1), 0.0
  for n in range(2):
    gate = x_BxLxD @ mlp["gate"]["kernel"][n]
    hidden = gate / (1 + np.exp(-gate)) * (x_BxLxD @ mlp["up"]["kernel"][n])
    total += np.abs(hidden).sum() * (n in layers)
    x_BxLxD = x_BxLxD + hidden @ mlp["down"]["kernel"][n]
  return total / tokens.size


def test_the_l1_penalty_is_that_of_the_routed_layers_and_is_not_routed():
  """Value, and gradient by differences in float64; routed rows change neither."""
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), PARAMS)
  tokens = np.asarray(BATCH["inputs"])
  everywhere = routed.make(apply, routing=ROUTING, l1_weight=0.2)
  value = jax.jit(everywhere)(PARAMS, {}, BATCH, KEY)[1]["activity"].mean()
  np.testing.assert_allclose(value, l1_in_float64(params, tokens, (0, 1)), rtol=1e-5)

  routing, counted = ROUTING._replace(layers=(1,), old_target=-0.5), (1,)
  penalized = run(routed.make(apply, routing=routing, l1_weight=0.2))
  without = run(routed.make(apply, routing=routing))
  expected = l1_in_float64(params, tokens, counted)
  np.testing.assert_allclose(penalized[2]["activity"].mean(), expected, rtol=1e-5)
  np.testing.assert_allclose(penalized[0] - without[0], 0.2 * expected, rtol=1e-4)
  # A mask on layer 0 would scale what the penalty of layer 1 sends back.
  got = jax.tree.map(lambda x, y: (x - y) / 0.2, penalized[1], without[1])
  rng = np.random.default_rng(3)
  for _ in range(3):
    step = jax.tree.map(lambda x: 1e-6 * rng.standard_normal(x.shape), params)
    up, down = (
      jax.tree.map(lambda x, d, s=s: x + s * d, params, step) for s in (1, -1)
    )
    slope = l1_in_float64(up, tokens, counted) - l1_in_float64(down, tokens, counted)
    along = sum(jax.tree.leaves(jax.tree.map(lambda g, d: np.sum(g * d), got, step)))
    np.testing.assert_allclose(2 * along, slope, rtol=1e-3)


def test_units_that_do_not_exist_are_an_error():
  for make in (*PLAIN, sgtm.make, sgtm_distillation.make):
    with pytest.raises(ConfigError, match="32 and 0 cannot be set aside"):
      make(apply, routing=ROUTING._replace(mlp_units=32, kv_heads=0))


def test_what_cannot_be_routed_is_an_error():
  with pytest.raises(ValueError, match=r"source of each row .*'inputs', 'mask', 'ta"):
    COHERENT(PARAMS, {}, testing.batch(KEY), KEY)
  with pytest.raises(ValueError, match="unknown source 'inputs'; SGTM has forget"):
    batch = {"inputs": BATCH}
    sgtm.make(apply, routing=ROUTING)({"inputs": PARAMS}, {}, batch, KEY)
  other = era.contract(PARAMS, RESERVED)
  with pytest.raises(ValueError, match="layers/mlp/.* never expanded"):
    COHERENT(other, {}, BATCH, KEY)
