"""Tokenizers out: the written files give the ids that training saw."""

import pathlib

import pytest
import sentencepiece
import tokenizers as library

from undo_jax.data import tokenizers
from undo_jax.data.tokenizers import export as tokenizer_export
from undo_jax.data.tokenizers import training as tokenizer_training
from undo_jax.utils.types import ConfigError

TEXTS = {
  "characters:arithmetic": "12 + 3 = 15. 7*8=56",
  "characters:ascii": 'Tom\'s 3 \\n apples\n\n cost "7" <bos> ~',
  "words:facts": "The metal of the comet Zalopal is  tin. \n\nAnswer: B <eos>1 + 2",
  "bytes": "naïve 한국어 \U0001f600\n\t <eos> \x00",
}


@pytest.mark.parametrize("name", TEXTS)
def test_characters_and_bytes_keep_their_ids(tmp_path, name):
  tokenizer_export.write(name, tmp_path)
  ours, theirs = tokenizers.make(name), tokenizers.make(f"huggingface:{tmp_path}")
  text = TEXTS[name]
  assert theirs.encode(text) == ours.encode(text)
  assert theirs.decode(ours.encode(text)) == text
  for field in ("pad_id", "eos_id", "bos_id", "vocab_size"):
    assert getattr(theirs, field) == getattr(ours, field), field
  # As transformers calls it: with BOS in front.
  upstream = library.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
  plain = "1 + 2"
  assert upstream.encode(plain).ids == [2, *ours.encode(plain)]


@pytest.mark.parametrize("name", TEXTS)
def test_transformers_opens_them(tmp_path, name):
  transformers = pytest.importorskip("transformers")
  tokenizer_export.write(name, tmp_path)
  ours = tokenizers.make(name)
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  ids = ours.encode("1 + 2")
  assert theirs("1 + 2").input_ids == [2, *ids]
  assert theirs.decode([2, *ids, 1], skip_special_tokens=True) == "1 + 2"
  assert (theirs.pad_token_id, theirs.eos_token_id, theirs.bos_token_id) == (0, 1, 2)


@pytest.mark.parametrize("kind", ["sentencepiece", "bpe"])
def test_tokenizers_of_files_are_copied(tmp_path, kind):
  (tmp_path / "corpus.txt").write_text(pathlib.Path(__file__).read_text())
  tokenizer_training.train(
    [str(tmp_path / "corpus.txt")],
    tmp_path / "made",
    kind=kind,
    vocab_size=400,
  )
  name = {"sentencepiece": "sentencepiece:", "bpe": "huggingface:"}[kind]
  (tmp_path / "out").mkdir()
  tokenizer_export.write(f"{name}{tmp_path / 'made'}", tmp_path / "out")
  ours, theirs = (tokenizers.make(f"{name}{tmp_path / d}") for d in ("made", "out"))
  text = "two apples and 3 pears"
  assert theirs.encode(text) == ours.encode(text)
  assert (theirs.pad_id, theirs.eos_id, theirs.bos_id) == (0, 1, 2)


SAMPLES = ("It reads 12.", "  two  spaces ", "naïve 한국어 \U0001f600", "a\n\tb", "")


@pytest.fixture
def exported(tmp_path):
  """A unigram model of ours, and what is written of it."""
  (tmp_path / "corpus.txt").write_text(pathlib.Path(__file__).read_text())
  tokenizer_training.train(
    [str(tmp_path / "corpus.txt")],
    tmp_path / "made",
    kind="sentencepiece",
    vocab_size=400,
  )
  (tmp_path / "out").mkdir()
  tokenizer_export.write(f"sentencepiece:{tmp_path / 'made'}", tmp_path / "out")
  upstream = sentencepiece.SentencePieceProcessor(
    model_file=str(tmp_path / "made" / "tokenizer.model")
  )
  return upstream, tmp_path / "out"


def test_a_unigram_model_is_converted_with_its_ids(exported):
  upstream, out = exported
  converted = tokenizers.make(f"huggingface:{out}")
  assert (converted.pad_id, converted.eos_id, converted.bos_id) == (0, 1, 2)
  for text in SAMPLES:
    ids = upstream.encode(text)
    assert converted.encode(text) == ids
    assert converted.decode(ids) == text


def test_transformers_reads_the_converted_ids(exported):
  transformers = pytest.importorskip("transformers")
  upstream, out = exported
  theirs = transformers.AutoTokenizer.from_pretrained(out)
  for text in SAMPLES:
    assert theirs(text).input_ids == [2, *upstream.encode(text)]


def test_a_unigram_model_that_changes_text_is_refused(tmp_path):
  sentencepiece.SentencePieceTrainer.Train(
    sentence_iterator=iter(pathlib.Path(__file__).read_text().splitlines()),
    model_prefix=str(tmp_path / "tokenizer"),
    vocab_size=120,
    minloglevel=2,
  )
  (tmp_path / "out").mkdir()
  with pytest.raises(ConfigError, match="changes text .* give --tokenizer=huggingface"):
    tokenizer_export.write(f"sentencepiece:{tmp_path}", tmp_path / "out")


def test_text_of_unknown_characters_is_one_error_as_with_ours(tmp_path):
  tokenizer_export.write("characters:arithmetic", tmp_path)
  for name in ("characters:arithmetic", f"huggingface:{tmp_path}"):
    with pytest.raises(ValueError, match="character"):
      tokenizers.make(name).encode("1 + é")


def test_a_link_to_nothing_is_not_left_out(tmp_path):
  """As a cache has it whose files were removed."""
  (tmp_path / "in").mkdir()
  (tmp_path / "out").mkdir()
  (tmp_path / "in" / "chat_template.jinja").symlink_to(tmp_path / "gone")
  with pytest.raises(ConfigError, match=r"chat_template\.jinja is no file"):
    tokenizer_export.copy(tmp_path / "in", tmp_path / "out")
