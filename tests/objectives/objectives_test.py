"""Tests of the losses against float64 numpy, and of what all objectives share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from undo_jax import objectives, testing, trees
from undo_jax.models.gemma2 import Gemma2, Output
from undo_jax.objectives import rmu
from undo_jax.objectives.cross_entropy import cross_entropy, masked_sum
from undo_jax.objectives.distillation import forward_kl
from undo_jax.objectives.max_ent import uniform_kl
from undo_jax.objectives.terms import weighted
from undo_jax.training import state as state_lib
from undo_jax.training.gradients import loss_and_gradients
from undo_jax.training.optimizers import OptimizerConfig, make_optimizer
from undo_jax.types import ConfigError, SumCount

B, L, V, D = 8, 6, 11, 5
KEY = jax.random.key(0)

OPTIONS = {
  "cross_entropy": {},
  "forward_kl": {},
  "grad_diff": {"retain_weight": 1.5},
  "max_ent": {"retain_weight": 0.5},
  "rmu": {"layers": (0,), "coefficient": 3.0, "retain_weight": 2.0},
}


def apply(params, tokens, *, capture=()):
  """A causal toy: running means of embeddings, then a matrix to the logits."""
  hidden_BxLxD = jnp.cumsum(params["embedding"][tokens], axis=1)
  hidden_BxLxD /= jnp.arange(1.0, tokens.shape[1] + 1)[None, :, None]
  return Output(
    jnp.tanh(hidden_BxLxD) @ params["out"], dict.fromkeys(capture, hidden_BxLxD)
  )


def numpy_apply(params, tokens):
  params = {name: np.asarray(leaf, np.float64) for name, leaf in params.items()}
  hidden = np.cumsum(params["embedding"][np.asarray(tokens)], axis=1)
  hidden /= np.arange(1, tokens.shape[1] + 1)[:, None]
  return np.tanh(hidden) @ params["out"], hidden


def draw_params(seed: int):
  rng = np.random.default_rng(seed)
  return {
    "embedding": jnp.asarray(2 * rng.standard_normal((V, D)), jnp.float32),
    "out": jnp.asarray(rng.standard_normal((D, V)), jnp.float32),
  }


def part(seed: int):
  return testing.batch(jax.random.key(seed), rows=B, length=L, vocab=V)


def batch_of(name: str):
  if objectives.REGISTRY[name].trains == ("batch",):
    return part(0)
  return {"forget": part(1), "retain": part(2)}


FROZEN = {
  "teacher": draw_params(7),
  "reference": draw_params(8),
  "direction": rmu.random_direction(jax.random.key(9), D),
}


def make(name: str, **changes):
  return objectives.make(name, apply, **(OPTIONS[name] | changes))


@pytest.fixture(params=sorted(OPTIONS))
def name(request):
  return request.param


def test_every_registered_objective_is_tested():
  assert set(OPTIONS) == set(objectives.REGISTRY)


# ---- The losses in float64.


def log_softmax(x):
  shifted = x - x.max(-1, keepdims=True)
  return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def np_cross_entropy(logits, targets, mask):
  log_p = log_softmax(np.asarray(logits, np.float64))
  total = 0.0
  for b, t in np.ndindex(*np.shape(mask)):
    total -= mask[b, t] * log_p[b, t, targets[b, t]]
  return total / max(np.sum(mask), 1)


def np_forward_kl(student, teacher, mask):
  log_s = log_softmax(np.asarray(student, np.float64))
  log_t = log_softmax(np.asarray(teacher, np.float64))
  kl = (np.exp(log_t) * (log_t - log_s)).sum(-1)
  return (kl * mask).sum() / max(np.sum(mask), 1)


def np_uniform_kl(logits, mask):
  log_p = log_softmax(np.asarray(logits, np.float64))
  kl = ((np.log(1 / V) - log_p) / V).sum(-1)
  return (kl * mask).sum() / max(np.sum(mask), 1)


def np_mean_square(hidden, target, mask):
  error = ((np.asarray(hidden, np.float64) - np.asarray(target, np.float64)) ** 2).mean(
    -1
  )
  return (error * mask).sum() / max(np.sum(mask), 1)


def np_objective(name, params, frozen, batch):
  """Returns the terms whose sum is the loss."""
  if name in ("cross_entropy", "forward_kl"):
    logits, _ = numpy_apply(params, batch["inputs"])
    if name == "cross_entropy":
      return [np_cross_entropy(logits, batch["targets"], np.asarray(batch["mask"]))]
    teacher, _ = numpy_apply(frozen["teacher"], batch["inputs"])
    return [np_forward_kl(logits, teacher, np.asarray(batch["mask"]))]
  forget, retain = batch["forget"], batch["retain"]
  forget_mask, retain_mask = np.asarray(forget["mask"]), np.asarray(retain["mask"])
  forget_logits, forget_hidden = numpy_apply(params, forget["inputs"])
  retain_logits, retain_hidden = numpy_apply(params, retain["inputs"])
  retain_ce = np_cross_entropy(retain_logits, retain["targets"], retain_mask)
  if name == "grad_diff":
    return [
      -np_cross_entropy(forget_logits, forget["targets"], forget_mask),
      1.5 * retain_ce,
    ]
  if name == "max_ent":
    return [np_uniform_kl(forget_logits, forget_mask), 0.5 * retain_ce]
  direction = 3.0 * np.asarray(frozen["direction"], np.float64)
  _, reference = numpy_apply(frozen["reference"], retain["inputs"])
  return [
    np_mean_square(forget_hidden, direction, forget_mask),
    2.0 * np_mean_square(retain_hidden, reference, retain_mask),
  ]


def test_the_objective_is_its_formula(name):
  params, batch = draw_params(1), batch_of(name)
  loss, _ = jax.jit(make(name))(params, FROZEN, batch, KEY)
  terms = np_objective(name, params, FROZEN, batch)
  # Relative to the terms, since those of GradDiff nearly cancel.
  assert abs(float(loss.mean()) - sum(terms)) <= 1e-6 * np.abs(terms).sum()


def draw_logits(seed: int, scale: float = 3.0):
  return scale * np.random.default_rng(seed).standard_normal((B, L, V))


MASK = np.asarray(part(3)["mask"])
TARGETS = np.asarray(part(3)["targets"])


@pytest.mark.parametrize("scale", [0.1, 3.0, 100.0])
def test_cross_entropy_is_its_formula(scale):
  logits = np.float32(draw_logits(0, scale))
  got = cross_entropy(logits, jnp.asarray(TARGETS), jnp.asarray(MASK))
  expected = np_cross_entropy(logits, TARGETS, MASK)
  np.testing.assert_allclose(got.mean(), expected, rtol=1e-6)
  assert got.count == MASK.sum()


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


@pytest.mark.parametrize("scale", [1.0, 3.0, 100.0])
def test_uniform_kl_is_its_formula(scale):
  logits = np.float32(draw_logits(0, scale))
  got = uniform_kl(logits, jnp.asarray(MASK))
  np.testing.assert_allclose(got.mean(), np_uniform_kl(logits, MASK), rtol=1e-6)


def test_steering_error_is_its_formula():
  hidden, direction = np.float32(draw_logits(0)), np.float32(draw_logits(1)[0, 0])
  got = rmu.steering_error(hidden, jnp.asarray(direction), 6.5, jnp.asarray(MASK))
  expected = np_mean_square(hidden, 6.5 * np.float64(direction), MASK)
  np.testing.assert_allclose(got.mean(), expected, rtol=1e-6)


def test_low_precision_logits_are_summed_in_float32():
  logits = jnp.asarray(draw_logits(0), jnp.bfloat16)
  rounded = np.asarray(logits.astype(jnp.float32))
  got = cross_entropy(logits, jnp.asarray(TARGETS), jnp.asarray(MASK))
  np.testing.assert_allclose(
    got.mean(), np_cross_entropy(rounded, TARGETS, MASK), rtol=1e-6
  )


def test_weighted_terms_keep_their_own_counts():
  terms = [
    SumCount(jnp.float32(6), jnp.float32(3)),
    SumCount(jnp.float32(5), jnp.float32(2)),
  ]
  got = weighted((-1.0, terms[0]), (4.0, terms[1]))
  assert got.mean() == -1.0 * 6 / 3 + 4.0 * 5 / 2
  # Parts of a batch add up before the division.
  doubled = jax.tree.map(jnp.add, got, weighted((-1.0, terms[1]), (4.0, terms[1])))
  assert doubled.mean() == -(6 + 5) / (3 + 2) + 4.0 * (5 + 5) / (2 + 2)


def test_an_infinite_value_under_the_mask_stays_out():
  values = jnp.array([[1.0, jnp.inf], [jnp.nan, 2.0]])
  got = masked_sum(values, jnp.array([[1, 0], [0, 1]]))
  assert (got.sum, got.count) == (3.0, 2.0)


# ---- What all objectives share.


@functools.cache
def compiled(name, num_microbatches, **changes):
  fn = functools.partial(loss_and_gradients, num_microbatches=num_microbatches)
  return jax.jit(functools.partial(fn, make(name, **changes)))


def run(name, params, batch, *, num_microbatches=1, frozen=FROZEN, **changes):
  return compiled(name, num_microbatches, **changes)(params, frozen, batch, KEY)


def assert_trees_close(got, expected, tolerance):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(
      x, y, rtol=0, atol=tolerance * np.abs(y).max()
    ),
    got,
    expected,
  )


def test_content_at_masked_positions_changes_nothing(name):
  def scramble(part):
    masked = np.asarray(part["mask"]) == 0
    assert masked.any()
    other = np.random.default_rng(5).integers(0, V, masked.shape)
    return part | {
      side: jnp.where(masked, other, part[side]) for side in ("inputs", "targets")
    }

  batch = batch_of(name)
  changed = (
    scramble(batch) if "mask" in batch else {k: scramble(v) for k, v in batch.items()}
  )
  one, two = run(name, draw_params(1), batch), run(name, draw_params(1), changed)
  jax.tree.map(np.testing.assert_array_equal, one[0], two[0])
  # Scatters of zeros land on other rows of the embedding, in another order.
  assert_trees_close(two[1:], one[1:], 1e-6)


@pytest.mark.parametrize("scale", [1e4, 1e15])
def test_gradients_are_finite_at_extreme_logits(name, scale):
  params = draw_params(1)
  params["out"] = scale * params["out"]
  teacher = FROZEN["teacher"]
  frozen = FROZEN | {"teacher": teacher | {"out": scale * teacher["out"]}}
  for leaf in jax.tree.leaves(run(name, params, batch_of(name), frozen=frozen)):
    assert np.all(np.isfinite(leaf))


def test_an_empty_mask_gives_zero(name):
  batch = jax.tree_util.tree_map_with_path(
    lambda path, x: jnp.zeros_like(x) if "mask" in str(path[-1]) else x, batch_of(name)
  )
  loss, grads, _ = run(name, draw_params(1), batch)
  assert loss == 0
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("num_microbatches", [2, 4])
def test_microbatches_change_no_result(name, num_microbatches):
  batch = batch_of(name)
  for part in [batch] if "mask" in batch else batch.values():
    counts = np.asarray(part["mask"]).reshape(-1, num_microbatches, L).sum((0, 2))
    assert len(set(counts.tolist())) > 1  # A mean of means would be wrong here.
  params = draw_params(1)
  loss, grads, metrics = run(name, params, batch)
  got, got_grads, got_metrics = run(
    name, params, batch, num_microbatches=num_microbatches
  )
  terms = np_objective(name, params, FROZEN, batch)
  assert abs(got - loss) <= 1e-6 * np.abs(terms).sum()
  assert_trees_close(got_grads, grads, 2e-6)
  assert_trees_close(got_metrics, metrics, 2e-6)


def test_compiled_and_eager_results_agree(name):
  params, batch = draw_params(1), batch_of(name)
  eager = make(name)(params, FROZEN, batch, KEY)
  assert_trees_close(jax.jit(make(name))(params, FROZEN, batch, KEY), eager, 1e-6)


def test_the_gradient_is_that_of_finite_differences(name):
  params, batch = draw_params(1), batch_of(name)
  grads = run(name, params, batch)[1]
  rng = np.random.default_rng(3)
  direction = {k: rng.standard_normal(v.shape) for k, v in params.items()}

  def at(epsilon):
    moved = {
      k: np.asarray(v, np.float64) + epsilon * direction[k] for k, v in params.items()
    }
    return sum(np_objective(name, moved, FROZEN, batch))

  expected = (at(1e-5) - at(-1e-5)) / 2e-5
  products = [np.asarray(grads[k], np.float64) * direction[k] for k in params]
  got = sum(product.sum() for product in products)
  scale = sum(np.abs(product).sum() for product in products)
  assert abs(got - expected) <= 1e-6 * scale


def test_the_frozen_tree_gets_no_gradient(name):
  if name not in ("forward_kl", "rmu"):
    frozen = {"teacher": draw_params(7)}
  else:
    frozen = {key: FROZEN[key] for key in objectives.REGISTRY[name].frozen}
    frozen.pop("direction", None)  # A constant of the loss, not a model.

  def loss(frozen):
    return make(name)(draw_params(1), FROZEN | frozen, batch_of(name), KEY)[0].mean()

  assert not any(np.any(leaf) for leaf in jax.tree.leaves(jax.grad(loss)(frozen)))


def test_the_registry_tells_the_passes_and_the_frozen_keys(name):
  """Compute accounting trusts the registry: count what is really run."""
  params, batch = draw_params(1), batch_of(name)
  parts = {"batch": batch} if "mask" in batch else batch
  trained, read, keys = [], [], set()

  class Recorder(dict):
    def __getitem__(self, key):
      keys.add(key)
      return super().__getitem__(key)

  def counting(used, tokens, **arguments):
    names = [k for k, part in parts.items() if part["inputs"] is tokens]
    (trained if used is params else read).extend(names)
    return apply(used, tokens, **arguments)

  method = objectives.REGISTRY[name]
  objective = objectives.make(name, counting, **OPTIONS[name])
  objective(params, Recorder(FROZEN), batch, KEY)
  assert sorted(trained) == sorted(method.trains)
  assert sorted(read) == sorted(method.reads)
  assert keys == set(method.frozen)


# ---- Properties of single losses.


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


@pytest.mark.parametrize("constant", [0.0, -7.0, 1e4])
def test_uniform_kl_is_zero_at_constant_logits(constant):
  got = uniform_kl(jnp.full((B, L, V), constant), jnp.asarray(MASK))
  assert abs(got.mean()) < 1e-6


def test_the_gradient_of_uniform_kl_is_softmax_minus_uniform():
  logits = np.float32(draw_logits(0))
  got = jax.grad(lambda x: uniform_kl(x, jnp.asarray(MASK)).mean())(logits)
  expected = np.exp(log_softmax(np.float64(logits))) - 1 / V
  expected *= MASK[..., None] / MASK.sum()
  np.testing.assert_allclose(got, expected, rtol=0, atol=1e-8)


def test_grad_diff_without_retain_is_ascent_on_the_forget_data():
  params, batch = draw_params(1), batch_of("grad_diff")
  loss, grads, metrics = run("grad_diff", params, batch, retain_weight=0.0)
  ce, ce_grads, _ = run("cross_entropy", params, batch["forget"])
  np.testing.assert_allclose(loss, -ce, rtol=1e-6)
  assert_trees_close(grads, jax.tree.map(jnp.negative, ce_grads), 1e-6)
  np.testing.assert_allclose(metrics["forget_cross_entropy"].mean(), ce, rtol=1e-6)


def test_max_ent_at_constant_logits_leaves_the_retain_term():
  params = draw_params(1) | {"out": jnp.zeros((D, V))}
  loss, _, metrics = run("max_ent", params, batch_of("max_ent"))
  np.testing.assert_allclose(loss, 0.5 * np.log(V), rtol=1e-6)
  assert abs(metrics["forget_uniform_kl"].mean()) < 1e-6


def test_rmu_does_not_drift_at_the_start():
  params = draw_params(1)
  frozen = FROZEN | {"reference": params}
  _, _, metrics = run("rmu", params, batch_of("rmu"), frozen=frozen)
  # Both passes are compiled, so each state may differ by a few roundings of 1e-7.
  assert 0 <= metrics["retain_drift"].mean() < 1e-12


def test_rmu_is_zero_where_hidden_states_are_the_target():
  direction = FROZEN["direction"]
  params = draw_params(1)
  # One row for all tokens: their running mean is that row, up to rounding.
  params["embedding"] = jnp.tile(3.0 * direction, (V, 1))
  frozen = FROZEN | {"reference": params}
  loss, grads, _ = run("rmu", params, batch_of("rmu"), frozen=frozen)
  assert loss < 1e-12
  assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(grads)) < 1e-6


def test_random_directions_are_unit_vectors_without_a_preferred_one():
  draws = jax.vmap(lambda key: rmu.random_direction(key, D))(
    jax.random.split(KEY, 2000)
  )
  draws = np.asarray(draws, np.float64)
  np.testing.assert_allclose(np.linalg.norm(draws, axis=1), 1.0, rtol=3e-7)
  # Each coordinate has variance 1/D; the covariance is that of a sphere.
  assert np.abs(draws.mean(0)).max() < 5 / np.sqrt(D * 2000)
  np.testing.assert_allclose(draws.T @ draws / 2000, np.eye(D) / D, atol=0.025)


def test_rmu_trains_the_listed_down_projections_and_nothing_else():
  config = testing.config(num_layers=3)
  model, layers = Gemma2(config), (0, 1)
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  normal = np.random.default_rng(0).standard_normal
  params = jax.tree.map(lambda s: jnp.asarray(0.2 * normal(s.shape), s.dtype), shapes)
  objective = objectives.make(
    "rmu", model.apply, layers=layers, coefficient=2.0, retain_weight=1.0
  )
  # Decay would move every parameter that is not really frozen.
  optimizer = make_optimizer(
    OptimizerConfig(
      learning_rate=1e-2,
      num_steps=1,
      weight_decay=0.5,
      trainable=rmu.trainable(layers),
    )
  )
  batch = {"forget": testing.batch(KEY), "retain": testing.batch(jax.random.key(1))}
  frozen = {"reference": params, "direction": rmu.random_direction(KEY, config.width)}

  @jax.jit
  def step(state):
    grads = loss_and_gradients(objective, state.params, frozen, batch, KEY)[1]
    updates, _ = optimizer.update(grads, state.opt_state, state.params)
    return optax.apply_updates(state.params, updates), grads

  trained, grads = step(state_lib.create(params, optimizer))
  down = np.asarray(grads["layers"]["mlp"]["down"]["kernel"])
  # The target is the output of the last listed layer: it learns, later ones do not.
  assert [bool(np.any(down[n])) for n in range(3)] == [True, True, False]
  moved = jax.tree.map(lambda x, y: np.asarray(x != y), trained, params)
  for path, leaf in zip(trees.paths(moved), jax.tree.leaves(moved), strict=True):
    if path == "layers/mlp/down/kernel":
      assert leaf[:2].all() and not leaf[2].any()
    else:
      assert not leaf.any(), path


# ---- The registry.


def test_an_unknown_objective_lists_the_registered_ones():
  with pytest.raises(ConfigError, match="unknown objective 'kl'.*forward_kl.*rmu"):
    objectives.make("kl", apply)


@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("cross_entropy", {"retain_weight": 1.0}),
    ("grad_diff", {}),
    ("max_ent", {"retain_weight": 1.0, "beta": 1.0}),
    ("rmu", {"layers": (0,), "coefficient": 1.0}),
  ],
)
def test_options_must_be_exactly_those_of_the_objective(name, options):
  with pytest.raises(ConfigError, match=rf"objective '{name}' takes .*got \["):
    objectives.check(name, options)
  with pytest.raises(ConfigError, match=f"objective '{name}' takes"):
    objectives.make(name, apply, **options)
