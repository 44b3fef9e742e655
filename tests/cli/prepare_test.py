"""The command as a user runs it: what it prints, the same bytes, one line on error."""

import os

import pytest

from tests import children

pytestmark = pytest.mark.processes

SIZES = {"sentencepiece": 282, "bpe": 270}


def prepare(tmp_path, **flags):
  arguments = [f"--{name}={value}" for name, value in flags.items()]
  return children.run("prepare", *arguments, cwd=tmp_path)


@pytest.fixture
def corpus(tmp_path):
  lines = [f"the cat {n} sat on the mat" for n in range(9)]
  (tmp_path / "a.txt").write_text("\n".join(lines))
  (tmp_path / "b.jsonl").write_text('{"body": "the dog"}\n' * 3)
  return "a.txt,*.jsonl"


@pytest.mark.parametrize("kind", SIZES)
def test_processes_write_the_same_bytes_and_print_the_counts(tmp_path, corpus, kind):
  written = []
  for name in ("one", "two"):
    status, printed, said = prepare(
      tmp_path,
      corpus=corpus,
      kind=kind,
      vocab_size=SIZES[kind],
      output=name,
      text_field="body",
    )
    assert status == 0, said
    counts = f"12 documents, {9 * 24 + 3 * 7} bytes, vocabulary {SIZES[kind]}"
    assert printed == f"{name}: {counts}\n"
    files = sorted((tmp_path / name).iterdir())
    written.append([(file.name, file.read_bytes()) for file in files])
  assert written[0] == written[1] != []


@pytest.mark.parametrize(
  "flags, message",
  [
    ({"corpus": "nothing.txt", "output": "out"}, "none matches 'nothing.txt'"),
    ({"corpus": "a.txt", "output": "out"}, "got 8000; lower it or give more text"),
    (
      {"corpus": "b.jsonl", "output": "out"},
      "b.jsonl, line 1, got the fields",
    ),
    ({"corpus": "a.txt", "output": "out", "kind": "words"}, "kind"),
    ({"corpus": "a.txt", "output": "out", "vocab_size": "many"}, "vocab_size"),
    ({"corpus": "a.txt"}, "output"),
    (
      {"corpus": "a.txt", "output": "a.txt"},
      "a.txt exists already and is not overwritten",
    ),
  ],
)
def test_bad_input_is_one_line(tmp_path, corpus, flags, message):
  status, _, said = prepare(tmp_path, **flags)
  assert status == 2
  *started, line = said.strip().splitlines()
  assert line.startswith("error: ") and message in line
  assert all("  training " in progress for progress in started)
  assert sorted(os.listdir(tmp_path)) == ["a.txt", "b.jsonl"]
