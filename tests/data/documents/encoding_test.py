"""Documents to ids: the same by any number of workers, one of which may be killed."""

import json
import os
import random
import shutil

import numpy as np
import psutil
import pyarrow as pa
from pyarrow import parquet
import pytest
import tokenizers as hf
from tokenizers import models, normalizers, pre_tokenizers, trainers

from tests.data.documents.prepared import (
  contents,
  make_texts,
  prepare,
  texts_of,
  write_jsonl,
)
from undo_jax.data import rows, tokenizers
from undo_jax.data.documents import encoding, preparation
from undo_jax.data.documents import files as document_files
from undo_jax.utils.types import ConfigError


@pytest.fixture
def mixed(tmp_path):
  """Two sources of all formats."""
  folder = tmp_path / "mixed"
  folder.mkdir()
  texts = make_texts(90, seed=1)
  write_jsonl(folder / "a.jsonl", texts[:30])
  (folder / "b.txt").write_bytes("\r\n\r\n".join(texts[30:50]).encode("utf-8-sig"))
  parquet.write_table(pa.table({"text": texts[50:]}), folder / "c.parquet")
  for n in range(5):
    (folder / f"page{n}.html").write_text(f"<nav>no</nav><p>page {n}<p>{texts[n]}")
  pairs = [{"q": f"what is {n}?", "a": f"{n * n}"} for n in range(60)]
  write_jsonl(tmp_path / "pairs.jsonl", pairs)
  return {
    "texts": preparation.Source(paths=[str(folder)], validation_fraction=0.2),
    "pairs": preparation.Source(
      paths=[str(tmp_path / "pairs.jsonl")],
      question_field="q",
      answer_field="a",
      validation_fraction=0.2,
      max_documents=40,
    ),
  }


@pytest.mark.processes
@pytest.mark.parametrize("mode", ["packed", "reference"])
def test_the_number_of_workers_changes_no_byte(tmp_path, monkeypatch, mixed, mode):
  monkeypatch.setattr(document_files, "CHUNK_BYTES", 200)
  outputs = []
  for num_workers in (1, 2):
    settings = {"packing": mode, "length": 64}  # Holds a question with its answer.
    prepare(tmp_path / "out", mixed, num_workers=num_workers, **settings)
    outputs.append(contents(tmp_path / "out"))
    rows.source.cache_clear()
    shutil.rmtree(tmp_path / "out")
  assert outputs[0] == outputs[1]
  assert len([name for name in outputs[0] if "array_record" in name]) == 4


@pytest.mark.processes
def test_one_huge_document(tmp_path):
  text = " ".join(make_texts(90_000))
  assert len(text) > 2 * document_files.PIECE_CHARACTERS
  (tmp_path / "a.txt").write_text(text, encoding="utf-8")
  source = preparation.Source(
    paths=[str(tmp_path / "a.txt")], lines=False, validation_fraction=0.0
  )
  prepare(tmp_path / "out", {"a": source}, length=1024, num_workers=2)
  read = rows.source(tmp_path / "out", length=1024, split="a_train")
  tokens = np.concatenate(
    [read[index]["tokens"][:-1] for index in range(len(read) - 1)]
  )
  expected = np.frombuffer(text.encode(), np.uint8).astype(int) + 3
  np.testing.assert_array_equal(tokens[1:], expected[: len(tokens) - 1])
  assert len(expected) - len(tokens) < 1024


def test_empty_documents_are_refused_or_left_out(tmp_path):
  parquet.write_table(pa.table({"text": ["a", None, "b", " "]}), tmp_path / "a.parquet")
  options = {"paths": [str(tmp_path / "a.parquet")], "validation_fraction": 0.0}
  with pytest.raises(ConfigError, match="source 'a': .*a.parquet, row 2 has none; rem"):
    prepare(tmp_path / "out", {"a": preparation.Source(**options)})
  source = preparation.Source(**options, skip_empty=True)
  assert prepare(tmp_path / "out", {"a": source})["sources"]["a"]["empty"] == 2
  assert texts_of(tmp_path / "out", "a_train") == ["a", "b"]


@pytest.mark.processes
def test_a_killed_worker_ends_the_preparation(tmp_path, monkeypatch):
  monkeypatch.setattr(document_files, "CHUNK_BYTES", 100)
  path = write_jsonl(tmp_path / "a.jsonl", make_texts(2000))

  killed = []

  def kill(status):
    if status.documents and not killed:
      killed.extend(
        child
        for child in psutil.Process().children()
        if "spawn_main" in " ".join(child.cmdline())
      )
      killed[0].kill()

  with pytest.raises(RuntimeError, match="worker process was killed"):
    sources = {"a": preparation.Source(paths=[path])}
    prepare(tmp_path / "out", sources, num_workers=2, progress=kill)
  assert os.listdir(tmp_path) == ["a.jsonl"]


@pytest.mark.parametrize("is_marked", [False, True])
def test_long_documents_have_the_ids_that_the_library_gives_the_whole(
  tmp_path, monkeypatch, is_marked
):
  words = ["the", "model", "forgets", "what", "it", "was", "told"]
  text = " ".join(random.Random(0).choices(words, k=500))
  upstream = hf.Tokenizer(models.BPE(unk_token="<unk>"))
  if is_marked:  # As Llama-2's: a mark before each text, no words before merges.
    mark = normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")
    upstream.normalizer = normalizers.Sequence(list(mark))
  else:
    upstream.pre_tokenizer = pre_tokenizers.Metaspace()
  special = ["<unk>", "<eos>"]
  trainer = trainers.BpeTrainer(
    vocab_size=80, special_tokens=special, show_progress=False
  )
  upstream.train_from_iterator([word + " " for word in words] * 9, trainer)
  upstream.save(str(tmp_path / "tokenizer.json"))
  naming = json.dumps({"eos_token": "<eos>", "unk_token": "<unk>"})
  (tmp_path / "tokenizer_config.json").write_text(naming)
  (tmp_path / "book.txt").write_text(text)
  monkeypatch.setattr(document_files, "PIECE_CHARACTERS", 300)
  tokenizer = tokenizers.make(f"huggingface:{tmp_path}")
  source = preparation.Source(paths=[str(tmp_path / "book.txt")])
  [chunk] = document_files.chunks([tmp_path / "book.txt"], source)
  encoded = encoding.encode(chunk, source, tokenizer)
  assert encoded.ids.tolist() == upstream.encode(text, add_special_tokens=False).ids
