"""Tests of the losses against float64 numpy, and of what all objectives share."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from undo_jax import objectives, testing
from undo_jax.models.gemma2 import Gemma2, Output
from undo_jax.objectives import rmu
from undo_jax.objectives.cross_entropy import cross_entropy, masked_sum
from undo_jax.objectives.distillation import forward_kl
from undo_jax.objectives.max_ent import uniform_kl
from undo_jax.objectives.terms import weighted
from undo_jax.training import state as state_lib
from undo_jax.training.gradients import loss_and_gradients
from undo_jax.training.optimizers import OptimizerConfig, make_optimizer
from undo_jax.utils import trees
from undo_jax.utils.types import ConfigError, SumCount

B, L, V, D, N = 8, 6, 11, 5, 2
KEY = jax.random.key(0)

# Each case is a registered objective with options.
CASES = {
  "cross_entropy": ("cross_entropy", {}),
  "forward_kl": ("forward_kl", {}),
  "forward_kl, mixed, activations": (
    "forward_kl",
    {"kl_weight": 0.7, "activation_weight": 10.0, "base_share": 0.3},
  ),
  "grad_diff": ("grad_diff", {"retain_weight": 1.5}),
  "max_ent": ("max_ent", {"retain_weight": 0.5}),
  "max_ent, kl": (
    "max_ent",
    {"forget_weight": 0.8, "retain_weight": 0.2, "retain_loss": "kl"},
  ),
  "max_ent_rep_noise": (
    "max_ent_rep_noise",
    {"forget_weight": 0.9, "retain_weight": 0.5, "alpha": 2.0, "beta": 0.7},
  ),
  "rmu": ("rmu", {"layers": (0,), "coefficient": 3.0, "retain_weight": 2.0}),
}
# Their terms are statistics of a microbatch: tested by themselves.
STATISTICS = ("max_ent_rep_noise",)
# Take a model with reserved units: routed_test.py.
ROUTED = {"routed", "routed_forward_kl", "sgtm", "sgtm_forward_kl"}


def apply(params, tokens, *, capture=(), layer_inputs_NxBxLxD=None, hidden_BxLxD=None):
  """A causal toy: each layer scales running means, then a matrix to the logits."""
  if hidden_BxLxD is not None:
    return Output(jnp.tanh(hidden_BxLxD) @ params["out"], {})
  states = [params["embedding"][tokens]]
  read, written = [], []
  for n in range(N):
    given = layer_inputs_NxBxLxD
    read.append(states[-1] if given is None else given[n])
    means = jnp.cumsum(read[-1], axis=1) / jnp.arange(1.0, L + 1)[:, None]
    written.append(params["layers"][n] * means)
    states.append(written[-1])
  normed = jnp.tanh(states[-1])
  nodes = dict(enumerate(states)) | {"embedding": states[0], "final_norm": normed}
  nodes["residual"] = jnp.stack(written)
  nodes["mlp/out"] = jnp.stack(written) - jnp.stack(read)
  return Output(normed @ params["out"], {k: nodes[k] for k in capture})


def numpy_apply(params, tokens, layer_inputs=None):
  """Returns logits and hidden states in float64."""
  params = {name: np.asarray(leaf, np.float64) for name, leaf in params.items()}
  states = [params["embedding"][np.asarray(tokens)]]
  for n in range(N):
    read = states[-1] if layer_inputs is None else layer_inputs[n]
    means = np.cumsum(read, axis=1) / np.arange(1, L + 1)[:, None]
    states.append(params["layers"][n] * means)
  return np.tanh(states[-1]) @ params["out"], states


def draw_params(seed: int):
  rng = np.random.default_rng(seed)
  return {
    "embedding": jnp.asarray(2 * rng.standard_normal((V, D)), jnp.float32),
    "layers": jnp.asarray(1 + 0.3 * rng.standard_normal((N, D)), jnp.float32),
    "out": jnp.asarray(rng.standard_normal((D, V)), jnp.float32),
  }


def part(seed: int):
  return testing.batch(jax.random.key(seed), rows=B, length=L, vocab=V)


def method_of(name: str):
  return objectives.method(*CASES[name])


def batch_of(name: str):
  if "batch" in method_of(name).trains:
    return part(0)
  return {"forget": part(1), "retain": part(2)}


FROZEN = {
  "teacher": draw_params(7),
  "base": draw_params(6),
  "reference": draw_params(8),
  "direction": rmu.random_direction(jax.random.key(9), D),
}


def make(name: str, **changes):
  objective, options = CASES[name]
  return objectives.make(objective, apply, **(options | changes))


@pytest.fixture(params=sorted(CASES))
def name(request):
  return request.param


def test_every_registered_objective_is_tested():
  tested = {objective for objective, _ in CASES.values()}
  assert tested | ROUTED == set(objectives.REGISTRY)


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


def np_activation_error(params, teacher, batch):
  """One layer after the other, each on the teacher's hidden state."""
  _, states = numpy_apply(teacher, batch["inputs"])
  _, got = numpy_apply(params, batch["inputs"], layer_inputs=states)
  mask, total = np.asarray(batch["mask"]), 0.0
  for n in range(N):
    mine, theirs = got[n + 1], states[n + 1]
    if n == N - 1:
      mine, theirs = np.tanh(mine), np.tanh(theirs)
    total += np_mean_square(mine, theirs, mask)
  return total / N


def np_mmd(x, y, width=None):
  """Returns the discrepancy, at the width of its own distances or a given one."""
  z = np.concatenate([x, y]).astype(np.float64)
  distances = ((z[:, None] - z[None, :]) ** 2).sum(-1)
  n = len(z)
  own = distances.sum() / (n**2 - n) / 2 ** (5 // 2)
  width = own if width is None else width
  kernel = sum(np.exp(-distances / (width * 2**i)) for i in range(5))
  k = len(x)
  xx, yy, xy, yx = kernel[:k, :k], kernel[k:, k:], kernel[:k, k:], kernel[k:, :k]
  return (xx + yy - xy - yx).mean(), own


def np_rep_noise(params, batch, key, fixed, *, only_differing=False):
  """Returns cross-entropy on retain data, distance to noise, log of the lens losses.

  The widths of the kernels are those at the parameters `fixed`.
  """
  forget, retain = batch["forget"], batch["retain"]
  (logits, states), (_, fixed_states) = (
    numpy_apply(p, forget["inputs"]) for p in (params, fixed)
  )
  harmless_logits, _ = numpy_apply(params, retain["inputs"])
  masks = {name: np.asarray(p["mask"], np.float64) for name, p in batch.items()}
  read = np.ones(masks["forget"].shape)
  rows = len(read)
  if only_differing:  # Logits times the mask, labels outside of it left out.
    read = np.float64(forget["inputs"] != retain["inputs"])
    counted = np.asarray(forget["targets"] != retain["targets"])
    masks = {name: mask * counted for name, mask in masks.items()}
  out = np.asarray(params["out"], np.float64)
  noise = 0.0
  for n in range(N):
    gaussian = jax.random.normal(jax.random.fold_in(key, n), (rows, L, D))
    m = (masks["forget"] * read)[..., None]
    mine, other = (
      (m * (h[n + 1] - h[n])).reshape(rows, -1) for h in (states, fixed_states)
    )
    gaussian = (m * np.asarray(gaussian, np.float64)).reshape(rows, -1)
    noise += np_mmd(mine, gaussian, np_mmd(other, gaussian)[1])[0] / N
  lens = [np.tanh(h) @ out for h in states]
  losses = [
    np_cross_entropy(read[..., None] * z, forget["targets"], masks["forget"])
    for z in [logits, *lens]
  ]
  harmless = np_cross_entropy(
    read[..., None] * harmless_logits, retain["targets"], masks["retain"]
  )
  return harmless, noise, np.log(sum(losses) / (N + 1) + 1)


def np_objective(name, params, frozen, batch, key=KEY, fixed=None):
  """Returns the terms whose sum is the loss."""
  if name in ("cross_entropy", "forward_kl", "forward_kl, mixed, activations"):
    logits, _ = numpy_apply(params, batch["inputs"])
    mask = np.asarray(batch["mask"])
    if name == "cross_entropy":
      return [np_cross_entropy(logits, batch["targets"], mask)]
    teacher, _ = numpy_apply(frozen["teacher"], batch["inputs"])
    kl = np_forward_kl(logits, teacher, mask)
    if name == "forward_kl":
      return [kl]
    base, _ = numpy_apply(frozen["base"], batch["inputs"])
    error = np_activation_error(params, frozen["teacher"], batch)
    return [0.7 * 0.7 * kl, 0.7 * 0.3 * np_forward_kl(logits, base, mask), 10 * error]
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
  uniform = np_uniform_kl(forget_logits, forget_mask)
  reference_logits, reference = numpy_apply(frozen["reference"], retain["inputs"])
  if name == "max_ent":
    return [uniform, 0.5 * retain_ce]
  if name == "max_ent, kl":
    kl = np_forward_kl(retain_logits, reference_logits, retain_mask)
    return [0.8 * uniform, 0.2 * kl]
  if name == "max_ent_rep_noise":
    fixed = params if fixed is None else fixed
    harmless, noise, ascent = np_rep_noise(params, batch, key, fixed)
    rest = 0.9 * np.array([uniform, harmless, 0.7 * noise, -2.0 * ascent])
    return [*rest, 0.5 * retain_ce]
  direction = 3.0 * np.asarray(frozen["direction"], np.float64)
  return [
    np_mean_square(forget_hidden[1], direction, forget_mask),
    2.0 * np_mean_square(retain_hidden[1], reference[1], retain_mask),
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
  frozen = FROZEN | {
    role: FROZEN[role] | {"out": scale * FROZEN[role]["out"]}
    for role in ("teacher", "base", "reference")
  }
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
  if name in STATISTICS:
    return
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


@pytest.mark.optimized
def test_the_gradient_is_that_of_finite_differences(name):
  params, batch = draw_params(1), batch_of(name)
  grads = run(name, params, batch)[1]
  rng = np.random.default_rng(3)
  direction = {k: rng.standard_normal(v.shape) for k, v in params.items()}

  def at(epsilon):
    moved = {
      k: np.asarray(v, np.float64) + epsilon * direction[k] for k, v in params.items()
    }
    key = jax.random.fold_in(KEY, 0)  # That of the first microbatch.
    return sum(np_objective(name, moved, FROZEN, batch, key, params))

  expected = (at(1e-5) - at(-1e-5)) / 2e-5
  products = [np.asarray(grads[k], np.float64) * direction[k] for k in params]
  got = sum(product.sum() for product in products)
  scale = sum(np.abs(product).sum() for product in products)
  assert abs(got - expected) <= 1e-6 * scale


def test_the_frozen_tree_gets_no_gradient(name):
  roles = [role for role in method_of(name).frozen if role != "direction"]
  frozen = {role: FROZEN[role] for role in roles or ["teacher"]}

  def loss(frozen):
    return make(name)(draw_params(1), FROZEN | frozen, batch_of(name), KEY)[0].mean()

  assert not any(np.any(leaf) for leaf in jax.tree.leaves(jax.grad(loss)(frozen)))


def test_the_registry_tells_the_passes_and_the_frozen_keys(name):
  """Compute accounting trusts the registry: count what is really run."""
  params, batch = draw_params(1), batch_of(name)
  parts = {"batch": batch} if "mask" in batch else batch
  trained, read, unembedded, keys = [], [], [], set()

  class Recorder(dict):
    def __getitem__(self, key):
      keys.add(key)
      return super().__getitem__(key)

  def counting(used, tokens, **arguments):
    names = [k for k, part in parts.items() if part["inputs"] is tokens]
    if "hidden_BxLxD" in arguments:
      unembedded.extend(names)
    else:
      (trained if used is params else read).extend(names)
    return apply(used, tokens, **arguments)

  method = method_of(name)
  objective = objectives.make(CASES[name][0], counting, **CASES[name][1])
  objective(params, Recorder(FROZEN), batch, KEY)
  assert sorted(trained) == sorted(method.trains)
  assert sorted(read) == sorted(method.reads)
  assert unembedded == list(method.unembeds)
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
  params["layers"] = jnp.ones((N, D))
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
      trainable=rmu.trainable(layers=layers),
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


@pytest.mark.parametrize("name", ["grad_diff", "max_ent"])
def test_the_retain_loss_may_be_the_divergence_from_the_reference(name):
  params, batch = draw_params(1), batch_of(name)
  options = {"retain_weight": 0.3, "forget_weight": 0.7, "retain_loss": "kl"}
  loss, _, metrics = run(name, params, batch, **options)
  retain = batch["retain"]
  logits, reference = (
    numpy_apply(p, retain["inputs"])[0] for p in (params, FROZEN["reference"])
  )
  kl = np_forward_kl(logits, reference, np.asarray(retain["mask"]))
  forget = np_objective(name, params, FROZEN, batch)[0]
  np.testing.assert_allclose(loss, 0.7 * forget + 0.3 * kl, rtol=2e-6)
  np.testing.assert_allclose(metrics["retain_kl"].mean(), kl, rtol=1e-6)
  # At the start nothing has moved: only the forget term is left.
  frozen = FROZEN | {"reference": params}
  _, _, metrics = run(name, params, batch, frozen=frozen, **options)
  assert abs(metrics["retain_kl"].mean()) < 1e-6


def test_rmu_weights_both_of_its_terms():
  params, batch = draw_params(1), batch_of("rmu")
  steered, drift = np_objective("rmu", params, FROZEN, batch)
  loss, _, _ = run("rmu", params, batch, forget_weight=0.8, retain_weight=0.2)
  np.testing.assert_allclose(loss, 0.8 * steered + 0.2 * drift / 2.0, rtol=2e-6)


def test_rep_noise_averages_its_statistics_over_microbatches():
  name, A = "max_ent_rep_noise", 2
  params, batch = draw_params(1), batch_of(name)
  whole = np_objective(name, params, FROZEN, batch)
  objective, parts, noise, ascent = jax.jit(make(name)), [], [], []
  for a in range(A):
    rows = jax.tree.map(lambda x, a=a: x[a::A], batch)
    key = jax.random.fold_in(KEY, a)
    terms = np_rep_noise(params, rows, key, params)
    noise.append(terms[1])
    ascent.append(terms[2])
    parts.append(objective(params, FROZEN, rows, key))
  loss, metrics = jax.tree.map(jnp.add, *parts)
  expected = whole[0] + whole[1] + whole[4]
  expected += 0.9 * (0.7 * np.mean(noise) - 2.0 * np.mean(ascent))
  np.testing.assert_allclose(loss.mean(), expected, rtol=2e-6)
  got = metrics["forget_noise_distance"].mean(), metrics["forget_log_loss"].mean()
  np.testing.assert_allclose(got, [np.mean(noise), np.mean(ascent)], rtol=2e-6)


def test_rep_noise_may_mask_what_both_rows_share():
  name = "max_ent_rep_noise"
  params, batch = draw_params(1), batch_of(name)
  # Rows of the same first tokens, as answers to one prompt.
  for side, count in (("inputs", 3), ("targets", 2)):
    shared = batch["retain"][side][:, :count]
    batch["forget"][side] = batch["forget"][side].at[:, :count].set(shared)
  loss, _ = jax.jit(make(name, only_differing=True))(params, FROZEN, batch, KEY)
  terms = np_objective(name, params, FROZEN, batch)
  harmless, noise, ascent = np_rep_noise(
    params, batch, KEY, params, only_differing=True
  )
  expected = terms[0] + terms[4] + 0.9 * (harmless + 0.7 * noise - 2.0 * ascent)
  np.testing.assert_allclose(loss.mean(), expected, rtol=2e-6)
  assert abs(loss.mean() - sum(terms)) > 1e-2


@pytest.mark.parametrize("activation_weight", [0.0, 10.0])
def test_a_switch_takes_one_teacher_with_the_given_probability(activation_weight):
  params, batch, p = draw_params(1), batch_of("forward_kl"), 0.3
  objective = make(
    "forward_kl",
    base_share=p,
    base_choice="switch",
    activation_weight=activation_weight,
  )
  keys = jax.random.split(KEY, 1000)
  values = jax.lax.map(lambda k: objective(params, FROZEN, batch, k)[0].mean(), keys)
  expected = [
    np_objective("forward_kl", params, FROZEN | {"teacher": FROZEN[role]}, batch)[0]
    for role in ("teacher", "base")
  ]
  error = np_activation_error(params, FROZEN["teacher"], batch)
  values = np.asarray(values, np.float64) - activation_weight * error
  from_base = np.abs(values - expected[1]) < 1e-5
  assert np.all(from_base | (np.abs(values - expected[0]) < 1e-5))
  assert abs(from_base.mean() - p) < 4 * np.sqrt(p * (1 - p) / 1000)


@pytest.mark.parametrize("choice", ["mixed", "switch"])
def test_all_of_the_share_leaves_base_alone_to_teach(choice):
  params, batch = draw_params(1), batch_of("forward_kl")
  loss, grads, _ = run("forward_kl", params, batch, base_share=1.0, base_choice=choice)
  frozen = {"teacher": FROZEN["base"]}
  expected, expected_grads, _ = run("forward_kl", params, batch, frozen=frozen)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  assert_trees_close(grads, expected_grads, 1e-6)


def test_activations_alone_teach_the_layers_alone():
  options = {"kl_weight": 0.0, "activation_weight": 2.0}
  params, batch = draw_params(1), batch_of("forward_kl")
  loss, grads, metrics = run("forward_kl", params, batch, **options)
  error = np_activation_error(params, FROZEN["teacher"], batch)
  np.testing.assert_allclose(loss, 2.0 * error, rtol=1e-6)
  assert list(metrics) == ["activation_error"]
  assert not np.any(grads["embedding"]) and not np.any(grads["out"])
  # A layer that is the teacher's adds nothing, whatever the others are.
  params["layers"] = params["layers"].at[1].set(FROZEN["teacher"]["layers"][1])
  grads = run("forward_kl", params, batch, **options)[1]["layers"]
  assert np.all(grads[0]) and not np.any(grads[1])


# ---- The registry.


@pytest.mark.parametrize(
  ("options", "passes"),
  [
    ({}, (1, 1, ("teacher",))),
    ({"kl_weight": 2.0}, (1, 1, ("teacher",))),
    ({"kl_weight": 0.0, "activation_weight": 1.0}, (1, 1, ("teacher",))),
    ({"activation_weight": 10.0}, (2, 1, ("teacher",))),
    ({"base_share": 0.1}, (1, 2, ("teacher", "base"))),
    ({"base_share": 0.1, "base_choice": "switch"}, (1, 1, ("teacher", "base"))),
  ],
)
def test_options_decide_the_passes_of_distillation(options, passes):
  method = objectives.method("forward_kl", options)
  assert (len(method.trains), len(method.reads), method.frozen) == passes


def test_stated_options_are_those_off_their_defaults():
  options = {"retain_weight": 1.0, "forget_weight": 1.0, "retain_loss": "cross_entropy"}
  assert objectives.stated("max_ent", options) == {"retain_weight": 1.0}
  options |= {"forget_weight": 0.5, "retain_loss": "kl"}
  assert objectives.stated("max_ent", options) == options
  assert objectives.stated("forward_kl", {"kl_weight": 1.0}) == {}


def test_an_unknown_objective_lists_the_registered_ones():
  with pytest.raises(ConfigError) as error:
    objectives.make("kl", apply)
  assert "'kl'" in str(error.value) and "\n" not in str(error.value)
  assert ", ".join(objectives.REGISTRY) in str(error.value)


THEIRS = """
import jax.numpy as jnp

from undo_jax.objectives.method import Method
from undo_jax.utils.types import SumCount


def make(apply, *, weight, power=2.0):
  def objective(params, frozen, batch, key):
    logits = apply(params, batch["inputs"]).logits
    kept = jnp.abs(logits) ** power * batch["mask"][..., None]
    value = SumCount(weight * jnp.sum(kept), jnp.sum(batch["mask"]))
    return value, {"size": value}

  return objective


def needs(*, weight, power=2.0):
  return {"trains": ("batch",) * (2 if power > 2 else 1)}


METHOD = Method(make=make, trains=("batch",), needs=needs, label="theirs")
"""


@pytest.fixture
def theirs(tmp_path, monkeypatch):
  """A module of someone else, with a method."""
  (tmp_path / "their_methods.py").write_text(THEIRS)
  monkeypatch.syspath_prepend(tmp_path)
  yield "their_methods:METHOD"
  sys.modules.pop("their_methods", None)


def test_a_method_may_be_someone_elses(theirs):
  options = {"weight": 0.5, "power": 2.0}
  objectives.check(theirs, options)
  assert objectives.stated(theirs, options) == {"weight": 0.5}
  assert objectives.method(theirs, options).trains == ("batch",)
  assert objectives.method(theirs, options | {"power": 3.0}).trains == ("batch",) * 2
  params, batch = draw_params(1), part(0)
  loss, _ = objectives.make(theirs, apply, **options)(params, {}, batch, KEY)
  logits, _ = numpy_apply(params, batch["inputs"])
  mask = np.asarray(batch["mask"])
  expected = 0.5 * (logits**2 * mask[..., None]).sum() / mask.sum()
  np.testing.assert_allclose(loss.mean(), expected, rtol=1e-6)
  with pytest.raises(ConfigError, match=r"takes the options \['power', 'weight'\]"):
    objectives.check(theirs, {"power": 1.0})


@pytest.mark.parametrize(
  "name", ["their_methods:make", "their_methods:NONE", "no_such_module:METHOD"]
)
def test_what_is_no_method_is_told_in_one_line(theirs, name):
  with pytest.raises(ConfigError) as error:
    objectives.method(name, {})
  assert name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("cross_entropy", {"retain_weight": 1.0}),
    ("grad_diff", {}),
    ("max_ent", {"forget_weight": 1.0}),
    ("max_ent", {"retain_weight": 1.0, "beta": 1.0}),
    ("max_ent_rep_noise", {"retain_weight": 1.0, "alpha": 1.0}),
    ("rmu", {"layers": (0,), "coefficient": 1.0}),
  ],
)
def test_options_must_be_those_of_the_objective(name, options):
  with pytest.raises(ConfigError, match=rf"objective '{name}' takes .*got \["):
    objectives.check(name, options)
  with pytest.raises(ConfigError, match=f"objective '{name}' takes"):
    objectives.make(name, apply, **options)


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("max_ent", {"retain_loss": "mse"}, "one of cross_entropy, kl, got 'mse'"),
    ("grad_diff", {"retain_loss": None}, "one of cross_entropy, kl, got None"),
    ("forward_kl", {"kl_weight": 0.0}, "not both 0, got 0.0 and 0.0"),
    ("forward_kl", {"kl_weight": -1.0}, "at least 0"),
    ("forward_kl", {"activation_weight": -1.0}, "at least 0"),
    ("forward_kl", {"base_share": 1.1}, r"in \[0, 1\].*got 1.1"),
    (
      "forward_kl",
      {"kl_weight": 0.0, "activation_weight": 1.0, "base_share": 0.5},
      "be 0 where kl_weight is",
    ),
    ("forward_kl", {"base_choice": "both"}, "one of mixed, switch, got 'both'"),
  ],
)
def test_options_that_cannot_work_are_errors(name, options, message):
  with pytest.raises(ConfigError, match=message):
    make(name, **options)
