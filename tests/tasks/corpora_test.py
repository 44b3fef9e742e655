"""Splits of the user's documents: rows of two lengths, texts that none may share."""

import json

import pytest

from undo_jax.data import tokenizers
from undo_jax.tasks import corpora
from undo_jax.utils.types import ConfigError

NAMES = ("retain", "forget")


@pytest.fixture
def data(tmp_path):
  data = {
    "sequence_length": 16,
    "lengths": {"forget": 24},
    "packing": "packed",
    "tokenizer": "bytes",
  }
  for name in NAMES:
    path = tmp_path / f"{name}.jsonl"
    lines = [json.dumps({"text": f"{name} text {n}"}) for n in range(20)]
    path.write_text("\n".join(lines) + "\n")
    data[name] = {"paths": (str(path),), "validation_fraction": 0.0}
  return data


def prepare(data, directory):
  return corpora.prepare(data, NAMES, {"data": 0}, directory, "test")


def test_each_corpus_has_rows_of_its_own_length_or_that_of_all(data, tmp_path):
  prepared = prepare(data, tmp_path / "out")
  assert list(prepared) == ["retain", "forget"]
  decode = tokenizers.make("bytes").decode
  for name, size in (("retain", 16), ("forget", 24)):
    assert corpora.length(data, name) == size
    rows = corpora.read(data, tmp_path / "out", name, "train")
    assert rows[0]["tokens"].shape == (size + 1,)
    assert decode(rows[0]["tokens"]).startswith(f"{name} text")
  assert corpora.length({"sequence_length": 16, "lengths": None}, "forget") == 16


def test_texts_in_common_are_found_across_lengths(data, tmp_path):
  pairs = [("retain_train", "forget_train")]
  prepare(data, tmp_path / "apart")
  corpora.check_disjoint(data, tmp_path / "apart", pairs)
  (path,) = data["forget"]["paths"]
  with open(path, "a") as file:
    file.write(json.dumps({"text": "retain text 7"}))
  prepare(data, tmp_path / "shared")
  message = r"share 1 documents, .*retain.jsonl, line 8 and .*forget.jsonl, line 21"
  with pytest.raises(ConfigError, match=message):
    corpora.check_disjoint(data, tmp_path / "shared", pairs)


def test_texts_of_the_evaluation_are_found_with_their_places(data, tmp_path):
  prepare(data, tmp_path)
  splits = ("retain_train", "forget_train")
  corpora.check_lacks(data, tmp_path, splits, {"nowhere": "question 1"})
  message = r"forget_train holds 1 texts of .*forget.jsonl, line 4 and question 1\)"
  with pytest.raises(ConfigError, match=message):
    corpora.check_lacks(data, tmp_path, splits, {"forget text 3": "question 1"})


def test_other_text_is_other_content_and_another_path_is_not(data, tmp_path):
  first = corpora.content(data, ("forget",))
  (path,) = data["forget"]["paths"]
  moved = tmp_path / "moved.jsonl"
  with open(path) as file:
    moved.write_text(file.read())
  data["forget"]["paths"] = (str(moved),)
  assert corpora.content(data, ("forget",)) == first
  moved.write_text(moved.read_text().replace("text 3", "text 4"))
  assert corpora.content(data, ("forget",)) != first


def test_a_wrong_field_or_file_is_named_by_its_path_in_the_config(data):
  wrong = data | {"retain": data["retain"] | {"validation_fraction": 2}}
  with pytest.raises(ConfigError, match="config.data.retain.validation_fraction: "):
    corpora.source(wrong, "retain")
  for paths, message in (
    ((), "config.data.retain.paths: expected paths of documents"),
    (("no.txt",), "config.data.retain: .*none matches 'no.txt'"),
  ):
    with pytest.raises(ConfigError, match=message):
      corpora.check(data | {"retain": {"paths": paths}}, NAMES)
