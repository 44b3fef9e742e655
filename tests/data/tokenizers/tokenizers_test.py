"""Characters and bytes go in and come back; nothing else is accepted."""

import pytest

from undo_jax.data import tokenizers
from undo_jax.utils.types import ConfigError


@pytest.mark.parametrize("name", ["characters:arithmetic", "characters:ascii", "bytes"])
def test_round_trip_stays_in_the_vocabulary(name):
  tokenizer = tokenizers.make(name)
  ids = tokenizer.encode("54 / 3 = 18.0")
  assert tokenizer.decode(ids) == "54 / 3 = 18.0"
  assert len(ids) == 13
  assert tokenizers.NUM_SPECIAL <= min(ids) and max(ids) < tokenizer.vocab_size


def test_bytes_take_any_text():
  tokenizer = tokenizers.ByteTokenizer()
  assert tokenizer.decode(tokenizer.encode("더하기 +")) == "더하기 +"


def test_known_words_are_one_token_with_their_space_and_others_are_spelled():
  tokenizer = tokenizers.make("words:facts")
  text = "The metal of the comet Zalopal is zinc, not gold.\nAnswer: B"
  pieces = [tokenizer.decode([i]) for i in tokenizer.encode(text)]
  assert "".join(pieces) == text
  words = ["The", " metal", " of", " the", " comet", " Zalopal", " is", " zinc", ","]
  spelled = [*" not", *" gold", "."]
  assert pieces == [*words, *spelled, "\nAnswer:", " B"]
  with pytest.raises(ValueError, match="the character 'ü' of ' grün' is not in"):
    tokenizer.encode(" grün")


def test_special_and_unused_ids_are_left_out():
  tokenizer = tokenizers.make("characters:arithmetic")
  ids = [tokenizers.BOS, *tokenizer.encode("7"), tokenizers.EOS, 31]
  assert tokenizer.decode(ids) == "7"


def test_a_character_outside_the_alphabet_is_named():
  with pytest.raises(ValueError, match="'x' of '2 x 3'"):
    tokenizers.make("characters:arithmetic").encode("2 x 3")


@pytest.mark.parametrize(
  "name",
  ["words", "words:all", "characters:klingon", "bytes:utf8", "sentencepiece", "gpt2:x"],
)
def test_an_unknown_tokenizer_is_refused(name):
  known = "are bytes, characters:arithmetic, .* words:facts, sent"
  with pytest.raises(ConfigError, match=known):
    tokenizers.make(name)


@pytest.mark.parametrize("name", ["characters:arithmetic", "words:facts", "bytes"])
def test_tokenizers_without_a_file_have_the_special_ids_of_gemma(name):
  tokenizer = tokenizers.make(name)
  assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.bos_id) == (0, 1, 2)
  assert tokenizers.content(name) is None
