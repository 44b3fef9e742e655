"""Questions come from files of the releases' formats, and wrong files are named."""

import hashlib
import json

import pyarrow
from pyarrow import parquet
import pytest

from undo_jax.data import questions
from undo_jax.data.questions import Question
from undo_jax.utils.types import ConfigError

ROWS = [
  {"question": "Which is red?", "choices": ["sky", "blood", "sea", "sun"], "answer": 1},
  {"question": " Wie viele? \n", "choices": ["1", "2", "", "grün"], "answer": 3},
  {"question": "Which is cold?", "choices": ["ice", "a", "b", "c"], "answer": 0},
]
EXPECTED = [Question(r["question"], tuple(r["choices"]), r["answer"]) for r in ROWS]


def write(path, rows):
  """Write rows in the format that the suffix names, by the libraries alone."""
  path.parent.mkdir(parents=True, exist_ok=True)
  if path.suffix == ".parquet":
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
  elif path.suffix == ".json":
    path.write_text(json.dumps(rows, indent=1))
  else:
    path.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
  return str(path)


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".json"])
def test_all_formats_give_the_same_questions(tmp_path, suffix):
  rows = [row | {"doi": "unread"} for row in ROWS]
  assert questions.read([write(tmp_path / f"q{suffix}", rows)]) == EXPECTED


def test_globs_read_each_file_once_in_order(tmp_path):
  write(tmp_path / "b" / "test-00001.jsonl", ROWS[2:])
  first = write(tmp_path / "b" / "test-00000.parquet", ROWS[:2])
  write(tmp_path / "b" / "dev-00000.parquet", ROWS)
  patterns = [str(tmp_path / "**" / "test-*"), first]
  assert questions.read(patterns) == EXPECTED
  assert questions.content(patterns) == [
    hashlib.sha256((tmp_path / "b" / name).read_bytes()).hexdigest()
    for name in ("test-00000.parquet", "test-00001.jsonl")
  ]


def test_the_subject_is_read_where_it_is_asked_for(tmp_path):
  rows = [row | {"subject": "world_religions"} for row in ROWS]
  path = write(tmp_path / "q.parquet", rows)
  assert [q.subject for q in questions.read([path])] == [""] * 3
  read = questions.read([path], has_subject=True)
  assert [q.subject for q in read] == ["world_religions"] * 3


WRONG = {
  "three choices": ({"choices": ["a", "b", "c"]}, "4 choices, each a text, in"),
  "no texts": ({"choices": ["a", "b", "c", 4]}, r"got \['a', 'b', 'c', 4\]"),
  "one text": ({"choices": "abcd"}, "4 choices, each a text, in .* got 'abcd'"),
  "large answer": ({"answer": 4}, "an answer from 0 to 3 in .* got 4; mend or"),
  "negative answer": ({"answer": -1}, "an answer from 0 to 3 in .* got -1"),
  "letter": ({"answer": "B"}, "an answer from 0 to 3 in .* got 'B'"),
  "truth": ({"answer": True}, "an answer from 0 to 3 in .* got True"),
  "no answer": ({"answer": None}, r"the columns question, .* \(answer missing or"),
  "no question": ({"question": None}, r"\(question missing or empty\)"),
  "blank question": ({"question": " \n"}, "a question that is text in"),
}


@pytest.mark.parametrize("change, message", WRONG.values(), ids=WRONG)
def test_a_wrong_row_is_named(tmp_path, change, message):
  rows = [ROWS[0], ROWS[1] | change, ROWS[2]]
  # Lines of the .jsonl file: 1, 3 and 5.
  path = write(tmp_path / "q.jsonl", rows)
  with pytest.raises(ConfigError, match=message) as caught:
    questions.read([path])
  assert f"{path}, line 3" in str(caught.value)
  path = write(tmp_path / "q.json", rows)
  with pytest.raises(ConfigError, match=message) as caught:
    questions.read([path])
  assert f"{path}, row 2" in str(caught.value)


def test_a_missing_column_is_named_in_parquet_too(tmp_path):
  rows = [{"question": "?", "options": ["a"] * 4, "answer": 0}]
  path = write(tmp_path / "q.parquet", rows)
  message = r"q.parquet, row 1, got 'question', 'options', 'answer' \(choices missing"
  with pytest.raises(ConfigError, match=message):
    questions.read([path])
  path = write(tmp_path / "good.parquet", ROWS)
  with pytest.raises(ConfigError, match=r"good.parquet, row 1.*\(subject missing"):
    questions.read([path], has_subject=True)


CONTENTS = {
  "cut.jsonl": (b'{"question": "a', "expected JSON in .*cut.jsonl, line 1"),
  "list.jsonl": (b"[1, 2]", "line 1, got list"),
  "object.json": (b'{"question": "a"}', "a list in .* got dict"),
  "cut.json": (b'[{"question": "a"', "expected JSON in .*cut.json, got something"),
  "latin.jsonl": ('{"question": "grün"}'.encode("latin-1"), "expected UTF-8 in"),
  "cut.parquet": (b"PAR1", "expected a Parquet file, but .*cut.parquet"),
  "empty.jsonl": (b"\n\n", "expected questions in .*empty.jsonl, got none"),
  "empty.json": (b"[]", "expected questions in .*empty.json, got none"),
  "table.csv": (b"a,b", r"expected .parquet, .jsonl, .json files .*, got .*table.csv"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_broken_file_is_one_clear_line(tmp_path, name):
  data, message = CONTENTS[name]
  (tmp_path / name).write_bytes(data)
  with pytest.raises(ConfigError, match=message):
    questions.read([str(tmp_path / name)])


def test_a_pattern_without_a_file_is_named(tmp_path):
  with pytest.raises(ConfigError, match="none matches .*nothing.parquet"):
    questions.read([str(tmp_path / "nothing.parquet")])


def test_the_prompt_is_the_papers():
  question = Question(" Which is red?\n", ("sky", "blood", "sea", "sun"), 1)
  text = "Which is red?\nA. sky\nB. blood\nC. sea\nD. sun\nAnswer:"
  assert questions.prompt(question) == text
  assert questions.worked(question) == text + " B"
  task = questions.wmdp_task("wmdp_cyber", [question])
  first = (
    "The following are multiple choice questions (with answers) about cybersecurity."
  )
  assert questions.context(task, question) == f"{first}\n\n{text}"
  with pytest.raises(ConfigError, match="one of wmdp_bio, .* got 'wmdp_physics'"):
    questions.wmdp_task("wmdp_physics", [question])


def test_a_cloze_task_shows_no_choices_and_scores_their_texts():
  pair = [Question(" Red?\n", ("sky", "blood", "sea", "sun"), 1), EXPECTED[2]]
  task = questions.QuestionSet("t", "First.\n", (pair[0],), (pair[1],), is_cloze=True)
  assert questions.context(task, pair[0]) == (
    "First.\nWhich is cold?\nAnswer: ice\n\nRed?\nAnswer:"
  )
  assert questions.continuations(task, pair[0]) == [" sky", " blood", " sea", " sun"]


def test_other_forms_of_wmdp_are_those_of_deep_ignorance():
  question = Question(" Red?\n", ("sky", "blood", "sea", "sun"), 1)
  robust = questions.wmdp_task("wmdp_bio_robust", [question])
  plain = questions.wmdp_task("wmdp_bio", [question])
  assert robust._replace(name="wmdp_bio") == plain
  task = questions.wmdp_task("wmdp_bio_cloze", [question])
  assert questions.context(task, question) == (
    "Complete the following biology questions with the correct answer.\n\n"
    "Question: Red?\nAnswer:"
  )
  assert questions.continuations(task, question)[1] == " blood"
  assert task.is_normalized and not plain.is_normalized
  assert "chemistry" in questions.wmdp_task("wmdp_chem_cloze", [question]).description


def mmlu(counts, name):
  return [
    Question(f"{name} {subject} {i}", ("a", "b", "c", "d"), i % 4, subject)
    for subject, count in counts.items()
    for i in range(count)
  ]


def test_mmlu_has_a_task_for_each_subject_with_its_own_first_shots():
  scored = mmlu({"world_religions": 3, "anatomy": 2}, "test")
  shown = mmlu({"anatomy": 2, "world_religions": 4}, "dev")
  tasks = questions.mmlu_tasks(scored[::-1], shown, num_shots=2)
  assert [task.name for task in tasks] == ["mmlu_anatomy", "mmlu_world_religions"]
  assert [q.question for q in tasks[1].shots] == [
    "dev world_religions 0",
    "dev world_religions 1",
  ]
  assert questions.context(tasks[1], scored[2]) == (
    "The following are multiple choice questions (with answers) about world religions."
    "\n\n"
    "dev world_religions 0\nA. a\nB. b\nC. c\nD. d\nAnswer: A\n\n"
    "dev world_religions 1\nA. a\nB. b\nC. c\nD. d\nAnswer: B\n\n"
    "test world_religions 2\nA. a\nB. b\nC. c\nD. d\nAnswer:"
  )
  with pytest.raises(ConfigError, match="3 examples of the subject 'anatomy', got 2"):
    questions.mmlu_tasks(scored, shown, num_shots=3)


@pytest.mark.parametrize(
  "limit, count", [(None, 7), (3, 3), (9, 7), (0.4, 3), (0.07, 1), (1, 1)]
)
def test_a_limit_counts_as_the_harness_does(limit, count):
  task = questions.wmdp_task("wmdp_bio", mmlu({"": 7}, "test"))
  assert questions.limited(task, limit).questions == task.questions[:count]
