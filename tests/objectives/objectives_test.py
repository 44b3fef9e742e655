"""The registry of objectives, and what all of them share: their formulas, masks, ..."""

import sys

import jax
import numpy as np
import pytest

from tests.objectives.toy import (
  CASES,
  FROZEN,
  KEY,
  L,
  V,
  apply,
  assert_trees_close,
  batch_of,
  draw_params,
  make,
  method_of,
  np_objective,
  numpy_apply,
  part,
  run,
)
from undo_jax import objectives
from undo_jax.utils.types import ConfigError

# Their terms are statistics of a microbatch.
STATISTICS = {"max_ent_rep_noise", "tamper_resistance", "invariant", "invariant, rmu"}
# Their terms are in other cases: distillation on outputs, MaxEnt with cross-entropy.
FEWER_TERMS = {"forward_kl", "forward_kl, reversed, softened", "max_ent"}
FEWER_TERMS |= {"forward_kl, prompted"}
# Passes of the trained weights themselves, outside of a loop over others.
LOOPED = {
  "latent_adversarial": ("forget", "retain"),
  "tamper_resistance": ("retain",),
  "invariant": ("forget", "retain"),
  "mudman": ("retain",),
  "rep_select": (),
}
# Has a term of the weights alone.
OF_WEIGHTS = {"distance"}
# Take a model with reserved units: tests beside routed_toy.py.
ROUTED = {"routed", "routed_forward_kl", "sgtm", "sgtm_forward_kl"}


@pytest.fixture(params=sorted(CASES))
def name(request):
  return request.param


def test_every_registered_objective_is_tested():
  tested = {objective for objective, _ in CASES.values()}
  assert tested | ROUTED == set(objectives.REGISTRY)


def test_the_objective_is_its_formula(name):
  params, batch = draw_params(1), batch_of(name)
  loss, _, _ = run(name, params, batch)
  terms = np_objective(name, params, FROZEN, batch)
  # Relative to the terms, since those of GradDiff nearly cancel.
  assert abs(float(loss) - sum(terms)) <= 1e-6 * np.abs(terms).sum()


def test_content_at_masked_positions_changes_nothing(name):
  def scramble(part):
    masked = np.asarray(part["mask"]) == 0
    assert masked.any()
    other = np.random.default_rng(5).integers(0, V, masked.shape, np.int32)
    return part | {
      side: np.where(masked, other, part[side]) for side in ("inputs", "targets")
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
  def scaled(params):
    return params | {"out": np.float32(scale) * np.asarray(params["out"])}

  frozen = FROZEN | {
    role: scaled(FROZEN[role]) for role in ("teacher", "base", "reference")
  }
  for leaf in jax.tree.leaves(
    run(name, scaled(draw_params(1)), batch_of(name), frozen=frozen)
  ):
    assert np.all(np.isfinite(leaf))


def test_an_empty_mask_gives_zero(name):
  batch = jax.tree_util.tree_map_with_path(
    lambda path, x: np.zeros_like(x) if "mask" in str(path[-1]) else x, batch_of(name)
  )
  start = draw_params(1)
  loss, grads, _ = run(name, start, batch, frozen=FROZEN | {"reference": start})
  if name in OF_WEIGHTS:
    loss += 0.7e-4  # The root of what is added to a mean square of 0.
    assert abs(loss) < 1e-9
  else:
    assert loss == 0
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads))


def test_microbatches_change_no_result(name):
  if name in STATISTICS | FEWER_TERMS:
    return
  batch, num_microbatches = batch_of(name), 4
  for each in [batch] if "mask" in batch else batch.values():
    counts = np.asarray(each["mask"]).reshape(-1, num_microbatches, L).sum((0, 2))
    assert len(set(counts.tolist())) > 1  # A mean of means would be wrong here.
  params = draw_params(1)
  loss, grads, metrics = run(name, params, batch)
  got, got_grads, got_metrics = run(
    name, params, batch, num_microbatches=num_microbatches
  )
  terms = np_objective(name, params, FROZEN, batch)
  assert abs(got - loss) <= 1e-6 * np.abs(terms).sum()
  assert_trees_close(got_grads, grads, 2e-6)
  means = [{k: m.mean() for k, m in each.items()} for each in (got_metrics, metrics)]
  assert_trees_close(*means, 2e-6)


def test_the_gradient_is_that_of_finite_differences(name):
  params, batch = draw_params(1), batch_of(name)
  grads = run(name, params, batch)[1]
  rng = np.random.default_rng(3)
  direction = {k: rng.standard_normal(v.shape) for k, v in params.items()}

  def at(epsilon):
    moved = {
      k: np.asarray(v, np.float64) + epsilon * direction[k] for k, v in params.items()
    }
    return sum(np_objective(name, moved, FROZEN, batch, fixed=params))

  expected = (at(1e-5) - at(-1e-5)) / 2e-5
  products = [np.asarray(grads[k], np.float64) * direction[k] for k in params]
  got = sum(product.sum() for product in products)
  scale = sum(np.abs(product).sum() for product in products)
  assert abs(got - expected) <= 1e-6 * scale


def test_the_frozen_tree_gets_no_gradient(name):
  roles = [role for role in method_of(name).frozen if role != "direction"]
  frozen = {role: FROZEN[role] for role in roles or ["teacher"]}
  params, batch = draw_params(1), batch_of(name)

  def loss(frozen):
    return make(name)(params, FROZEN | frozen, batch, KEY)[0].mean()

  grads = jax.jit(jax.grad(loss))(frozen)
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads))


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
    # Rows that are made of others.
    names = names or ["forget" if "forget" in parts else "batch"]
    if "hidden_BxLxD" in arguments:
      unembedded.extend(names)
    else:
      (trained if used is params else read).extend(names)
    return apply(used, tokens, **arguments)

  method = method_of(name)
  objective = objectives.make(CASES[name][0], counting, **CASES[name][1])
  jax.eval_shape(lambda: objective(params, Recorder(FROZEN), batch, KEY))
  if CASES[name][0] in LOOPED:
    # A loop is traced once, on weights that are not those that are trained.
    once = LOOPED[CASES[name][0]]
    assert sorted(trained) == sorted(once)
    assert {*read, *once} == {*method.reads, *method.trains}
    return
  assert sorted(trained) == sorted(method.trains)
  assert sorted(read) == sorted(method.reads)
  assert unembedded == list(method.unembeds)
  progress = {"progress"} if method.reads_progress else set()
  assert keys == set(method.frozen) | progress


# ---- The registry.


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
  objective = jax.jit(objectives.make(theirs, apply, **options))
  loss, _ = objective(params, {}, batch, KEY)
  logits, _ = numpy_apply(params, batch["inputs"])
  mask = np.asarray(batch["mask"])
  expected = 0.5 * (logits**2 * mask[..., None]).sum() / mask.sum()
  np.testing.assert_allclose(loss.sum / loss.count, expected, rtol=1e-6)
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
    ("max_ent", {"retain_loss": "mse"}, "expected 'cross_entropy' or 'kl', got 'mse'"),
    ("grad_diff", {"retain_loss": None}, "expected 'cross_entropy' or 'kl', got None"),
    ("forward_kl", {"kl_weight": 0.0}, "kl_weight or activation_weight above 0"),
    ("forward_kl", {"kl_weight": -1.0}, "at least 0"),
    ("forward_kl", {"activation_weight": -1.0}, "at least 0"),
    ("forward_kl", {"base_share": 1.1}, "base_share: .* at most 1, got 1.1"),
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
