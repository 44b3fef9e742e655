"""The command as a user runs it: two languages out of mixed files."""

import json

import pytest

from tests import children
from undo_jax.data import tokenizers

pytestmark = pytest.mark.processes


def prepare(tmp_path, *arguments):
  return children.run("prepare_language", *arguments, cwd=tmp_path)


def test_lines_that_match_become_texts_and_a_tokenizer_of_both(tmp_path):
  english = [f"the cat {n} sat on the mat" for n in range(9)]
  korean = [f"고양이 {n} 매트 위에" for n in range(9)]
  (tmp_path / "en.txt").write_text("\n".join([*english, english[0], "short"]))
  (tmp_path / "ko.txt").write_text("\n".join([*korean, "not of this language"]))
  status, printed, said = prepare(
    tmp_path,
    *("--retain=en.txt", "--forget=ko.txt", "--forget_lines=[가-힣]"),
    *("--min_characters=10", "--vocab_size=280", "--output=out"),
  )
  assert status == 0, said
  for name, expected in (("retain", english), ("forget", korean)):
    lines = (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == expected
  output = printed.splitlines()
  assert output[0] == "retain: 9 documents, 0.0 million characters"
  assert output[-1] == "tokenizer: vocabulary 280"
  made = tokenizers.make(f"huggingface:{tmp_path / 'out' / 'tokenizer'}")
  assert made.vocab_size == 280
  assert made.decode(made.encode(korean[3])) == korean[3]


def test_a_path_without_files_is_one_line_and_leaves_nothing(tmp_path):
  wrong = ("--retain=no.txt", "--forget=no.txt", "--output=out")
  status, _, said = prepare(tmp_path, *wrong)
  assert status == 2 and "none matches 'no.txt'" in said
  assert len(said.splitlines()) == 1 and not list(tmp_path.iterdir())
