"""Scores and continuations of ragged rows against single, unpadded forward passes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import huggingface_references as references
from undo_jax import testing
from undo_jax.evaluation.scoring import Scorer
from undo_jax.models import huggingface
from undo_jax.models.decoder import Decoder, Output

V = references.SIZES["vocab_size"]


@functools.cache
def load(name="gemma2_window"):
  config, params = huggingface.load(references.ROOT / name)
  scaled = references.EMBEDDING_SCALE * params["embedding"]
  return Decoder(config), params | {"embedding": scaled}


@pytest.fixture
def traces(monkeypatch):
  """The shapes of tokens that the decoder is traced with, a trace each."""
  shapes = []
  apply = Decoder.apply

  def counting(self, params, tokens_BxL, **kwargs):
    shapes.append(tuple(tokens_BxL.shape))
    return apply(self, params, tokens_BxL, **kwargs)

  monkeypatch.setattr(Decoder, "apply", counting)
  return shapes


_apply = functools.cache(lambda model: jax.jit(model.apply))


def logits_of(model, params, tokens):
  """All logits of one row alone, [L, V] float64.

  Filled up at its end, which changes nothing before it, so that this is compiled once.
  """
  row = np.asarray([[*tokens, *[0] * (96 - len(tokens))]])
  logits = np.asarray(_apply(model)(params, row).logits, np.float64)
  return logits[0, : len(tokens)]


def expected_score(model, params, context, continuation):
  """Softmax in float64."""
  tokens = [*context, *continuation]
  logits = logits_of(model, params, tokens[:-1])[len(context) - 1 :]
  shifted = logits - logits.max(-1, keepdims=True)
  log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
  nats = log_p[np.arange(len(continuation)), list(continuation)].sum()
  return nats, logits.argmax(-1).tolist() == list(continuation)


def draw(rng, *lengths):
  return tuple(rng.integers(0, V, n).tolist() for n in lengths)


def test_log_likelihoods_are_those_of_single_rows():
  model, params = load()
  rng = np.random.default_rng(0)
  sizes = [(1, 1), (1, 40), (5, 3), (30, 3), (31, 2), (33, 9), (60, 17), (2, 1), (9, 9)]
  pairs = [draw(rng, *size) for size in sizes]
  # Some that greedy decoding would write.
  greedy = logits_of(model, params, pairs[3][0])[-1]
  pairs.append((pairs[3][0], [int(np.argmax(greedy))]))
  scorer = Scorer(model, params, max_length=64 + 16, batch_size=3)
  got = scorer.log_likelihoods(pairs)
  expected = [expected_score(model, params, *pair) for pair in pairs]
  assert expected[-1][1] and not expected[0][1]
  np.testing.assert_allclose([g[0] for g in got], [e[0] for e in expected], atol=1e-4)
  assert [g[1] for g in got] == [e[1] for e in expected]
  assert all(isinstance(g[0], float) and isinstance(g[1], bool) for g in got)


def test_choices_of_one_question_share_a_row(traces):
  model, params = load()
  rng = np.random.default_rng(1)
  (context,) = draw(rng, 20)
  pairs = [(context, [choice]) for choice in range(10)]
  # The same row, cut elsewhere: it shares too.
  pairs.append((context[:15], [*context[15:], 4]))
  scorer = Scorer(model, params, max_length=32, batch_size=1)
  passes = []
  run = scorer._score
  scorer._score = lambda *args: passes.append(args[1].shape) or run(*args)
  got = scorer.log_likelihoods(pairs)
  assert passes == [(1, 32)]
  expected = [expected_score(model, params, *pair)[0] for pair in pairs]
  np.testing.assert_allclose([g[0] for g in got], expected, atol=1e-4)
  # The ten choices of 24 are not all.
  assert np.exp([g[0] for g in got[:10]]).sum() < 1


def test_long_contexts_are_cut_on_the_left():
  model, params = load()
  rng = np.random.default_rng(2)
  context, continuation = draw(rng, 50, 4)
  (got,) = Scorer(model, params, max_length=20).log_likelihoods(
    [(context, continuation)]
  )
  # 20 tokens are read: the last of the continuation is only predicted.
  expected = expected_score(model, params, context[-17:], continuation)
  other = expected_score(model, params, context[-16:], continuation)
  assert abs(other[0] - expected[0]) > 1e-3
  assert abs(got[0] - expected[0]) < 1e-4


class Bigrams:
  """A model that is quickly compiled: a token's logits are a row of a table."""

  def __init__(self):
    self.config, self.traces = testing.config(vocab_size=V), []

  def init_cache(self, batch_size, room):
    del batch_size, room

  def apply(self, table, tokens_BxL, *, positions_BxP, valid_BxL=None, cache=None):
    self.traces.append(tuple(tokens_BxL.shape))
    chosen_BxP = jnp.take_along_axis(tokens_BxL, positions_BxP, axis=1)
    return Output(table[chosen_BxP], {}, cache)


def test_a_handful_of_shapes_is_compiled():
  model, params = Bigrams(), np.eye(V, dtype=np.float32)
  traces = model.traces
  rng = np.random.default_rng(3)
  scorer = Scorer(model, params, max_length=100, batch_size=4)
  pairs = [draw(rng, n, m) for n in range(1, 70, 3) for m in (1, 2, 7, 30)]
  scorer.log_likelihoods(pairs)
  # Lengths 32, 64 and 100, each scored at 16 positions or more of them.
  assert sorted(set(traces)) == [(4, 32), (4, 64), (4, 100)]
  assert len(traces) <= 6
  num_traces = len(traces)
  scorer.log_likelihoods([draw(rng, n, m) for n in range(2, 60, 4) for m in (3, 25)])
  assert len(traces) == num_traces
  traces.clear()
  prompts = [draw(rng, n)[0] for n in range(1, 95, 2)]
  scorer.generate(prompts, num_tokens=5)
  # Prompts of 32, 64 and 95, and the one token of the loop, traced once for each.
  assert sorted(traces) == [(4, 1)] * 3 + [(4, 32), (4, 64), (4, 95)]
  scorer.generate(prompts[::-1], num_tokens=5, is_stop_V=np.arange(V) == 3)
  assert len(traces) == 6


def test_logits_are_bounded(traces):
  model, params = load()
  rng = np.random.default_rng(4)
  pairs = [draw(rng, 20, 40) for _ in range(5)]
  scorer = Scorer(
    model, params, max_length=64, batch_size=8, logits_bytes=2 * 64 * V * 4
  )
  got = scorer.log_likelihoods(pairs)
  assert traces == [(2, 64)]
  expected = [expected_score(model, params, *pair)[0] for pair in pairs]
  np.testing.assert_allclose([g[0] for g in got], expected, atol=1e-4)


def test_continuations_are_those_of_single_prompts():
  model, params = load("llama")
  rng = np.random.default_rng(5)
  prompts = [draw(rng, n)[0] for n in (1, 31, 7, 40, 33, 2, 50)]
  scorer = Scorer(model, params, max_length=64, batch_size=3)
  got = scorer.generate(prompts, num_tokens=6)
  for prompt, continuation in zip(prompts, got, strict=True):
    tokens = list(prompt)
    for _ in range(6):
      tokens.append(int(np.argmax(logits_of(model, params, tokens)[-1])))
    assert continuation == tokens[len(prompt) :]
  stop = got[0][2]
  stopped = scorer.generate(prompts, num_tokens=6, is_stop_V=np.arange(V) == stop)
  for free, continuation in zip(got, stopped, strict=True):
    assert continuation == (free[: free.index(stop) + 1] if stop in free else free)


def test_passes_draw_with_different_keys():
  table = np.zeros((V, V), np.float32)  # All tokens are as likely.
  scorer = Scorer(Bigrams(), table, max_length=64, batch_size=1)
  key = jax.random.key(0)

  def draw_all():
    return scorer.generate([[1, 2]] * 3, num_tokens=40, temperature=1.0, key=key)

  rows = np.asarray(draw_all())
  np.testing.assert_array_equal(draw_all(), rows)
  assert np.mean(rows[1:] == rows[:-1]) < 0.2  # 1/24 by chance.


@pytest.mark.parametrize(
  ("pair", "message"),
  [
    (([], [1]), "at least one token each, got an empty context"),
    (([1], []), "at least one token each, got an empty continuation"),
    (([1], [2] * 9), "at most max_length 8 tokens, got 9; score it in windows"),
    (([1], [16]), r"ids must lie in \[0, 16\), the model's vocabulary, got 16"),
    (([-1], [1]), r"ids must lie in \[0, 16\), the model's vocabulary, got -1"),
  ],
)
def test_pairs_that_make_no_sense_are_refused(pair, message):
  scorer = Scorer(Decoder(testing.config()), {}, max_length=8)
  with pytest.raises(ValueError, match=message):
    scorer.log_likelihoods([([1], [2]), pair])


@pytest.mark.parametrize(
  ("prompt", "message"),
  [
    ([], "from 1 to 6 tokens .*, got 0"),
    ([1] * 7, r"from 1 to 6 tokens \(max_length 8 less num_tokens 2\), got 7; cut"),
    ([16], "the tokenizer is not that of the model"),
  ],
)
def test_prompts_that_make_no_sense_are_refused(prompt, message):
  scorer = Scorer(Decoder(testing.config()), {}, max_length=8)
  with pytest.raises(ValueError, match=message):
    scorer.generate([[1], prompt], num_tokens=2)


def test_a_model_that_is_not_finite_answers_nothing():
  model, params = load()
  broken = params | {"embedding": params["embedding"] * np.float32(np.nan)}
  scorer = Scorer(model, broken, max_length=8)
  with pytest.raises(FloatingPointError, match="after a text of 3 tokens are not fin"):
    scorer.log_likelihoods([([1, 2, 3], [4])])


def test_sizes_are_positive():
  with pytest.raises(ValueError, match="at least 1, got 0 and 8"):
    Scorer(Decoder(testing.config()), {}, max_length=0)
