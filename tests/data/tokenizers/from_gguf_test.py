"""Tests of GGUF files' tokenizers: the ids are those of the libraries they are from."""

import io
import json

import pytest
import sentencepiece
import tokenizers as library
from tokenizers import models, pre_tokenizers, trainers

from undo_jax.data import tokenizers
from undo_jax.data.tokenizers import from_gguf
from undo_jax.utils.types import ConfigError

TEXTS = (
  "The quick brown fox jumps over the lazy dog, and again the quick brown fox.",
  "def f(x):\n    return x + 12345  # the answer\n\n\nclass Fox:\n\tpass",
  "It's naïve; they'LL say 3.14159 and 2,000!  Two  spaces.  ",
  "日本語 и русский 🦊",
  " leading and trailing ",
  "",
)


def imported(fields, directory):
  from_gguf.write(fields, directory, path="model.gguf")
  return tokenizers.make(f"huggingface:{directory}")


@pytest.mark.parametrize("cut", from_gguf.CUTS)
def test_byte_level_ids_are_those_of_the_tokenizer_it_was_made_from(tmp_path, cut):
  original = library.Tokenizer(models.BPE())
  original.pre_tokenizer = from_gguf.CUTS[cut]()
  alphabet = pre_tokenizers.ByteLevel.alphabet()
  trainer = trainers.BpeTrainer(
    vocab_size=400, initial_alphabet=alphabet, special_tokens=["<|end|>"]
  )
  original.train_from_iterator(TEXTS, trainer)
  model = json.loads(original.to_str())["model"]
  tokens = sorted(model["vocab"], key=model["vocab"].get)
  fields = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": cut,
    "tokenizer.ggml.tokens": tokens,
    "tokenizer.ggml.token_type": [3] + [1] * (len(tokens) - 1),
    "tokenizer.ggml.merges": [" ".join(merge) for merge in model["merges"]],
    "tokenizer.ggml.eos_token_id": 0,
  }
  tokenizer = imported(fields, tmp_path)
  for text in TEXTS:
    assert tokenizer.encode(text) == original.encode(text).ids
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("prefix", [True, False])
def test_ids_by_scores_are_those_of_sentencepiece(tmp_path, prefix):
  written = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(TEXTS[:3] * 20),
    model_writer=written,
    model_type="bpe",
    vocab_size=420,
    byte_fallback=True,
    normalization_rule_name="identity",
    remove_extra_whitespaces=False,
    add_dummy_prefix=prefix,
    hard_vocab_limit=False,
    minloglevel=2,
  )
  original = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
  ids = range(original.get_piece_size())
  kinds = [
    2
    if original.is_unknown(i)
    else 3
    if original.is_control(i)
    else 6
    if original.is_byte(i)
    else 1
    for i in ids
  ]
  fields = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": [original.id_to_piece(i) for i in ids],
    "tokenizer.ggml.scores": [original.get_score(i) for i in ids],
    "tokenizer.ggml.token_type": kinds,
    "tokenizer.ggml.add_space_prefix": prefix,
    "tokenizer.ggml.unknown_token_id": 0,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
  }
  tokenizer = imported(fields, tmp_path)
  for text in TEXTS:
    assert tokenizer.encode(text) == original.encode(text), text
    assert tokenizer.decode(tokenizer.encode(text)) == text
  assert (tokenizer.eos_id, tokenizer.bos_id) == (2, 1)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({}, "holds no tokenizer"),
    ({"tokenizer.ggml.tokens": ["a", "a"]}, "names a token twice"),
    ({"tokenizer.ggml.tokens": ["a"]}, "of the kind None; only gpt2"),
    (
      {"tokenizer.ggml.tokens": ["a"], "tokenizer.ggml.model": "bert"},
      "of the kind 'bert'",
    ),
    (
      {
        "tokenizer.ggml.tokens": ["a"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "tekken",
      },
      "cuts text as 'tekken' does; only gpt-2, smollm",
    ),
    (
      {
        "tokenizer.ggml.tokens": ["a", "b"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.merges": ["a b"],
      },
      "merges joins 'a and b', which with what they give must be tokens",
    ),
    (
      {"tokenizer.ggml.tokens": ["a"], "tokenizer.ggml.model": "llama"},
      "scores must have one for each token",
    ),
    (
      {"tokenizer.ggml.tokens": ["a"], "tokenizer.ggml.token_type": [1, 1]},
      "token_type must have one for each token",
    ),
    (
      {
        "tokenizer.ggml.tokens": ["a"],
        "tokenizer.ggml.scores": [0.0],
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.unknown_token_id": 7,
      },
      r"unknown_token_id must be in \[0, 1\), got 7",
    ),
  ],
)
def test_what_is_not_known_is_named(tmp_path, fields, message):
  with pytest.raises(ConfigError, match=message):
    from_gguf.write(fields, tmp_path, path="model.gguf")
  assert not list(tmp_path.iterdir())
