"""A tokenizer is trained on all of the files, alike each time, or not written."""

import json
import os

import pytest
import sentencepiece
import tokenizers as hf

from undo_jax.data import tokenizers
from undo_jax.data.tokenizers import training as tokenizer_training
from undo_jax.utils import files
from undo_jax.utils.types import ConfigError

SIZES = {"sentencepiece": 300, "bpe": 280}
MAKE = {"sentencepiece": "sentencepiece", "bpe": "huggingface"}
SENTENCES = [
  "the cat sat on the mat of the house",
  "the other cats sit on other mats in other houses",
  "a house on the hill has 12 doors and 30 windows",
  "nobody sat on the hill when the doors were open",
  "when others open windows the cats are on the mats",
]
kinds = pytest.mark.parametrize("kind", SIZES)


@pytest.fixture
def corpus(tmp_path):
  """Three files of 5 documents each; an empty line is none."""
  lines = [f"{sentence} 더하기 1234" for sentence in SENTENCES]
  folder = tmp_path / "texts"
  (folder / "deep").mkdir(parents=True)
  (folder / "one.txt").write_text("\n\n".join(lines) + "\n  \n", encoding="utf-8")
  (folder / "deep" / "two.txt").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
  rows = [json.dumps({"text": line + "\nthe end", "title": "x"}) for line in lines]
  (folder / "three.jsonl").write_text("\n".join(rows) + "\n\n")
  return folder


def train(corpus, output, kind, **options):
  patterns = options.pop("patterns", [f"{corpus}/**"])
  options = {"vocab_size": SIZES[kind]} | options
  return tokenizer_training.train(patterns, output, kind=kind, **options)


def contents(directory):
  return {path.name: path.read_bytes() for path in directory.iterdir()}


@kinds
def test_any_text_is_given_back_by_digits_bytes_and_gemmas_special_ids(
  corpus, tmp_path, kind
):
  train(corpus, tmp_path / "new" / "out", kind)
  tokenizer = tokenizers.make(f"{MAKE[kind]}:{tmp_path / 'new' / 'out'}")
  assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.bos_id) == (0, 1, 2)
  assert tokenizer.vocab_size == SIZES[kind]
  text = " the  cat\n\nate 日本 😀\t<bos><eos><pad>\r\n\0 é▅"
  assert tokenizer.decode(tokenizer.encode(text)) == text
  assert len(tokenizer.encode("the cat")) < len("the cat")
  assert len(tokenizer.encode("1234")) == 4


def test_special_tokens_are_named_as_gemmas(corpus, tmp_path):
  train(corpus, tmp_path / "spm", "sentencepiece")
  train(corpus, tmp_path / "bpe", "bpe")
  assert list(contents(tmp_path / "spm")) == ["tokenizer.model"]
  assert set(contents(tmp_path / "bpe")) == {"tokenizer.json", "tokenizer_config.json"}
  model = sentencepiece.SentencePieceProcessor(
    model_file=str(tmp_path / "spm" / "tokenizer.model")
  )
  merges = hf.Tokenizer.from_file(str(tmp_path / "bpe" / "tokenizer.json"))
  names = ["<pad>", "<eos>", "<bos>"]
  assert [model.id_to_piece(i) for i in range(4)] == [*names, "<unk>"]
  assert [merges.id_to_token(i) for i in range(3)] == names


@kinds
def test_documents_and_bytes_are_counted(corpus, tmp_path, kind):
  trained = train(corpus, tmp_path / "out", kind)
  sentences = len("".join(SENTENCES)) + 5 * (1 + 3 * 3 + 5)  # Three bytes a syllable.
  assert trained == (15, 3 * sentences + 5 * len("\nthe end"), SIZES[kind])


@kinds
def test_the_same_files_give_the_same_bytes(corpus, tmp_path, kind):
  train(corpus, tmp_path / "one", kind)
  names = ["three.jsonl", "one.txt", "deep/two.txt", "one.txt"]
  patterns = [str(corpus / name) for name in names]
  train(corpus, tmp_path / "other", kind, patterns=patterns)
  assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_files_are_found_once_and_in_order(corpus):
  paths = [corpus / "deep" / "two.txt", corpus / "one.txt", corpus / "three.jsonl"]
  for order in ([2, 0, 1, 0], [1, 2, 0], [0, 2, 1]):
    patterns = [str(paths[i]) for i in order]
    assert tokenizer_training.Corpus(patterns, text_field="text").files == paths
  for pattern in (f"{corpus}/**", str(corpus)):
    assert tokenizer_training.Corpus([pattern], text_field="text").files == paths


def test_lines_of_any_length_and_character_count(tmp_path):
  # The library alone leaves out lines above 4192 bytes or with these characters.
  lines = ["ж" * 5000, *["абв\0где"] * 20, *["▅клм"] * 20]
  (tmp_path / "long.txt").write_text("\n".join(lines))
  train(tmp_path, tmp_path / "out", "sentencepiece", vocab_size=272)
  model = sentencepiece.SentencePieceProcessor(
    model_file=str(tmp_path / "out" / "tokenizer.model")
  )
  for character in "жабвгдеклм":
    pieces = model.encode(character, out_type=str)
    assert pieces == [character], "no bytes"


@kinds
def test_another_field_is_read(corpus, tmp_path, kind):
  rows = [{"body": sentence, "text": 7} for sentence in SENTENCES * 10]
  (tmp_path / "body.jsonl").write_text("\n".join(map(json.dumps, rows)))
  pattern = [f"{tmp_path}/*.jsonl"]
  trained = train(corpus, tmp_path / "out", kind, patterns=pattern, text_field="body")
  assert trained.documents == 50


WRONG = [
  ("a.txt", b"good\nbad \xff\n", r"UTF-8, but .*a.txt, line 2, has the byte 0xff at"),
  ("a.jsonl", b'{"text": "a"}\n{"body": 1}', r"a.jsonl, line 2, got the fields \['bod"),
  ("a.jsonl", b'\n{"text": 7}', "a.jsonl, line 2, got int there; name the field"),
  ("a.jsonl", b"[1]", "a.jsonl, line 1, got no object"),
  ("a.jsonl", b'{"text": ', r"a.jsonl, line 1, got no JSON \("),
  ("a.jsonl", b'{"text": "\\ud800"}', "a.jsonl, line 1, has half of a surrogate"),
  ("a.txt", b"\n \n", "a.txt hold only empty lines"),
  (
    "a.csv",
    b"text",
    "expected .txt, .jsonl, .parquet, .html, .py, .md or .rst files, got .*a.csv",
  ),
]


@kinds
@pytest.mark.parametrize("name, content, message", WRONG)
def test_a_wrong_line_is_named_and_nothing_is_left(
  tmp_path, kind, name, content, message
):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(ConfigError, match=message) as error:
    train(tmp_path, tmp_path / "out", kind)
  assert "\n" not in str(error.value)
  assert os.listdir(tmp_path) == [name]


@kinds
@pytest.mark.parametrize(
  "options, message",
  [
    ({"patterns": ["/nowhere/*.txt"]}, "none matches '/nowhere/"),
    ({"vocab_size": 100_000}, r"vocab_size: expected at most \d{3}, .* got 100000"),
    ({"vocab_size": 10}, r"vocab_size: expected at least 2\d\d "),
    ({"vocab_size": -1}, "vocab_size: expected at least"),
    ({"kind": "words"}, "expected one of sentencepiece, bpe, got 'words'"),
  ],
)
def test_a_wrong_argument_is_named_and_nothing_is_left(
  corpus, tmp_path, kind, options, message
):
  arguments = {"kind": kind, "vocab_size": SIZES[kind], "patterns": [f"{corpus}/**"]}
  with pytest.raises(ConfigError, match=message) as error:
    tokenizer_training.train(output=tmp_path / "out", **(arguments | options))
  assert "\n" not in str(error.value)
  assert os.listdir(tmp_path) == ["texts"]


@kinds
def test_the_largest_vocabulary_is_named_rightly_and_joins_no_digits(
  corpus, tmp_path, kind
):
  with pytest.raises(ConfigError, match="expected at most") as error:
    train(corpus, tmp_path / "out", kind, vocab_size=100_000)
  largest = int(str(error.value).split("at most ")[1].split(",")[0])
  train(corpus, tmp_path / "out", kind, vocab_size=largest)
  tokenizer = tokenizers.make(f"{MAKE[kind]}:{tmp_path / 'out'}")
  texts = [tokenizer.decode([index]) for index in range(largest)]
  assert "house" in "".join(texts)
  assert max(sum(map(str.isdigit, text)) for text in texts) == 1
  with pytest.raises(ConfigError, match=f"at most {largest}, .* got {largest + 1}"):
    train(corpus, tmp_path / "more", kind, vocab_size=largest + 1)


def test_characters_count_toward_the_smallest_vocabulary(tmp_path):
  letters = "".join(map(chr, range(0x4E00, 0x4E00 + 60)))
  (tmp_path / "many.txt").write_text("\n".join([letters] * 5))
  with pytest.raises(ConfigError, match=r"at least 32\d, .* characters .* got 300"):
    train(tmp_path, tmp_path / "out", "sentencepiece")


@kinds
def test_an_output_that_exists_is_left_alone(corpus, tmp_path, kind):
  output = tmp_path / "out"
  output.mkdir()
  (output / "mine").write_text("kept")
  with pytest.raises(ConfigError, match=f"{output} exists already and is not"):
    train(corpus, output, kind)
  assert contents(output) == {"mine": b"kept"}


def test_an_output_that_cannot_be_made_is_named(corpus, tmp_path):
  with pytest.raises(ConfigError, match="cannot write"):
    train(corpus, corpus / "one.txt" / "out", "bpe")


def test_a_new_directory_is_whole_or_absent(tmp_path):
  with pytest.raises(KeyboardInterrupt):
    with files.new_directory(tmp_path / "out") as directory:
      (directory / "half").write_text("")
      raise KeyboardInterrupt
  assert list(tmp_path.iterdir()) == []
  with files.new_directory(tmp_path / "out") as directory:
    (directory / "file").write_text("whole")
    assert not (tmp_path / "out").exists()
  assert contents(tmp_path / "out") == {"file": b"whole"}
  assert os.listdir(tmp_path) == ["out"]
