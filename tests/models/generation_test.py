"""Generation against full forward passes and against transformers' own.

references/*/generated.npz holds what transformers' generate wrote with the same
weights (huggingface_references.py); what needs transformers itself runs where it is
installed.
"""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import huggingface_references as references
from undo_jax import testing
from undo_jax.models import huggingface
from undo_jax.models.decoder import Decoder
from undo_jax.models.generation import make_generate

ROOT = references.ROOT
T = references.NUM_GENERATED


@functools.cache
def load(name):
  config, params = huggingface.load(ROOT / name)
  scaled = references.EMBEDDING_SCALE * params["embedding"]
  return Decoder(config), params | {"embedding": scaled}


def unrolled(model):
  """Return the decoder with all layers unrolled."""
  layers = model.config.num_layers
  return Decoder(dataclasses.replace(model.config, scan_unroll=layers))


def test_the_window_is_shorter_than_what_is_generated():
  """Else the tests above would not see it."""
  for name in ("gemma2_window", "gemma3_scaled_rope"):
    window = load(name)[0].config.sliding_window
    assert window is not None and window < T


def generated(name):
  """Return prompts, what of them is valid and what transformers appended to them."""
  tokens, valid = references.prompts()
  with np.load(ROOT / name / "generated.npz") as file:
    np.testing.assert_array_equal(file["tokens"], tokens)
    np.testing.assert_array_equal(file["valid"], valid)
    return tokens, valid, file["generated"]


# Llama's tokens are compared below, where rows end.
@pytest.mark.parametrize("is_unrolled", (False, True))
@pytest.mark.parametrize("name", sorted({*references.GENERATED} - {"llama"}))
def test_tokens_are_those_that_transformers_wrote(name, is_unrolled):
  model, params = load(name)
  if is_unrolled:
    model = unrolled(model)
  tokens, valid, expected = generated(name)
  assert not valid[1:].all(axis=1).any() and valid[0].all()
  assert len(np.unique(expected)) >= 5
  got = make_generate(model, num_tokens=T)(params, tokens, valid)
  np.testing.assert_array_equal(got.tokens_BxT, expected)
  assert np.asarray(got.num_B).tolist() == [T] * len(tokens)


@pytest.mark.parametrize("name", sorted(references.CASES))
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


# Of the tests that draw: many rows of one prompt, by one program.
PROMPT, ROWS, TEMPERATURE = (3, 1, 4, 1, 5), 4096, 1.7
SAMPLED = "gemma2_window"


@functools.cache
def sampler():
  return make_generate(load(SAMPLED)[0], num_tokens=4, temperature=TEMPERATURE)


@functools.cache
def drawn(seed):
  tokens = np.tile(PROMPT, (ROWS, 1))
  key = jax.random.key(seed)
  return np.asarray(sampler()(load(SAMPLED)[1], tokens, key=key).tokens_BxT)


def test_sampling_follows_the_softmax():
  """Chi-square of 4096 first tokens, and of the second given the likeliest first."""
  model, params = load(SAMPLED)
  apply, tokens = jax.jit(model.apply), drawn(3)

  def check(samples, prefix):
    row = jnp.asarray([[*prefix, *[0] * (6 - len(prefix))]])
    logits = np.asarray(apply(params, row).logits[0, len(prefix) - 1])
    p = np.exp(logits.astype(np.float64) / TEMPERATURE)
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

  check(tokens[:, 0], PROMPT)
  first = np.bincount(tokens[:, 0]).argmax()
  second = tokens[tokens[:, 0] == first, 1]
  assert len(second) > 300
  check(second, [*PROMPT, first])


def test_draws_differ_between_keys_steps_and_rows_and_repeat_with_the_key():
  # Uniform over the vocabulary.
  zero = jax.tree.map(
    lambda x: jax.device_put(np.zeros(x.shape, x.dtype), x.sharding), load(SAMPLED)[1]
  )
  tokens = np.tile(PROMPT, (ROWS, 1))

  def draw(seed):
    return np.asarray(sampler()(zero, tokens, key=jax.random.key(seed))[0])

  one = draw(1)
  np.testing.assert_array_equal(draw(1), one)
  # 24 equally likely tokens: two streams agree at 1 in 24 places.
  for other, same in ((draw(2), one), (one[:, 1:], one[:, :-1]), (one[1:], one[:-1])):
    assert abs(np.mean(other == same) - 1 / 24) < 0.02


def test_a_row_depends_neither_on_the_others_nor_on_its_padding():
  model, params = load(SAMPLED)
  # Other rows after it, and padding before it.
  rng = np.random.default_rng(0)
  tokens = rng.integers(0, model.config.vocab_size, (ROWS, 5 + len(PROMPT)))
  valid = np.ones(tokens.shape, bool)
  tokens[:32, 5:], valid[:32, :5] = PROMPT, False
  got = np.asarray(sampler()(params, tokens, valid, key=jax.random.key(3)).tokens_BxT)
  np.testing.assert_array_equal(got[:32], drawn(3)[:32])
  assert np.mean(got[32:] == drawn(3)[32:]) < 0.9


class Counted(Decoder):
  """A decoder that counts its traces, and its passes on the device."""

  def __init__(self, config):
    super().__init__(config)
    self.traces, self.passes = [], []

  def apply(self, *args, **kwargs):
    self.traces.append(1)
    jax.debug.callback(lambda: self.passes.append(1))
    return super().apply(*args, **kwargs)


PAD = 23


@pytest.fixture(scope="module")
def ending():
  """A model, its parameters, and what ends rows at a token that Llama writes."""
  model, params = load("llama")
  model = Counted(model.config)
  stop = int(generated("llama")[2][0, 2])
  return (
    model,
    params,
    make_generate(model, num_tokens=T, stop_ids=[stop], pad_id=PAD),
    stop,
  )


def test_rows_end_at_stop_ids_and_are_filled_up(ending):
  model, params, generate, stop = ending
  tokens, valid, free = generated("llama")
  for other in (None, int(free[1, 5])):
    is_stop = None if other is None else np.arange(model.config.vocab_size) == other
    got, num = map(np.asarray, generate(params, tokens, valid, is_stop_V=is_stop))
    lengths = []
    for row in free:
      hits = np.flatnonzero(np.isin(row, (stop,) if other is None else (stop, other)))
      lengths.append(int(hits[0]) + 1 if hits.size else T)
    assert num.tolist() == lengths and min(lengths) < T
    for row, length in enumerate(lengths):
      np.testing.assert_array_equal(got[row, :length], free[row, :length])
      assert (got[row, length:] == PAD).all()
  assert other not in (None, stop)


def test_the_loop_ends_when_all_rows_have_ended(ending):
  """The steps are counted by what runs on the device."""
  model, params, generate, _ = ending
  tokens, valid = references.prompts()
  for is_stop, expected in ((False, T), (True, 1)):
    model.passes.clear()
    is_stop_V = np.full(model.config.vocab_size, is_stop)
    jax.block_until_ready(generate(params, tokens, valid, is_stop_V=is_stop_V))
    jax.effects_barrier()
    assert len(model.passes) == expected


def test_an_empty_row_stays_empty_and_holds_up_nobody(ending):
  _, params, generate, _ = ending
  tokens, valid = references.prompts()
  expected, before = map(np.asarray, generate(params, tokens, valid))
  others = [0, 2, 3]
  some = valid.copy()
  some[1] = False
  got, num = map(np.asarray, generate(params, tokens, some))
  assert num[1] == 0 and num[others].tolist() == before[others].tolist()
  assert (got[1] == PAD).all()
  np.testing.assert_array_equal(got[others], expected[others])


def test_generate_is_compiled_once_and_may_be_jitted_itself(ending):
  model, params, generate, _ = ending
  tokens, valid = references.prompts()
  generate(params, tokens, valid)
  num_traces = len(model.traces)
  generate(params, (tokens + 1) % 24, valid, is_stop_V=np.ones(24, bool))
  assert len(model.traces) == num_traces
  outer = jax.eval_shape(generate, params, jnp.asarray(tokens), jnp.asarray(valid))
  assert outer.tokens_BxT.shape == (len(tokens), T)


@pytest.mark.optimized
def test_the_loop_over_tokens_slices_no_stacked_weights():
  """A slice is a copy, made for every token, of all that is read anyway."""
  model, params = load("gemma2_window")
  shape = params["layers"]["mlp"]["up"]["kernel"].shape
  stacked, of_layer = (f"f32[{','.join(map(str, s))}]" for s in (shape, shape[1:]))
  tokens, valid = references.prompts()

  def carried(model):
    """Return what the loop over tokens carries, as text."""
    generate = jax.jit(make_generate(model, num_tokens=T))
    text = generate.lower(params, tokens, valid).compile().as_text()
    loops = re.findall(r"= (\(.*\)) while\(", text)
    return max(loops, key=len)

  assert stacked in carried(model)
  assert stacked not in carried(unrolled(model))
  assert of_layer in carried(unrolled(model))


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


def test_logits_at_chosen_positions_are_those_of_the_whole():
  model = Decoder(testing.config(vocab_size=41))
  params = testing.params(model.config)
  B, L, V = 4, 20, 41
  rng = np.random.default_rng(0)
  tokens, positions = rng.integers(0, V, (B, L)), rng.integers(0, L, (B, 5))
  positions[:, -1] = L - 1
  whole = np.asarray(jax.jit(model.apply)(params, tokens).logits)
  apply = functools.partial(model.apply, capture=(1,))
  lowered = jax.jit(apply).lower(params, tokens, positions_BxP=positions)
  output = lowered.compile()(params, tokens, positions_BxP=positions)
  expected = np.take_along_axis(whole, positions[:, :, None], axis=1)
  assert np.abs(whole[:, 0] - whole[:, -1]).max() > 0.1
  np.testing.assert_allclose(output.logits, expected, atol=1e-5)
  assert output.captured[1].shape == (B, L, model.config.width)
  # No array of all positions' logits is made.
  text = lowered.as_text()
  assert f"<{B}x5x{V}x" in text
  assert f"<{B}x{L}x{V}x" not in text and f"<{B * L}x{V}x" not in text


def test_wrong_positions_and_a_small_cache_are_errors():
  model = Decoder(testing.config())
  tokens = jnp.zeros((2, 3), jnp.int32)
  with pytest.raises(ValueError, match=r"positions_BxP must .* \(2, P\), got \(3, 1\)"):
    model.apply({}, tokens, positions_BxP=jnp.zeros((3, 1), jnp.int32))
  with pytest.raises(ValueError, match="room for 2 tokens, got 3"):
    model.apply({}, tokens, cache=model.init_cache(2, 2))
