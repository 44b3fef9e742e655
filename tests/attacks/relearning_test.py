"""Tests of the relearning program against loops in Python."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from undo_jax import objectives, testing
from undo_jax.attacks import relearning
from undo_jax.models.gemma2 import Output
from undo_jax.training import population
from undo_jax.training.optimizers import OptimizerConfig, make_population_optimizer
from undo_jax.training.step import make_step

V, D, ROWS, LENGTH = 7, 5, 4, 6
EVALUATIONS, UPDATES = 3, 2
RATES = np.array([0.0, 1e-3, 3e-2, 0.3], np.float32)
KEY = jax.random.key(1)


def apply(params, tokens):
  return Output(jnp.tanh(params["embedding"][tokens]) @ params["out"], {})


@jax.jit
def evaluate(params, problems):
  logits = apply(params, problems["inputs"]).logits
  hits = (jnp.argmax(logits, -1) == problems["targets"]) * problems["mask"]
  chosen = jnp.take_along_axis(logits, problems["targets"][..., None], -1)
  return {"accuracy": hits.sum() / problems["mask"].sum(), "logit": chosen.mean()}


def draw_params(seed=0):
  rng = np.random.default_rng(seed)
  return {
    "embedding": rng.standard_normal((V, D), np.float32),
    "out": rng.standard_normal((D, V), np.float32),
  }


def batch(seed: int):
  return testing.batch(jax.random.key(seed), rows=ROWS, length=LENGTH, vocab=V)


BATCHES = [[batch(10 * e + s) for s in range(UPDATES)] for e in range(EVALUATIONS)]
PROBLEMS = batch(99)


def attack(*models):
  """Return of each model the population and its scores; several as one program."""
  optimizer = make_population_optimizer(
    OptimizerConfig(learning_rate=1.0, num_steps=1, clip_norm=0.5)
  )
  step = make_step(objectives.make("cross_entropy", apply), optimizer)
  program = jax.jit(relearning.over_models(relearning.make_program(step, evaluate)))
  stacked = [jax.tree.map(lambda *x: np.stack(x), *row) for row in BATCHES]
  stacked = jax.tree.map(lambda *x: np.stack(x), *stacked)

  @jax.jit
  def create(params, rates):
    return population.create(params, optimizer, rates)

  states = tuple(create(params, RATES) for params in models)
  frozen = ((),) * len(models)
  return list(zip(*program(states, frozen, PROBLEMS, stacked, KEY), strict=True))


@pytest.fixture(scope="module")
def attacked():
  (outcome,) = attack(draw_params())
  return outcome


def loss(params, batch):
  log_p = jax.nn.log_softmax(apply(params, batch["inputs"]).logits)
  nll = -jnp.take_along_axis(log_p, batch["targets"][..., None], -1)[..., 0]
  return jnp.sum(nll * batch["mask"]) / jnp.sum(batch["mask"])


def loop(start):
  """Return parameters and scores of a loop over rates, evaluations and updates."""

  def make_optimizer(rate):
    return optax.chain(
      optax.clip_by_global_norm(0.5), optax.adamw(rate, weight_decay=0.0)
    )

  @jax.jit
  def update(rate, params, opt_state, batch):
    grads = jax.grad(loss)(params, batch)
    updates, opt_state = make_optimizer(rate).update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  finals, scores = [], []
  for rate in RATES:
    params = start
    opt_state = jax.jit(make_optimizer(rate).init)(params)
    scores.append([])
    for row in BATCHES:
      for batch in row:
        params, opt_state = update(rate, params, opt_state, batch)
      scores[-1].append(evaluate(params, PROBLEMS))
    finals.append(params)
  return finals, scores


@pytest.fixture(scope="module")
def looped():
  return loop(draw_params())


def test_the_program_is_a_loop_over_rates_evaluations_and_updates(attacked, looped):
  check(attacked, looped)


def test_several_models_are_each_a_loop(looped):
  first, second = attack(draw_params(), draw_params(seed=1))
  check(first, looped)
  check(second, loop(draw_params(seed=1)))


def check(attacked, looped):
  state, scores = attacked
  finals, expected = looped
  assert set(scores) == {"accuracy", "logit"}
  for name, got in scores.items():
    assert got.shape == (EVALUATIONS, len(RATES))
    for e in range(EVALUATIONS):
      for r in range(len(RATES)):
        np.testing.assert_allclose(got[e, r], expected[r][e][name], rtol=2e-5)
  for r, params in enumerate(finals):
    for name, leaf in params.items():
      np.testing.assert_allclose(
        state.params[name][r], leaf, rtol=1e-6, atol=1e-4 * RATES[r] + 1e-7
      )
  np.testing.assert_array_equal(state.step, [EVALUATIONS * UPDATES] * len(RATES))


def test_the_rate_zero_leaves_parameters_and_scores(attacked):
  state, scores = attacked
  for name, leaf in draw_params().items():
    np.testing.assert_array_equal(state.params[name][0], leaf)
  start = evaluate(draw_params(), PROBLEMS)
  for name, got in scores.items():
    np.testing.assert_allclose(got[:, 0], np.full(EVALUATIONS, start[name]), rtol=1e-6)


def test_scores_differ_between_rates_and_evaluations(attacked):
  """Guard the comparison above: equal scores everywhere would prove little."""
  logit = np.asarray(attacked[1]["logit"])
  assert len(set(logit[-1].tolist())) == len(RATES)
  assert len(set(logit[:, -1].tolist())) == EVALUATIONS
