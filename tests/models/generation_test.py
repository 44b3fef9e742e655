"""Generation against full forward passes and against transformers' own.

references/*/generated.npz holds what transformers' generate wrote with the same
weights (huggingface_references.py); what needs transformers itself runs where it is
installed.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import huggingface_references as references
from undo_jax import testing
from undo_jax.models import huggingface
from undo_jax.models.decoder import Decoder
from undo_jax.models.generation import make_generate

NAMES = sorted(references.CASES)
ROOT = references.ROOT
T = references.NUM_GENERATED


@functools.cache
def load(name):
  config, params = huggingface.load(ROOT / name)
  scaled = references.EMBEDDING_SCALE * params["embedding"]
  return Decoder(config), params | {"embedding": scaled}


def greedy_by_full_passes(model, params, prompt, num_tokens):
  """Appends the argmax of the full, unpadded forward pass, one row alone.

  Returns the tokens, and the smallest lead of a largest logit over the second.
  """
  apply = jax.jit(model.apply)
  length = len(prompt) + num_tokens  # One shape; what comes later changes nothing.
  tokens, lead = list(prompt), np.inf
  for _ in range(num_tokens):
    row = jnp.asarray([tokens + [0] * (length - len(tokens))])
    logits = np.asarray(apply(params, row).logits[0, len(tokens) - 1])
    second, first = np.sort(logits)[-2:]
    lead = min(lead, first - second)
    tokens.append(int(np.argmax(logits)))
  return tokens[len(prompt) :], lead


@pytest.mark.parametrize("name", ["gemma2_window", "qwen3"])
def test_greedy_is_the_argmax_of_full_forward_passes(name):
  model, params = load(name)
  tokens, valid = references.prompts()
  assert not valid[1:].all(axis=1).any() and valid[0].all()
  got = make_generate(model, num_tokens=T)(params, tokens, valid)
  assert got.tokens_BxT.shape == (len(tokens), T)
  for row in range(len(tokens)):
    prompt = [int(t) for t in tokens[row][valid[row]]]
    expected, lead = greedy_by_full_passes(model, params, prompt, T)
    assert lead > 1e-4  # The comparison is one of tokens, not of rounding.
    assert [int(t) for t in got.tokens_BxT[row]] == expected
  assert np.asarray(got.num_B).tolist() == [T] * len(tokens)


def test_the_window_is_shorter_than_what_is_generated():
  """Else the tests above would not see it."""
  for name in ("gemma2_window", "gemma3_window"):
    window = load(name)[0].config.sliding_window
    assert window is not None and window < T


@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_those_that_transformers_wrote(name):
  model, params = load(name)
  tokens, valid = references.prompts()
  with np.load(ROOT / name / "generated.npz") as file:
    expected = file["generated"]
    np.testing.assert_array_equal(file["tokens"], tokens)
    np.testing.assert_array_equal(file["valid"], valid)
  assert len(np.unique(expected)) >= 5
  got = make_generate(model, num_tokens=T)(params, tokens, valid)
  np.testing.assert_array_equal(got.tokens_BxT, expected)


@pytest.mark.parametrize("name", NAMES)
def test_transformers_generates_the_same(name):
  pytest.importorskip("torch")
  pytest.importorskip("transformers")
  model, params = load(name)
  rng = np.random.default_rng(7)  # Other prompts than those of the references.
  valid = np.arange(9) >= np.asarray([0, 3, 8, 5])[:, None]
  tokens = np.where(valid, rng.integers(0, model.config.vocab_size, valid.shape), 0)
  expected = references.generated_of(references.build(name), tokens, valid)
  got = make_generate(model, num_tokens=T)(params, tokens, valid)
  np.testing.assert_array_equal(got.tokens_BxT, expected)


def test_sampling_follows_the_softmax():
  """Chi-square of 4096 first tokens, and of the second given the likeliest first."""
  model, params = load("gemma2_window")
  prompt = [3, 1, 4, 1, 5]
  rows, temperature = 4096, 1.7
  apply = jax.jit(model.apply)
  tokens = np.tile(prompt, (rows, 1))
  generate = make_generate(model, num_tokens=2, temperature=temperature)
  drawn = np.asarray(generate(params, tokens, key=jax.random.key(3)).tokens_BxT)

  def check(samples, prefix):
    row = jnp.asarray([[*prefix, *[0] * (6 - len(prefix))]])
    logits = np.asarray(apply(params, row).logits[0, len(prefix) - 1])
    p = np.exp(logits.astype(np.float64) / temperature)
    p /= p.sum()
    expected = len(samples) * p
    kept = expected >= 5
    counts = np.bincount(samples, minlength=len(p))
    # The rare ones as one cell; chi-square of k cells: mean k - 1, variance 2(k - 1).
    observed = np.append(counts[kept], counts[~kept].sum())
    expected = np.append(expected[kept], expected[~kept].sum())
    observed, expected = observed[expected > 0], expected[expected > 0]
    statistic = ((observed - expected) ** 2 / expected).sum()
    freedom = len(expected) - 1
    assert freedom >= 8
    assert statistic < freedom + 4 * np.sqrt(2 * freedom), (statistic, freedom)

  check(drawn[:, 0], prompt)
  first = np.bincount(drawn[:, 0]).argmax()
  second = drawn[drawn[:, 0] == first, 1]
  assert len(second) > 300
  check(second, [*prompt, first])


def test_draws_differ_between_keys_steps_and_rows_and_repeat_with_the_key():
  model, params = load("gemma2_no_softcaps")
  zero = jax.tree.map(jnp.zeros_like, params)  # Uniform over the vocabulary.
  generate = make_generate(model, num_tokens=40, temperature=1.0)
  tokens = np.zeros((6, 3), int)

  def draw(seed):
    return np.asarray(generate(zero, tokens, key=jax.random.key(seed))[0])

  one = draw(1)
  np.testing.assert_array_equal(draw(1), one)
  # 24 equally likely tokens: two streams agree at 1 in 24 places.
  assert np.mean(draw(2) == one) < 0.15
  assert np.mean(one[:, 1:] == one[:, :-1]) < 0.15
  assert np.mean(one[1:] == one[:-1]) < 0.15


def test_rows_end_at_stop_ids_and_are_filled_up():
  model, params = load("llama")
  tokens, valid = references.prompts()
  free = np.asarray(make_generate(model, num_tokens=T)(params, tokens, valid)[0])
  stops = (int(free[0, 2]), int(free[1, 5]))
  pad = 23
  generate = make_generate(model, num_tokens=T, stop_ids=stops[:1], pad_id=pad)
  is_stop = np.arange(model.config.vocab_size) == stops[1]
  got, num = map(np.asarray, generate(params, tokens, valid, is_stop_V=is_stop))
  lengths = []
  for row in free:
    hits = np.flatnonzero(np.isin(row, stops))
    lengths.append(int(hits[0]) + 1 if hits.size else T)
  assert num.tolist() == lengths and min(lengths) < T
  for row, length in enumerate(lengths):
    np.testing.assert_array_equal(got[row, :length], free[row, :length])
    assert (got[row, length:] == pad).all()


def test_the_loop_ends_when_all_rows_have_ended(monkeypatch):
  """The steps are counted by what runs on the device."""
  model, params = load("llama")
  steps = []
  apply = Decoder.apply

  def counting(self, *args, **kwargs):
    jax.debug.callback(lambda: steps.append(1))
    return apply(self, *args, **kwargs)

  monkeypatch.setattr(Decoder, "apply", counting)
  tokens, valid = references.prompts()
  every = range(model.config.vocab_size)
  for stop_ids, expected in (((), T), (every, 1)):
    steps.clear()
    generate = make_generate(model, num_tokens=T, stop_ids=stop_ids)
    jax.block_until_ready(generate(params, tokens, valid))
    jax.effects_barrier()
    assert len(steps) == expected


@pytest.mark.parametrize(
  ("name", "temperature"), [("gemma2_window", 0.0), ("qwen3", 1.3)]
)
def test_a_row_depends_neither_on_the_others_nor_on_its_padding(name, temperature):
  model, params = load(name)
  generate = make_generate(model, num_tokens=T, temperature=temperature)
  tokens, valid = references.prompts()
  key = jax.random.key(0)
  expected = np.asarray(generate(params, tokens, valid, key=key).tokens_BxT)
  # Other rows after it, other padding tokens, and more padding.
  rng = np.random.default_rng(0)
  others = rng.integers(0, model.config.vocab_size, tokens.shape)
  for row in range(len(tokens)):
    changed = np.where(np.arange(len(tokens))[:, None] == row, tokens, others)
    mask = np.where(np.arange(len(tokens))[:, None] == row, valid, True)
    changed = np.where(mask, changed, 7)
    changed = np.pad(changed, ((0, 0), (5, 0)), constant_values=11)
    mask = np.pad(mask, ((0, 0), (5, 0)))
    got = np.asarray(generate(params, changed, mask, key=key).tokens_BxT)
    np.testing.assert_array_equal(got[row], expected[row])


def test_an_empty_row_stays_empty_and_holds_up_nobody():
  model, params = load("llama")
  tokens, valid = references.prompts()
  generate = make_generate(model, num_tokens=T, pad_id=5)
  expected = np.asarray(generate(params, tokens, valid).tokens_BxT)
  got, num = map(np.asarray, generate(params, tokens, valid & [[1], [0], [1], [1]]))
  assert num.tolist() == [T, 0, T, T]
  assert (got[1] == 5).all()
  np.testing.assert_array_equal(got[[0, 2, 3]], expected[[0, 2, 3]])


def test_generate_is_compiled_once_and_may_be_jitted_itself(monkeypatch):
  model, params = load("llama")
  traces = []
  apply = Decoder.apply

  def counting(self, *args, **kwargs):
    traces.append(1)
    return apply(self, *args, **kwargs)

  monkeypatch.setattr(Decoder, "apply", counting)
  tokens, valid = references.prompts()
  generate = make_generate(model, num_tokens=3)
  first = generate(params, tokens, valid)
  num_traces = len(traces)
  generate(params, (tokens + 1) % 24, valid, is_stop_V=np.ones(24, bool))
  assert len(traces) == num_traces
  outer = jax.jit(generate)(params, jnp.asarray(tokens), jnp.asarray(valid))
  np.testing.assert_array_equal(outer.tokens_BxT, first.tokens_BxT)


# ---- Bad input.


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"num_tokens": 0}, "num_tokens must be at least 1, got 0"),
    ({"temperature": -0.5}, r"temperature must be finite and >= 0 .*, got -0\.5"),
    ({"temperature": float("nan")}, "temperature must be finite"),
    ({"stop_ids": (3, 16)}, r"must lie in \[0, 16\), the model's vocab.* got \[16\]"),
    ({"pad_id": -1}, r"must lie in \[0, 16\), the model's vocabulary, got \[-1\]"),
  ],
)
def test_options_that_make_no_sense_are_refused(options, message):
  model = Decoder(testing.config())
  with pytest.raises(ValueError, match=message):
    make_generate(model, **({"num_tokens": 2} | options))


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"tokens_BxL": [[1, 2, 16]]}, r"tokens must lie in \[0, 16\).* got 16"),
    ({"tokens_BxL": np.zeros((1, 0), int)}, r"at least one token, got \(1, 0\)"),
    ({"valid_BxL": [[True, True]]}, r"the tokens' shape \(1, 3\), got \(1, 2\)"),
    ({"valid_BxL": [[True, True, False]]}, "padded on the left, but in row 0"),
    ({"is_stop_V": np.zeros(15, bool)}, r"is_stop_V must be \(16,\), got \(15,\)"),
  ],
)
def test_prompts_that_make_no_sense_are_refused(arguments, message):
  generate = make_generate(Decoder(testing.config()), num_tokens=2)
  arguments = {"tokens_BxL": [[1, 2, 3]]} | arguments
  arguments = {name: np.asarray(value) for name, value in arguments.items()}
  with pytest.raises(ValueError, match=message):
    generate({}, **arguments)


def test_sampling_needs_a_key():
  generate = make_generate(Decoder(testing.config()), num_tokens=2, temperature=1.0)
  with pytest.raises(ValueError, match=r"temperature 1\.0 draws tokens: give a key"):
    generate({}, np.zeros((1, 3), int))


# ---- What generation needs of the decoder.


@pytest.mark.parametrize("tied", [True, False])
def test_logits_at_chosen_positions_are_those_of_the_whole(tied):
  model = Decoder(testing.config(vocab_size=41, tied=tied))
  params = jax.jit(model.init)(jax.random.key(0))
  B, L, V = 4, 20, 41
  tokens = jax.random.randint(jax.random.key(1), (B, L), 0, V)
  positions = np.random.default_rng(0).integers(0, L, (B, 5))
  positions[:, -1] = L - 1
  apply = jax.jit(model.apply, static_argnames="capture")
  whole = np.asarray(apply(params, tokens).logits)
  output = apply(params, tokens, positions_BxP=positions, capture=(1,))
  expected = np.take_along_axis(whole, positions[:, :, None], axis=1)
  assert np.abs(whole[:, 0] - whole[:, -1]).max() > 0.1
  np.testing.assert_allclose(output.logits, expected, atol=1e-5)
  assert output.captured[1].shape == (B, L, model.config.width)
  # No array of all positions' logits is made.
  text = apply.lower(params, tokens, positions_BxP=positions).as_text()
  assert f"<{B}x5x{V}x" in text
  assert f"<{B}x{L}x{V}x" not in text and f"<{B * L}x{V}x" not in text


def test_wrong_positions_and_a_small_cache_are_errors():
  model = Decoder(testing.config())
  tokens = jnp.zeros((2, 3), jnp.int32)
  with pytest.raises(ValueError, match=r"positions_BxP must .* \(2, P\), got \(3, 1\)"):
    model.apply({}, tokens, positions_BxP=jnp.zeros((3, 1), jnp.int32))
  with pytest.raises(ValueError, match="room for 2 tokens, got 3"):
    model.apply({}, tokens, cache=model.init_cache(2, 2))
