"""MUDMAN: its updates with the adversary they carry, and what the mask leaves."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.objectives.formulas import probabilities
from tests.objectives.toy import (
  CASES,
  FROZEN,
  KEY,
  apply,
  assert_trees_close,
  batch_of,
  draw_params,
  numpy_gradient,
  surprise,
)
from undo_jax import objectives, testing
from undo_jax.objectives import mudman
from undo_jax.routing import disruption
from undo_jax.training import state as state_lib
from undo_jax.training.gradients import by_source
from undo_jax.training.step import make_step
from undo_jax.utils.records import FieldError

BATCH = batch_of("mudman")
OPTIONS = {"retain_weight": 0.3, "forget_weight": 0.8, "momentum": 0.6}
OPTIONS |= {"adversary_rate": 0.4, "every": 2}


def certainty(logits, targets):
  """Return the gradient of a token's negative entropy with respect to its logits."""
  del targets
  p = probabilities(logits)
  log_p = np.log(p)
  return p * (log_p - (p * log_p).sum(-1, keepdims=True))


def numpy_updates(params, rate, number):
  """Yield the weights after each update, in float64."""
  params = {k: np.float64(v) for k, v in params.items()}
  kept, adversary = dict.fromkeys(params, 0.0), params
  for done in range(number):
    adversary = params if done % OPTIONS["every"] == 0 else adversary
    retain = numpy_gradient(params, BATCH["retain"], surprise)
    forget = numpy_gradient(adversary, BATCH["forget"], certainty)
    relearning = numpy_gradient(adversary, BATCH["forget"], surprise)
    kept = {k: 0.6 * kept[k] + 0.4 * g for k, g in retain.items()}
    size = np.sqrt(sum((g**2).sum() for g in forget.values()))
    agrees = {k: np.sign(kept[k]) == np.sign(forget[k]) for k in kept}
    assert 0.2 < np.mean([np.mean(a) for a in agrees.values()]) < 0.8
    params = {
      k: v - rate * (0.3 * kept[k] + 0.8 * agrees[k] * forget[k] / size)
      for k, v in params.items()
    }
    adversary = {k: a - 0.4 * relearning[k] for k, a in adversary.items()}
    yield params


def test_updates_are_those_of_the_algorithm_with_an_adversary_that_begins_anew():
  method = objectives.method("mudman", OPTIONS)
  assert method.joins is not None
  join = method.joins((), **OPTIONS)
  optimizer = optax.chain(join.transform, optax.sgd(0.5))
  step = make_step(
    objectives.make("mudman", apply, **OPTIONS),
    optimizer,
    gradients=by_source(join.sources),
    carried=join.carried,
  )
  state = state_lib.create(draw_params(1), optimizer)
  compiled = jax.jit(step)
  frozen = {"reference": FROZEN["reference"]}
  for expected in numpy_updates(draw_params(1), 0.5, 4):
    state, _ = compiled(state, frozen, BATCH, KEY)
    assert_trees_close(state.params, expected, 1e-5)


def joined(forget, retain, **changes):
  options = {"momentum": 0.0, "retain_weight": 0.0, "forget_weight": 0.7}
  options |= {"adversary_rate": 0.0, "every": 1} | changes
  transform = disruption.mask_disruption(**options)
  params = {"a": jnp.zeros(4), "b": jnp.zeros(3)}
  grads = {"forget": forget, "retain": retain, "adversary": params}
  return transform.update(grads, transform.init(params), params)[0]


def draw(seed):
  rng = np.random.default_rng(seed)
  return {"a": np.float32(rng.standard_normal(4)), "b": np.float32(rng.random(3))}


def test_what_agrees_is_whole_what_disagrees_is_nothing():
  forget, other = draw(0), draw(1)
  size = optax.tree.norm(forget)
  whole = jax.tree.map(lambda g: 0.7 * g / size, forget)
  agreeing = jax.tree.map(lambda g: 5 * g, forget)
  assert_trees_close(joined(forget, agreeing), whole, 1e-6)
  opposite = jax.tree.map(lambda g: -g, forget)
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(joined(forget, opposite)))
  # Then what is kept is all there is; and nothing is longer than forget_weight.
  kept = joined(forget, opposite, retain_weight=2.0)
  assert_trees_close(kept, jax.tree.map(lambda g: 2 * g, opposite), 1e-6)
  assert optax.tree.norm(joined(forget, other)) <= 0.7 * (1 + 1e-6)


def test_what_is_not_trained_has_no_part_in_the_length():
  only = (("a", None, None, 1.0),)
  forget = draw(0) | {"b": np.full(3, 1e3, np.float32)}
  got = joined(forget, forget, trainable=only)
  np.testing.assert_allclose(np.linalg.norm(got["a"]), 0.7, rtol=1e-6)
  assert not np.any(got["b"])


def test_a_running_mean_that_never_moves_is_an_error():
  with pytest.raises(FieldError, match="momentum: expected a number below 1, got 1.0"):
    mudman.check(testing.config(), {"momentum": 1.0}, is_random=False)


def test_options_are_the_same_for_the_loss_and_for_how_gradients_are_joined():
  method = objectives.method(*CASES["mudman"])
  assert method.joins is not None
  defaults = mudman.make.__kwdefaults__
  shared = mudman.joins.__kwdefaults__
  assert shared == {k: v for k, v in defaults.items() if k in shared}
  assert set(defaults) - set(shared) == {"retain_loss"}
