"""GCG against brute force over one token, and losses that never rise."""

import functools
import itertools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from undo_jax import attacks, testing
from undo_jax.attacks import gcg
from undo_jax.attacks.gcg import Options
from undo_jax.models.decoder import Decoder
from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.utils.types import ConfigError

MODEL = testing.config(num_layers=1, vocab_size=16)
PARAMS = testing.weights(MODEL)
PART = jax.device_get(testing.batch(jax.random.key(2), rows=4, length=6))
START = np.array([3, 5], np.int32)


@jax.jit
def loss(params, prompt_T):
  """Return the loss of rows that have the prompt among their tokens."""
  T, rows = prompt_T.shape[0], jnp.asarray(PART["inputs"])
  before = jnp.broadcast_to(prompt_T, (len(rows), T))
  logits = Decoder(MODEL).apply(params, jnp.concatenate([before, rows], axis=1)).logits
  return cross_entropy(logits[:, T:], PART["targets"], PART["mask"]).mean()


def search(start, *, steps, candidates, top_k, seed=0):
  options = Options(steps=steps, candidates=candidates, top_k=top_k)
  run = jax.jit(functools.partial(gcg.search, MODEL, options=options))
  return jax.device_get(run(PARAMS, PART, start, jax.random.key(seed)))


def test_with_all_swaps_a_step_is_the_best_of_all_by_brute_force():
  prompt, losses = search(START, steps=1, candidates=32, top_k=16)
  every = [
    np.where(np.arange(2) == place, token, START).astype(np.int32)
    for place, token in itertools.product(range(2), range(16))
  ]
  every_loss = [float(loss(PARAMS, each)) for each in every]
  np.testing.assert_array_equal(prompt, every[int(np.argmin(every_loss))])
  np.testing.assert_allclose(losses, [loss(PARAMS, START), min(every_loss)], rtol=1e-5)
  assert min(every_loss) < losses[0]


def test_the_best_loss_never_rises_and_is_that_of_the_prompt():
  prompt, losses = search(START, steps=12, candidates=3, top_k=5)
  assert losses.shape == (13,) and np.all(np.diff(losses) <= 0)
  assert losses[-1] < losses[0] and len(set(losses.tolist())) > 2
  np.testing.assert_allclose(loss(PARAMS, prompt), losses[-1], rtol=1e-5)


def test_a_swap_is_of_the_tokens_that_the_gradient_ranks_first():
  """With k = 1 and every position tried, by the gradient of one-hot tokens."""

  @jax.jit
  def gradient(start, hot_TxV):
    def of_one_hot(hot_TxV):
      moved = (hot_TxV - jax.nn.one_hot(start, 16)) @ PARAMS["embedding"]
      added = {0: jnp.pad(moved * MODEL.width**0.5, ((0, 6), (0, 0)))}
      rows = jnp.concatenate([jnp.tile(start, (4, 1)), PART["inputs"]], axis=1)
      logits = Decoder(MODEL).apply(PARAMS, rows, added=added).logits[:, 2:]
      return cross_entropy(logits, PART["targets"], PART["mask"]).mean()

    return jax.grad(of_one_hot)(hot_TxV)

  def best_swap(start):
    best = np.argmin(gradient(start, np.eye(16, dtype=np.float32)[start]), axis=1)
    swapped = [np.array([best[0], start[1]]), np.array([start[0], best[1]])]
    return min(float(loss(PARAMS, np.int32(each))) for each in swapped)

  draw = np.random.default_rng(0).integers
  starts = [draw(16, size=2, dtype=np.int32) for _ in range(20)]
  start = min(starts, key=lambda start: best_swap(start) - float(loss(PARAMS, start)))
  _, losses = search(start, steps=1, candidates=2, top_k=1)
  assert losses[1] < losses[0] - 1e-2
  np.testing.assert_allclose(losses[1], best_swap(start), rtol=1e-5)


def test_the_prompt_stands_before_every_row_and_begins_as_the_first():
  beside = attacks.EDITS.get("gcg").beside
  assert beside is not None and beside.tokens(2.0) == 2
  options = Options(steps=12, candidates=3, top_k=5)
  apply = jax.jit(beside.using(MODEL, 2.0, options, Decoder(MODEL).apply))
  logits = apply({"base": PARAMS, "prompt": START}, PART["inputs"]).logits
  actual = cross_entropy(logits, PART["targets"], PART["mask"]).mean()
  np.testing.assert_allclose(actual, loss(PARAMS, START), rtol=1e-5)
  with mock.patch.object(gcg, "search", lambda *given: given[3:4]):
    begun = beside.find(MODEL, PARAMS, {"forget": PART}, 3.0, None, options)["prompt"]
  np.testing.assert_array_equal(begun, PART["inputs"][0, :3])
  # 1 loss, then 3 passes of a gradient and as many candidates as there are swaps.
  assert beside.passes(2.0, Options(steps=10, candidates=9, top_k=2), 4) == 4 * 71


@pytest.mark.parametrize(
  ("options", "tokens", "message"),
  [
    ({}, 0.0, "strengths: expected tokens, whole numbers of at least 1, got 0.0"),
    ({}, 1.5, "strengths: expected tokens"),
    ({"top_k": 17}, 4.0, "options.top_k: expected at most 16, the tokens of the vocab"),
    ({"steps": 0}, 4.0, "options.steps: expected an integer of at least 1, got 0"),
  ],
)
def test_what_cannot_be_searched_is_told_in_one_line(options, tokens, message):
  given = {"steps": 1, "candidates": 2, "top_k": 3} | options
  with pytest.raises(ConfigError, match=message) as error:
    attacks.check_edit(MODEL, "gcg", given, [tokens])
  assert "\n" not in str(error.value)
