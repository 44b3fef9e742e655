"""Rows hold what brute force packs; workers, paths and kills change no byte."""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import psutil
import pytest

from tests.data.documents.prepared import (
  LENGTH,
  contents,
  is_held_out,
  make_texts,
  prepare,
  stream_of,
  texts_of,
  write_jsonl,
)
from undo_jax.data.documents import files as document_files
from undo_jax.data.documents import preparation
from undo_jax.data.tokenizers import training as tokenizer_training
from undo_jax.utils.types import ConfigError

ROOT = pathlib.Path(preparation.__file__).parents[3]


def test_every_document_is_in_the_rows_of_its_split_in_order(tmp_path):
  texts = make_texts(200)
  source = preparation.Source(
    paths=[write_jsonl(tmp_path / "a.jsonl", texts)], validation_fraction=0.2
  )
  summary = prepare(tmp_path / "out", {"english": source})["sources"]["english"]
  for split, held_out in (("train", False), ("validation", True)):
    expected = [text for text in texts if is_held_out(text, 0.2) == held_out]
    assert texts_of(tmp_path / "out", f"english_{split}") == expected
    tokens, mask = stream_of(tmp_path / "out", f"english_{split}")
    assert min(mask) == 1
    assert summary["documents"][split] == len(expected)
    assert summary["tokens"][split] == sum(len(text.encode()) for text in expected)
    assert summary["scored_tokens"][split] == len(tokens) - 1
    assert summary["rows"][split] == -(-(len(tokens) - 1) // LENGTH)
  assert summary["bytes"] == sum(len(text.encode()) for text in texts)
  data = (tmp_path / "a.jsonl").read_bytes()
  assert summary["files"] == [
    {
      "path": str(tmp_path / "a.jsonl"),
      "sha256": hashlib.sha256(data).hexdigest(),
      "bytes": len(data),
    }
  ]
  assert json.loads((tmp_path / "out" / "documents.json").read_text())["sources"] == {
    "english": summary
  }


@pytest.mark.processes
def test_an_error_of_any_process_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
  monkeypatch.setattr(document_files, "CHUNK_BYTES", 100)
  lines = [text.encode() for text in make_texts(50)]
  lines[31] = b"bad \xff"
  (tmp_path / "a.txt").write_bytes(b"\n".join(lines))
  source = preparation.Source(paths=[str(tmp_path / "a.txt")])
  messages = []
  for num_workers in (1, 2):
    with pytest.raises(ConfigError) as error:
      prepare(tmp_path / "out", {"a": source}, num_workers=num_workers)
    messages.append(str(error.value))
  assert messages[0] == messages[1]
  assert messages[0].startswith(f"source 'a': expected UTF-8, but {tmp_path}/a.txt, l")
  assert "line 32, has the byte 0xff at position 4" in messages[0]
  assert os.listdir(tmp_path) == ["a.txt"]
  # What is read ahead of a limit is not wanted, nor are its errors.
  limited = preparation.Source(
    paths=[str(tmp_path / "a.txt")], max_documents=20, validation_fraction=0.0
  )
  for num_workers in (1, 2):
    prepare(tmp_path / f"out{num_workers}", {"a": limited}, num_workers=num_workers)
  assert contents(tmp_path / "out1") == contents(tmp_path / "out2")


@pytest.mark.parametrize(
  "texts, options, settings, message",
  [
    (["one"], {"validation_fraction": 0.5}, {}, "source 'a': expected documents in "),
    (["x" * 40], {}, {"packing": "one_per_row"}, "source 'a': a document of 40 tokens"),
    (["a"], {}, {"packing": "sliding"}, "packing: expected one of"),
    (["a"], {}, {"length": 1}, "length: expected an integer of at least 2, got 1"),
    (["a"], {}, {"seed": -1}, "seed: expected an integer of at least 0"),
    (["a"], {}, {"num_workers": 0}, "num_workers: expected an integer of at least 1"),
    (["a"], {}, {"tokenizer": "words"}, "unknown data.tokenizer 'words'"),
    (
      ["é"],
      {},
      {"tokenizer": "characters:ascii"},
      "a.jsonl, line 1: the character 'é'",
    ),
  ],
)
def test_wrong_settings_are_named_and_nothing_is_left(
  tmp_path, texts, options, settings, message
):
  path = write_jsonl(tmp_path / "a.jsonl", texts)
  source = preparation.Source(paths=[path], **({"validation_fraction": 0.0} | options))
  with pytest.raises(ConfigError, match=message) as error:
    prepare(tmp_path / "out", {"a": source}, **settings)
  assert "\n" not in str(error.value)
  assert os.listdir(tmp_path) == ["a.jsonl"]


def test_names_of_sources_are_checked(tmp_path):
  source = preparation.Source(paths=[write_jsonl(tmp_path / "a.jsonl", ["a"])])
  for sources in ({"../up": source}, {"a-b": source}, {"": source}, {}):
    with pytest.raises(ConfigError, match="sources: expected"):
      prepare(tmp_path / "out", sources)
  missing = preparation.Source(paths=["/nowhere/x.txt"])
  with pytest.raises(ConfigError, match="source 'b': expected files, but none matches"):
    prepare(tmp_path / "out", {"a": source, "b": missing})


def test_what_is_done_is_not_done_again(tmp_path):
  path = write_jsonl(tmp_path / "a.jsonl", make_texts(50))
  source = preparation.Source(paths=[path], validation_fraction=0.2)
  seen = []
  first = prepare(tmp_path / "out", {"a": source}, progress=seen.append)
  assert (seen[0].documents, seen[-1].documents) == (0, 50)
  assert seen[-1].file_bytes == seen[-1].total_bytes == os.path.getsize(path)
  assert seen[-1].num_bytes == first["sources"]["a"]["bytes"] == seen[-1].tokens
  before = contents(tmp_path / "out")
  moved = str(shutil.move(path, tmp_path / "moved.jsonl"))
  source = preparation.Source(paths=[moved], validation_fraction=0.2)
  again = prepare(tmp_path / "out", {"a": source}, progress=lambda status: 1 / 0)
  assert again == first
  with pytest.raises(
    ConfigError, match="holds documents with other seed; give another"
  ):
    prepare(tmp_path / "out", {"a": source}, seed=4)
  for name in ("one", "other"):  # A tokenizer may move as well.
    shutil.rmtree(tmp_path / "one", ignore_errors=True)
    tokenizer_training.train([moved], tmp_path / name, kind="bpe", vocab_size=262)
    tokenizer = f"huggingface:{tmp_path / name}"
    prepare(tmp_path / "by_merges", {"a": source}, tokenizer=tokenizer)
  pathlib.Path(moved).write_text('{"text": "other"}')
  with pytest.raises(ConfigError, match="holds documents with other sources"):
    prepare(tmp_path / "out", {"a": source})
  assert contents(tmp_path / "out") == before
  (tmp_path / "mine").mkdir()
  (tmp_path / "mine" / "file").write_text("kept")
  with pytest.raises(ConfigError, match="exists already and is not overwritten"):
    prepare(tmp_path / "mine", {"a": source})


def test_a_file_that_changes_meanwhile_is_refused(tmp_path):
  path = write_jsonl(tmp_path / "a.jsonl", make_texts(50))
  source = preparation.Source(paths=[path], validation_fraction=0.2)

  def change(status):
    if status.documents:
      pathlib.Path(path).write_text('{"text": "changed"}')

  with pytest.raises(ConfigError, match="a.jsonl changed while it was read"):
    prepare(tmp_path / "out", {"a": source}, progress=change)
  assert os.listdir(tmp_path) == ["a.jsonl"]


# Without `if __name__ == "__main__"`: workers do not import the program.
SCRIPT = f"""
import os, sys, time
sys.path[:0] = {[str(ROOT), *sys.path]!r}
from undo_jax.data.documents import files as document_files, preparation
document_files.CHUNK_BYTES = 1000
print("started", flush=True)
def progress(status):
  print(status.documents, flush=True)
  time.sleep(0.2)
preparation.prepare(
  "out",
  sources={{"a": preparation.Source(paths=["a.jsonl"], validation_fraction=0.1)}},
  tokenizer="bytes", length=16, packing="packed", seed=3, num_workers=2,
  progress=progress,
)
"""


@pytest.mark.processes
def test_a_kill_leaves_no_process_and_the_rerun_ends_with_the_same(
  tmp_path, tmp_path_factory
):
  program = tmp_path_factory.mktemp("program") / "program.py"
  program.write_text(SCRIPT)
  write_jsonl(tmp_path / "a.jsonl", make_texts(800))
  process = subprocess.Popen(
    [sys.executable, program], cwd=tmp_path, stdout=subprocess.PIPE, text=True
  )
  assert process.stdout is not None
  assert [process.stdout.readline() for _ in range(2)] == ["started\n", "0\n"]
  assert int(process.stdout.readline()) > 0
  workers = psutil.Process(process.pid).children(recursive=True)
  assert len(workers) >= 2
  process.send_signal(signal.SIGKILL)
  output, _ = process.communicate()
  assert "started" not in output
  _, alive = psutil.wait_procs(workers, timeout=10)
  assert not alive
  left = set(os.listdir(tmp_path)) - {"a.jsonl"}
  assert len(left) == 1 and left.pop().startswith(".out.")
  source = preparation.Source(
    paths=[str(tmp_path / "a.jsonl")], validation_fraction=0.1
  )
  prepare(tmp_path / "out", {"a": source}, num_workers=2)
  assert sorted(os.listdir(tmp_path)) == ["a.jsonl", "out"]
  prepare(tmp_path / "undisturbed", {"a": source})
  undisturbed, rerun = contents(tmp_path / "undisturbed"), contents(tmp_path / "out")
  assert undisturbed == rerun


# MARK: before compute


def test_check_finds_what_is_wrong_at_the_beginning_of_any_file(tmp_path, monkeypatch):
  good = write_jsonl(tmp_path / "a.jsonl", make_texts(10))
  preparation.check(preparation.Source(paths=[good]))
  wrong = {
    "b.txt": (b"fine\n\xff", "b.txt, line 2, has the byte 0xff"),
    "b.jsonl": (b'{"text": "a"}\n{"text": ""}', "b.jsonl, line 2 has none; remove it"),
    "c.jsonl": (b'{"body": "a"}', r"c.jsonl, line 1, got the fields \['body'\]"),
    "d.txt": (b"\n \n", "d.txt has only empty ones"),
    "e.txt": (b"", "e.txt is empty"),
  }
  for name, (content, message) in wrong.items():
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
      preparation.check(preparation.Source(paths=[good, str(tmp_path / name)]))
  # But not all of each file, nor all files that are a document each.
  monkeypatch.setattr(preparation, "CHECKED_BYTES", 10)
  monkeypatch.setattr(document_files, "CHUNK_BYTES", 10)
  (tmp_path / "late.txt").write_bytes(b"fine line\n" * 9 + b"\xff")
  (tmp_path / "later.txt").write_bytes(b"\xff")
  paths = [str(tmp_path / "late.txt")]
  preparation.check(preparation.Source(paths=paths))
  with pytest.raises(ConfigError, match="late.txt, line 10, has the byte 0xff"):
    prepare(tmp_path / "out", {"a": preparation.Source(paths=paths)})
  paths = [
    str(tmp_path / "a.jsonl"),
    str(tmp_path / "page.html"),
    str(tmp_path / "later.txt"),
  ]
  (tmp_path / "page.html").write_text("<p>ten bytes and more")
  preparation.check(preparation.Source(paths=paths, lines=False))
  with pytest.raises(ConfigError, match="later.txt, line 1, has the byte 0xff"):
    preparation.check(preparation.Source(paths=paths))


def test_the_fingerprint_is_of_contents_and_options(tmp_path):
  folders = []
  for name in ("one", "other"):
    folder = tmp_path / name / "deep"
    folder.mkdir(parents=True)
    write_jsonl(folder / f"{name}.jsonl", ["a"])
    (folder / "z.txt").write_text("b")
    folders.append(str(folder))
  one, other = (preparation.fingerprint(preparation.Source(paths=[f])) for f in folders)
  assert one == other == json.loads(json.dumps(one))
  assert [file["format"] for file in one["files"]] == ["jsonl", "text"]
  assert one["files"][1]["sha256"] == hashlib.sha256(b"b").hexdigest()
  changed = preparation.Source(paths=[folders[0]], max_tokens=5)
  assert preparation.fingerprint(changed) != one
  (tmp_path / "one" / "deep" / "z.txt").write_text("c")
  assert preparation.fingerprint(preparation.Source(paths=[folders[0]])) != one


def test_documents_in_common_are_found_with_their_places(tmp_path):
  texts = make_texts(40)
  write_jsonl(tmp_path / "a.jsonl", texts[:30])
  (tmp_path / "b.txt").write_text("\n".join(t.upper() + " " for t in texts[28:]))
  options = {"validation_fraction": 0.0}
  sources = {
    "a": preparation.Source(paths=[str(tmp_path / "a.jsonl")], **options),
    "b": preparation.Source(paths=[str(tmp_path / "b.txt")], **options),
  }
  prepare(tmp_path / "out", sources)
  a, b = (preparation.content_hashes(tmp_path / "out", f"{n}_train") for n in "ab")
  overlap = preparation.overlap(a, b)
  assert overlap.count == 2
  assert set(overlap.examples) == {
    (f"{tmp_path}/a.jsonl, line {n}", f"{tmp_path}/b.txt, line {n - 28}")
    for n in (29, 30)
  }
  assert preparation.overlap(a, a).count == 30
  with pytest.raises(ConfigError, match="prepared split 'c_train', but there is no"):
    preparation.content_hashes(tmp_path / "out", "c_train")
