"""Tests of low-rank adapters against numpy, a plain update and single runs."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import optax
import pytest

from undo_jax import objectives, testing
from undo_jax.attacks import relearning
from undo_jax.distributed import sharding
from undo_jax.models import lora
from undo_jax.models.decoder import Decoder, Output, partition_rules
from undo_jax.training import population
from undo_jax.training import state as state_lib
from undo_jax.training.gradients import loss_and_gradients
from undo_jax.training.optimizers import OptimizerConfig, make_population_optimizer
from undo_jax.training.step import make_step, scan_steps
from undo_jax.utils import trees
from undo_jax.utils.types import ConfigError, SumCount

KEY = jax.random.key(3)
RANK, SCALE = 2, 1.5
ALL = (r"layers/(attention/(query|key|value|out)|mlp/(gate|up|down))/kernel",)
SOME = (r"layers/attention/(query|out)/kernel", r"layers/mlp/down/kernel")
RATES = np.array([1e-3, 1e-2, 0.1, 0.3], np.float32)


@pytest.fixture(scope="module")
def base():
  return testing.params()


def drawn(params, targets=ALL, rank=RANK, seed=5):
  """Adapter with both factors filled: fresh ones would hide half of the terms."""
  init = functools.partial(lora.init, rank=rank, targets=targets)
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: (0.3 * rng.standard_normal(x.shape)).astype(np.float32),
    jax.eval_shape(init, params, KEY),
  )


def by_path(tree):
  return dict(zip(trees.paths(tree), jax.tree.leaves(tree), strict=True))


# MARK: init


def test_fresh_adapters_have_the_shapes_and_bounds_of_peft(base):
  adapters = lora.init(base, KEY, rank=RANK, targets=SOME)
  assert {path: x.shape for path, x in by_path(adapters).items()} == {
    "layers/attention/out/kernel/a": (2, 32, 2),
    "layers/attention/out/kernel/b": (2, 2, 16),
    "layers/attention/query/kernel/a": (2, 16, 2),
    "layers/attention/query/kernel/b": (2, 2, 32),
    "layers/mlp/down/kernel/a": (2, 32, 2),
    "layers/mlp/down/kernel/b": (2, 2, 16),
  }
  assert {x.dtype for x in jax.tree.leaves(adapters)} == {jnp.dtype("float32")}
  for a, b in lora.pairs(adapters).values():
    np.testing.assert_array_equal(b, np.zeros(b.shape))
    assert np.abs(a).max() <= a.shape[1] ** -0.5


def test_the_draws_are_uniform_and_fill_their_interval():
  shape = jax.ShapeDtypeStruct((2, 64, 400), jnp.float32)
  a = lora.init({"kernel": shape}, KEY, rank=60, targets=("kernel",))["kernel"]["a"]
  unit = np.sort(np.asarray(a).ravel()) * 8 / 2 + 0.5  # Bound 1/8; now U(0, 1).
  steps = np.arange(1, unit.size + 1) / unit.size
  # Kolmogorov-Smirnov: beyond 1.95 / sqrt(n) once in a thousand seeds.
  assert np.abs(unit - steps).max() < 1.95 / np.sqrt(unit.size)


def test_an_adapter_does_not_depend_on_the_others(base):
  alone = lora.init(base, KEY, rank=RANK, targets=(SOME[1],))["layers"]["mlp"]["down"]
  among = lora.init(base, KEY, rank=RANK, targets=ALL)["layers"]["mlp"]
  np.testing.assert_array_equal(alone["kernel"]["a"], among["down"]["kernel"]["a"])
  # Gate and up have one shape: only their keys tell them apart.
  gate, up = among["gate"]["kernel"]["a"], among["up"]["kernel"]["a"]
  assert np.all(gate != up) and np.all(gate[0] != gate[1])


def test_shapes_are_enough(base):
  abstract = jax.eval_shape(lambda: base)
  got = lora.init(abstract, KEY, rank=RANK, targets=ALL)
  jax.tree.map(
    np.testing.assert_array_equal,
    got,
    lora.init(base, KEY, rank=RANK, targets=ALL),
  )


@pytest.mark.parametrize(
  "rank, targets, message",
  [
    (2, (*SOME, "layers/mlp/out/kernel"), "'layers/mlp/out/kernel' matches no param"),
    (2, ("layers/mlp/.*", ".*_norm/scale"), r"also match .*final_norm/scale \(16,\)"),
    (2, (".*pre_mlp_norm/scale",), r"also match layers/pre_mlp_norm/scale \(2, 16\)"),
    (2, ("embedding",), r"stacked matrices .* also match embedding \(16, 16\)"),
    (2, (), "at least one path regex, got \\(\\)"),
    (2, ALL[0], "at least one path regex, got 'layers"),
    (2, ("layers/(mlp",), "'layers/\\(mlp' is no regex"),
    (17, SOME, r"got 17 for layers/attention/out/kernel \(2, 32, 16\), layers"),
    (0, SOME, r"rank must lie in \[1, min\(in, out\)\] .*, got 0"),
  ],
)
def test_targets_and_ranks_that_do_not_fit_are_errors(base, rank, targets, message):
  with pytest.raises(ValueError, match=message) as error:
    lora.init(base, KEY, rank=rank, targets=targets)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"rank": 0}, "rank: expected an integer of at least 1, got 0"),
    ({"alpha": 0.0}, r"alpha: expected a number above 0, got 0\.0"),
    ({"alpha": np.inf}, "alpha: expected a number of at most .*, got inf"),
  ],
)
def test_a_config_of_nothing_is_an_error(changes, message):
  with pytest.raises(ConfigError, match=message):
    lora.LoraConfig(**{"rank": 2, "alpha": 16.0, "targets": ALL} | changes)


def test_the_scale_is_alpha_over_rank():
  assert lora.LoraConfig(rank=4, alpha=6.0, targets=ALL).scale == 1.5


# MARK: merge


def test_merging_adds_the_scaled_product(base):
  adapters = drawn(base, SOME)
  merged = by_path(lora.merge(base, adapters, scale=SCALE))
  adapted = lora.pairs(adapters)
  assert len(adapted) == 3
  for path, leaf in by_path(base).items():
    if path in adapted:
      a, b = (np.asarray(x, np.float64) for x in adapted[path])
      expected = np.asarray(leaf, np.float64) + SCALE * np.einsum("nir,nro->nio", a, b)
      np.testing.assert_allclose(merged[path], expected, rtol=1e-6, atol=1e-6)
      assert np.abs(merged[path] - leaf).max() > 0.1
    else:
      np.testing.assert_array_equal(merged[path], leaf)


def test_merging_keeps_the_dtype_and_rounds_once():
  rng = np.random.default_rng(0)
  kernel = jnp.asarray(rng.standard_normal((2, 8, 6)), jnp.bfloat16)
  adapters = drawn({"kernel": kernel}, ("kernel",))
  merged = lora.merge({"kernel": kernel}, adapters, scale=SCALE)["kernel"]
  a, b = (np.asarray(x) for x in adapters["kernel"].values())
  exact = np.asarray(kernel, np.float32) + np.float32(SCALE) * (a @ b)
  assert merged.dtype == jnp.bfloat16
  np.testing.assert_array_equal(merged, exact.astype(jnp.bfloat16))


def test_fresh_adapters_leave_every_logit_as_it_is(base):
  apply = jax.jit(Decoder(testing.config()).apply)
  tokens = testing.batch(KEY)["inputs"]
  fresh = lora.init(base, KEY, rank=RANK, targets=ALL)
  merged = lora.merge(base, fresh, scale=SCALE)
  expected = apply(base, tokens).logits
  np.testing.assert_array_equal(apply(merged, tokens).logits, expected)
  other = apply(lora.merge(base, drawn(base), scale=SCALE), tokens).logits
  assert np.abs(other - expected).max() > 0.1  # The adapters are in the forward pass.


@pytest.mark.parametrize("shape", [(2, 5, 9), (2, 9, 5)])
def test_full_rank_expresses_any_update(shape):
  rng = np.random.default_rng(1)
  base, update = rng.standard_normal((2, *shape)).astype(np.float32)
  u, s, vt = np.linalg.svd(update, full_matrices=False)
  factors = {"a": u * s[:, None, :] / SCALE, "b": vt}
  fresh = lora.init({"kernel": base}, KEY, rank=5, targets=("kernel",))["kernel"]
  assert {n: x.shape for n, x in factors.items()} == {n: fresh[n].shape for n in fresh}
  merged = lora.merge({"kernel": base}, {"kernel": factors}, scale=SCALE)["kernel"]
  np.testing.assert_allclose(merged, base + update, atol=1e-5)


@pytest.mark.parametrize(
  "adapters, message",
  [
    ({"karnel": {"a": (2, 8, 2), "b": (2, 2, 6)}}, "there is none at karnel"),
    ({"kernel": {"a": (1, 8, 2), "b": (1, 2, 6)}}, r"kernel has shape \(2, 8, 6\).*a"),
    ({"kernel": {"a": (2, 8, 2), "b": (2, 2, 8)}}, r"got a \(2, 8, 2\) and b \(2, 2"),
    ({"kernel": {"a": (2, 8, 2), "b": (2, 1, 6)}}, r"b \(2, 1, 6\)"),
    ({"kernel": {"a": (2, 8, 2)}}, "a and b at the path of each kernel, got kernel/a"),
  ],
)
def test_adapters_that_do_not_fit_are_errors(adapters, message):
  zeros = jax.tree.map(jnp.zeros, adapters, is_leaf=lambda x: isinstance(x, tuple))
  with pytest.raises(ValueError, match=message):
    lora.merge({"kernel": jnp.zeros((2, 8, 6))}, zeros, scale=1.0)


# MARK: the objective


def quadratic(params, frozen, batch, key):
  """L = sum((x W0 W1 - y)^2) / count + weight * sum(W1): gradients in closed form."""
  del key
  y = batch["x"] @ params["kernel"][0] @ params["kernel"][1] - batch["y"]
  penalty = frozen["weight"] * jnp.sum(params["kernel"][1]) * len(y)
  return SumCount(jnp.sum(y * y) + penalty, jnp.float32(len(y))), {}


def test_gradients_are_those_of_the_closed_form():
  rng = np.random.default_rng(2)
  w = rng.standard_normal((2, 6, 6))
  a, b = 0.3 * rng.standard_normal((2, 6, 3)), 0.3 * rng.standard_normal((2, 3, 6))
  x, y = rng.standard_normal((2, 8, 6))
  merged = w + SCALE * a @ b
  error = x @ merged[0] @ merged[1] - y
  dw = np.stack([x.T @ error @ merged[1].T, (x @ merged[0]).T @ error]) * 2 / len(x)
  dw[1] += 0.7

  def single(tree):
    return jax.tree.map(lambda v: v.astype(np.float32), tree)

  adapters = single({"kernel": {"a": a, "b": b}})
  frozen = {"base": single({"kernel": w}), "weight": np.float32(0.7)}
  objective = lora.over_adapters(quadratic, scale=SCALE)
  loss_and_grads = jax.jit(
    functools.partial(loss_and_gradients, objective), static_argnames="num_microbatches"
  )
  batch = single({"x": x, "y": y})
  for num_microbatches in (1, 4):
    loss, grads, _ = loss_and_grads(
      adapters, frozen, batch, KEY, num_microbatches=num_microbatches
    )
    expected = np.sum(error**2) / len(x) + 0.7 * merged[1].sum()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    tolerance = {"rtol": 1e-4, "atol": 1e-4}
    db = SCALE * a.transpose(0, 2, 1) @ dw
    np.testing.assert_allclose(grads["kernel"]["b"], db, **tolerance)
    da = SCALE * dw @ b.transpose(0, 2, 1)
    np.testing.assert_allclose(grads["kernel"]["a"], da, **tolerance)


def test_the_objective_is_that_of_the_merged_model(base):
  objective = objectives.make("cross_entropy", Decoder(testing.config()).apply)
  batch, adapters = testing.batch(KEY), drawn(base, SOME)

  @jax.jit
  def lifted(adapters):
    over = lora.over_adapters(objective, scale=SCALE)
    return over(adapters, {"base": base}, batch, KEY)[0].mean()

  @jax.jit
  def plain(params):
    return objective(params, (), batch, KEY)[0].mean()

  merged = lora.merge(base, adapters, scale=SCALE)
  np.testing.assert_allclose(lifted(adapters), plain(merged), rtol=1e-6)
  assert abs(plain(merged) - plain(base)) > 1e-3


# MARK: populations and meshes


def tiny_apply(params, tokens):
  hidden_BxLxD = jnp.tanh(jnp.cumsum(params["embedding"][tokens], axis=1))
  for kernel in params["out"]["kernel"]:
    hidden_BxLxD = jnp.tanh(hidden_BxLxD @ kernel)
  return Output(hidden_BxLxD, {})


TINY_RULES = (("embedding", ("tensor", "fsdp")), (".*kernel", (None, "fsdp", "tensor")))
SETTINGS = OptimizerConfig(learning_rate=1.0, num_steps=3, clip_norm=0.5)


@functools.cache
def tiny():
  """(params, adapters, batches [3], step over adapters)."""
  rng = np.random.default_rng(0)
  params = {
    "embedding": rng.standard_normal((16, 16)).astype(np.float32),
    "out": {"kernel": (0.5 * rng.standard_normal((2, 16, 16))).astype(np.float32)},
  }
  params = jax.device_put(params)
  adapters = lora.init(params, KEY, rank=RANK, targets=("out/kernel",))
  objective = objectives.make("cross_entropy", tiny_apply)
  step = make_step(
    lora.over_adapters(objective, scale=SCALE), make_population_optimizer(SETTINGS)
  )
  return params, adapters, [testing.batch(jax.random.key(s)) for s in range(3)], step


@pytest.fixture(scope="module")
def separate():
  """Loss [R, S] and adapters of a run a rate, written without the library."""
  params, fresh, batches, _ = tiny()

  def loss_fn(adapters, batch):
    (a, b) = adapters["out"]["kernel"]["a"], adapters["out"]["kernel"]["b"]
    kernel = params["out"]["kernel"] + SCALE * jnp.einsum("nir,nro->nio", a, b)
    logits = tiny_apply({**params, "out": {"kernel": kernel}}, batch["inputs"]).logits
    log_p = jax.nn.log_softmax(logits)
    nll = -jnp.take_along_axis(log_p, batch["targets"][..., None], -1)[..., 0]
    return jnp.sum(nll * batch["mask"]) / jnp.sum(batch["mask"])

  def optimizer(rate):
    return optax.chain(
      optax.clip_by_global_norm(0.5), optax.adamw(rate, weight_decay=0.0)
    )

  @jax.jit
  def update(trained, opt_state, batch, rate):
    loss, grads = jax.value_and_grad(loss_fn)(trained, batch)
    updates, opt_state = optimizer(rate).update(grads, opt_state, trained)
    return loss, optax.apply_updates(trained, updates), opt_state

  losses, finals = [], []
  begin = jax.jit(optimizer(1.0).init)(fresh)
  for rate in RATES:
    trained, opt_state = fresh, begin
    losses.append([])
    for batch in batches:
      loss, trained, opt_state = update(trained, opt_state, batch, rate)
      losses[-1].append(loss)
    finals.append(jax.device_get(trained))
  return np.array(losses), finals


@functools.cache
def created():
  """Return the fresh state of a population."""
  optimizer = make_population_optimizer(SETTINGS)
  return jax.jit(lambda x: population.create(x, optimizer, RATES))(tiny()[1])


def check(state, losses_SxR, separate):
  state = jax.device_get(state)
  np.testing.assert_allclose(np.array(losses_SxR).T, separate[0], rtol=1e-5)
  assert len({round(float(x), 4) for x in separate[0][:, -1]}) == len(RATES)
  for r, adapters in enumerate(separate[1]):
    for x, y in zip(
      jax.tree.leaves(state.params), jax.tree.leaves(adapters), strict=True
    ):
      # Adam divides gradients by their size, which magnifies rounding near zero.
      assert np.max(np.abs(x[r] - y)) <= 0.01 * RATES[r]
      assert np.mean(np.abs(x[r] - y)) <= 1e-3 * RATES[r]


def test_a_population_of_adapters_is_a_run_a_rate_over_one_base(separate):
  params, _, batches, step = tiny()
  before = jax.tree.map(np.array, params)
  state = created()
  assert state.params["out"]["kernel"]["a"].shape == (4, 2, 16, 2)
  over = jax.jit(population.over_replicas(step))
  losses = []
  for batch in batches:
    state, metrics = over(state, {"base": params}, batch, KEY)
    losses.append(metrics["loss"])
  check(state, losses, separate)
  jax.tree.map(np.testing.assert_array_equal, params, before)


@pytest.mark.parametrize(
  "axes", [{"data": 8}, {"data": 1, "replica": 2, "fsdp": 2, "tensor": 2}]
)
def test_eight_devices_train_as_separate_runs(axes, separate):
  params, adapters, batches, step = tiny()
  mesh = sharding.make_mesh(**axes)
  optimizer = make_population_optimizer(SETTINGS)
  single = jax.eval_shape(lambda p: state_lib.create(p, optimizer), adapters)
  rules = lora.partition_rules(adapters, TINY_RULES)
  shardings = population.shardings(sharding.tree_shardings(single, rules, mesh))
  state = jax.device_put(created(), shardings)
  where = sharding.tree_shardings(params, TINY_RULES, mesh)
  frozen = {"base": jax.device_put(params, where)}
  program = jax.jit(
    scan_steps(population.over_replicas(step)),
    in_shardings=(shardings, None, sharding.batch_sharding(mesh, leading=1), None),
    out_shardings=(shardings, None),
  )
  stacked = jax.tree.map(lambda *xs: np.stack(xs), *batches)
  stacked = sharding.put_batch(stacked, mesh, leading=1)
  state, metrics = program(state, frozen, stacked, KEY)
  a = state.params["out"]["kernel"]["a"]
  parts = (4 // mesh.shape["replica"], 2, 16 // mesh.shape["fsdp"], 2)
  assert a.sharding.shard_shape(a.shape) == parts
  check(state, metrics["loss"], separate)


def test_each_factor_lies_along_its_side_of_the_kernel(base):
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  adapters = jax.eval_shape(lambda: lora.init(base, KEY, rank=RANK, targets=ALL))
  state = jax.eval_shape(lambda p: state_lib.create(p, optax.adamw(1.0)), adapters)
  rules = lora.partition_rules(adapters, partition_rules(testing.config()))
  got = by_path(sharding.tree_shardings(state, rules, mesh))
  up, down = "params/layers/mlp/up/kernel", "params/layers/mlp/down/kernel"
  assert got[f"{up}/a"].spec == P(None, "fsdp", None)
  assert got[f"{up}/b"].spec == P(None, None, "tensor")
  assert got[f"{down}/a"].spec == P(None, "tensor", None)
  assert got[f"{down}/b"].spec == P(None, None, "fsdp")
  moments = [n for n in got if n.endswith("mlp/up/kernel/b")]
  assert len(moments) == 3 and len({got[n] for n in moments}) == 1


def test_a_kernel_without_a_sharding_rule_is_an_error(base):
  adapters = lora.init(base, KEY, rank=RANK, targets=SOME)
  with pytest.raises(ValueError, match="no sharding rule matches 'layers/mlp/down"):
    lora.partition_rules(adapters, partition_rules(testing.config())[:3])


def test_the_attack_scores_the_merged_model(separate):
  params, _, batches, step = tiny()

  def evaluate(params, problems):
    logits = tiny_apply(params, problems["inputs"]).logits
    return {"logit": jnp.mean(logits[..., 3]), "weight": params["out"]["kernel"].sum()}

  def weights(adapters, frozen):
    return lora.merge(frozen["base"], adapters, scale=SCALE)

  program = relearning.over_models(
    relearning.make_program(step, evaluate, weights=weights)
  )
  stacked = jax.tree.map(lambda *xs: np.stack(xs)[:, None], *batches)  # [E=3, S=1].
  # Beside another model, whose adapters start alike.
  other = jax.tree.map(lambda x: 1.1 * x, params)
  bases = {"base": other}, {"base": params}
  (_, state), (beside, scores) = jax.jit(program)(
    (created(), created()), bases, batches[0], stacked, KEY
  )
  _, (alone,) = jax.jit(program)((created(),), bases[:1], batches[0], stacked, KEY)
  for name, score in alone.items():
    np.testing.assert_allclose(beside[name], score, rtol=1e-5)
  for r, final in enumerate(separate[1]):
    a, b = final["out"]["kernel"]["a"], final["out"]["kernel"]["b"]
    kernel = params["out"]["kernel"] + SCALE * a @ b
    expected = jax.jit(evaluate)({**params, "out": {"kernel": kernel}}, batches[0])
    for name, score in scores.items():
      assert score.shape == (3, len(RATES))
      np.testing.assert_allclose(score[-1, r], expected[name], rtol=1e-3, atol=1e-4)
