"""Tests of expand, ablate, contract on a network of one hidden layer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from undo_jax.routing import era
from undo_jax.utils import trees

OLD, NEW, D = 5, 3, 4


def draw(*shape):
  rng = np.random.default_rng(shape)
  return rng.standard_normal(shape, np.float32)


PARAMS = {
  "in": {"kernel": draw(D, OLD), "bias": draw(OLD)},
  "out": {"kernel": draw(OLD, 2), "bias": draw(2)},
}
RULES = [("in/kernel", 1, NEW), ("in/bias", 0, NEW), ("out/kernel", 0, NEW)]
NODES = {"hidden": era.Growth(-1, OLD, NEW), "heads": era.Growth(-2, OLD, NEW)}
KEY = jax.random.key(0)
X, Y = draw(7, D), draw(7, 2)


@jax.jit
def apply(params, x):
  hidden = jnp.tanh(x @ params["in"]["kernel"] + params["in"]["bias"])
  return hidden @ params["out"]["kernel"] + params["out"]["bias"]


@jax.jit
def loss(params):
  return jnp.mean((apply(params, X) - Y) ** 2)


gradient = jax.jit(jax.grad(loss))


@functools.cache
def expanded():
  return expand(PARAMS, RULES, nodes=NODES)


def expand(params, rules, key=KEY, **options):
  """`era.expand` compiled as a whole."""
  expansions = []

  def only_params(params, key):
    grown, expansion = era.expand(params, rules, key, **options)
    expansions.append(expansion)
    return grown

  return jax.device_get(jax.jit(only_params)(params, key)), expansions[0]


def grown():
  params, expansion = expanded()
  # No entry is zero, so that what is zeroed later shows.
  return params | {"in": params["in"] | {"bias": params["in"]["bias"] + 2}}, expansion


@functools.cache
def compiled(name):
  """A function of `era` under the expansion of `grown`."""
  return jax.jit(lambda params: getattr(era, name)(params, expanded()[1]))


def ablate(params):
  return jax.device_get(compiled("ablate")(params))


def contract(params):
  return jax.device_get(compiled("contract")(params))


def leaves(tree):
  return dict(zip(trees.paths(tree), jax.tree.leaves(tree), strict=True))


def test_new_entries_come_last_and_the_old_ones_stay_bit_for_bit():
  params, expansion = expanded()
  assert params["in"]["kernel"].shape == (D, OLD + NEW)
  assert params["in"]["bias"].shape == (OLD + NEW,)
  assert params["out"]["kernel"].shape == (OLD + NEW, 2)
  np.testing.assert_array_equal(params["in"]["kernel"][:, :OLD], PARAMS["in"]["kernel"])
  np.testing.assert_array_equal(params["out"]["kernel"][:OLD], PARAMS["out"]["kernel"])
  assert expansion.params["out/kernel"] == (0, OLD, NEW)
  contracted = contract(params)

  jax.tree.map(np.testing.assert_array_equal, contracted, PARAMS)


def test_new_entries_are_drawn_by_path_or_zero():
  big = [("in/kernel", 1, 400), ("in/bias", 0, 400), ("out/kernel", 0, 400)]
  init = jax.nn.initializers.normal(0.3)
  params, _ = expand(PARAMS, big, init=init, zero=(".*/bias",))
  assert not np.any(params["in"]["bias"][OLD:])
  for new in (params["in"]["kernel"][:, OLD:], params["out"]["kernel"][OLD:]):
    assert abs(np.std(new) / 0.3 - 1) < 5 / np.sqrt(2 * new.size)
    assert abs(np.mean(new)) < 5 * 0.3 / np.sqrt(new.size)
  # Arrays of one shape draw different numbers.
  twins, _ = expand({"a": np.zeros(3), "b": np.zeros(3)}, [(".", 0, 50)])
  assert not np.any(twins["a"][3:] == twins["b"][3:])
  # What is drawn for one path does not depend on the other rules.
  alone, _ = expand(PARAMS, big[2:], init=init)
  np.testing.assert_array_equal(alone["out"]["kernel"], params["out"]["kernel"])
  other, _ = expand(PARAMS, big, jax.random.key(1), init=init)
  new, old = other["in"]["kernel"][:, OLD:], params["in"]["kernel"][:, OLD:]
  assert np.mean(np.asarray(new == old)) < 0.01


@pytest.mark.parametrize("zero", ["in/.*", "out/kernel"])
def test_an_expansion_that_leads_nowhere_changes_no_output(zero):
  """T28."""
  params, _ = expand(PARAMS, RULES, zero=(zero,))
  np.testing.assert_allclose(apply(params, X), apply(PARAMS, X), rtol=0, atol=1e-6)


def test_ablated_and_contracted_models_compute_the_same():
  """T28: zeroing is slicing, and both give the model before."""
  params, expansion = grown()
  difference = np.asarray(apply(params, X)) - apply(PARAMS, X)
  assert np.abs(difference).max() > 1e-3
  ablated, contracted = ablate(params), contract(params)
  np.testing.assert_allclose(apply(ablated, X), apply(contracted, X), atol=1e-6)
  for path, leaf in leaves(ablated).items():
    index = [slice(None)] * leaf.ndim
    if path in expansion.params:
      axis, old, _ = expansion.params[path]
      index[axis] = slice(old, None)
      assert not np.any(leaf[tuple(index)])
      index[axis] = slice(old)
    np.testing.assert_array_equal(
      leaf[tuple(index)], leaves(params)[path][tuple(index)]
    )


def test_what_is_ablated_on_both_sides_has_no_gradient():
  """T29, and its limit: zeroing one side alone lets the units grow again."""
  params, expansion = grown()
  ablated = ablate(params)
  grads = jax.device_get(gradient(ablated))
  new = jax.tree.map(
    lambda g, n: np.where(n, g, 0), grads, era.new_entries(grads, expansion)
  )
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(new))
  assert np.all(grads["in"]["kernel"][:, :OLD]) and np.all(grads["out"]["kernel"][:OLD])
  one_side = params | {"out": ablated["out"]}
  assert np.all(np.asarray(gradient(one_side)["out"]["kernel"])[OLD:])


@functools.partial(jax.jit, static_argnums=1)
def train(params, transform, steps=20):
  def step(carry, _):
    params, state = carry
    updates, state = transform.update(jax.grad(loss)(params), state, params)
    return (optax.apply_updates(params, updates), state), None

  return jax.lax.scan(step, (params, transform.init(params)), None, length=steps)[0][0]


def test_training_brings_nothing_back():
  params, _ = grown()
  trained = train(ablate(params), optax.adamw(1e-2, weight_decay=0.1))
  assert compiled("is_ablated")(trained)
  assert loss(trained) < loss(ablate(params))
  # The smaller model trains alike.
  smaller = train(contract(params), optax.adamw(1e-2, weight_decay=0.1))
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5),
    contract(trained),
    smaller,
  )


def test_an_optimizer_brings_back_what_is_ablated_on_one_side():
  params, _ = grown()
  one_side = params | {"out": ablate(params)["out"]}
  assert not compiled("is_ablated")(train(one_side, optax.adam(1e-2)))


def test_is_ablated_sees_a_single_entry():
  params, expansion = grown()
  ablated = ablate(params)
  assert bool(compiled("is_ablated")(ablated))
  assert not bool(compiled("is_ablated")(params))
  for path in expansion.params:
    part, name = path.split("/")
    changed = ablated[part][name].copy()
    changed[(-1,) * changed.ndim] = 1e-30
    one = ablated | {part: ablated[part] | {name: changed}}
    assert not bool(compiled("is_ablated")(one)), path


def test_the_loss_of_the_ablated_view_trains_the_old_entries_alone():
  """The coherence term: the gradient of the contracted model, zero elsewhere."""
  params, expansion = grown()
  got = jax.jit(jax.grad(lambda p: loss(era.ablated_view(p, expansion))))(params)
  contracted = gradient(contract(params))
  assert compiled("is_ablated")(got)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
    contract(got),
    contracted,
  )


def test_reserved_entries_are_the_last_ones():
  params, appended = grown()
  shapes = jax.eval_shape(lambda: params)
  assert era.reserve(shapes, RULES, nodes=NODES) == appended


def test_tables_hold_the_masks_of_nodes():
  params, expansion = grown()
  got = era.masks_for(
    expansion, params, new_target=1.0, old_target=-0.75, new_off=0.5, old_off=2.0
  ).tables
  forget, retain = [-0.75] * OLD + [1.0] * NEW, [2.0] * OLD + [0.5] * NEW
  expected = np.float32([forget, retain, [1.0] * (OLD + NEW)])
  np.testing.assert_array_equal(got["hidden"], expected)
  np.testing.assert_array_equal(got["heads"], expected[:, :, None])


def test_masks_on_parameters_hold_the_same_and_count_the_rest_as_old():
  params, expansion = grown()
  got = era.masks_for(expansion, params, old_target=-0.75, new_off=0.5).params
  old, new = {"forget": (-0.75, 1.0), "retain": (1.0, 0.5)}, NEW
  for source, (of_old, of_new) in old.items():
    for path, leaf in leaves(params).items():
      full = np.full(leaf.shape, of_old, np.float32)
      if path in expansion.params:
        np.moveaxis(full, expansion.params[path].axis, 0)[-new:] = of_new
      mask = np.broadcast_to(leaves(got[source])[path], leaf.shape)
      np.testing.assert_array_equal(mask, full)


# ---- Bad input.


def zeros(units):
  """Parameter of so many hidden units."""
  return {
    "in": {"kernel": np.zeros((D, units)), "bias": np.zeros(units)},
    "out": {"kernel": np.zeros((units, 2)), "bias": np.zeros(2)},
  }


TWICE = zeros(OLD + 2 * NEW)
EXPANSION = era.reserve(zeros(OLD + NEW), RULES)


@pytest.mark.parametrize(
  ("rules", "message"),
  [
    ([("kernel", 1, NEW)], "'kernel' matches no parameter; the paths are: in/bias"),
    ([("in/kernel", 2, NEW)], r"in/kernel has shape \(4, 5\): no axis 2"),
    ([("in/kernel", -1, NEW)], "no axis -1"),
    ([("in/kernel", 1, 0)], "in/kernel must get at least 1 new entry, got 0"),
    (
      [("in/kernel", 1, NEW), (".*/kernel", 0, NEW)],
      r"in/kernel would be expanded twice, by the rules \['in/kernel', '\.\*/kernel'\]",
    ),
    ([], "at least one rule"),
  ],
)
def test_rules_that_make_no_expansion_are_errors(rules, message):
  for make in (
    lambda: era.expand(PARAMS, rules, KEY),
    lambda: era.reserve(PARAMS, rules),
  ):
    with pytest.raises(ValueError, match=message):
      make()


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (
      lambda: era.expand(PARAMS, RULES, KEY, zero=("out/bias",)),
      "'out/bias' matches no parameter; the paths are: in/bias, in/kernel, out/kernel",
    ),
    (
      lambda: era.reserve(PARAMS, [("in/bias", 0, OLD)]),
      "in/bias has 5 entries on .* 5",
    ),
    (
      lambda: era.ablate(PARAMS, EXPANSION),
      "in/bias must have 5 \\+ 3 .*never expanded",
    ),
    (
      lambda: era.contract(PARAMS, EXPANSION),
      "never expanded, or is contracted already",
    ),
    (
      lambda: era.ablate(TWICE, EXPANSION),
      r"in/bias .*\(11,\): was it expanded twice",
    ),
    (lambda: era.is_ablated(TWICE, EXPANSION), "expanded twice"),
    (lambda: era.masks_for(EXPANSION, PARAMS), "never expanded"),
    (
      lambda: era.ablate({"out": TWICE["out"]}, EXPANSION),
      "speaks of in/bias, which the parameters lack; they are out/bias, out/kernel",
    ),
  ],
)
def test_bad_input_is_told(call, message):
  with pytest.raises(ValueError, match=message):
    call()
