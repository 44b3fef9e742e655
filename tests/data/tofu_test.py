"""Files of TOFU's format are read, divided and encoded; wrong ones are named."""

import json
import os
import pathlib

import pytest

from tests import tofu_files
from undo_jax.data import tofu
from undo_jax.data.tofu import Question
from undo_jax.data.tokenizers import ByteTokenizer
from undo_jax.utils.types import ConfigError


@pytest.fixture
def directory(tmp_path):
  tofu_files.write(tmp_path)
  return tmp_path


def test_lines_are_questions_with_what_is_asked_for(directory):
  path = directory / "forget_perturbed.json"
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  full = tofu.read(path, perturbed=True, paraphrased=True)
  assert len(full) == 60
  for number, (row, question) in enumerate(zip(rows, full, strict=True), start=1):
    assert question == Question(
      row["question"],
      row["answer"],
      f"{path}, line {number}",
      row["paraphrased_answer"],
      tuple(row["perturbed_answer"]),
    )
  plain = tofu.read(path)
  assert [q[:2] for q in plain] == [q[:2] for q in full]
  assert {(q.paraphrase, q.perturbed) for q in plain} == {("", ())}
  authors = tofu.read(directory / "real_authors.json", perturbed=True)
  assert all(q.paraphrase == q.answer and q.perturbed for q in authors)


def test_authors_are_blocks_of_twenty(directory):
  questions = tofu.read(directory / "retain.json")
  authors = tofu.authors(questions, 3, field="n")
  assert [{q.question.split()[0] for q in own} for own in authors] == [
    {"R0"},
    {"R1"},
    {"R2"},
  ]
  assert len(tofu.authors(questions, None, field="n")) == 4
  with pytest.raises(ConfigError, match="n: expected at most 4, the authors in .*, go"):
    tofu.authors(questions, 5, field="n")
  with pytest.raises(ConfigError, match="expected 20 lines of each author .* 79 lines"):
    tofu.authors(questions[:-1], None, field="n")


@pytest.mark.parametrize("share, count", [(0.5, 10), (0.26, 5), (0.001, 1), (0.99, 19)])
def test_texts_alone_decide_who_is_attacked(directory, share, count):
  for own in tofu.authors(tofu.read(directory / "forget.json"), None, field="n"):
    attacked, scored = tofu.divide(own, share)
    assert len(attacked) == count and len(scored) == 20 - count
    assert sorted(attacked + scored) == sorted(own)
    turned = tofu.divide(own[::-1], share)
    assert sorted(turned[0]) == sorted(attacked)
  positions = [own.index(question) for question in attacked]
  assert positions == sorted(positions)


def test_divisions_of_authors_differ(directory):
  authors = tofu.authors(tofu.read(directory / "forget.json"), None, field="n")
  divided = [tofu.divide(own, 0.5)[0] for own in authors]
  numbers = {tuple(q.question.split()[1] for q in own) for own in divided}
  assert len(numbers) == len(authors), "else places decide and not texts"


def test_questions_get_their_wrong_answers_from_the_other_file(directory):
  kept = tofu.read(directory / "retain.json")
  others = tofu.read(
    directory / "retain_perturbed.json", perturbed=True, paraphrased=True
  )
  assert tofu.with_answers(kept[30:50], others) == others[30:40]
  changed = [kept[0]._replace(answer="Another.")]
  assert tofu.with_answers(changed, others) == []


def test_items_are_spread_evenly():
  assert tofu.spread(range(10), 4) == [0, 2, 5, 7]
  assert tofu.spread(range(3), 5) == tofu.spread(range(3), None) == [0, 1, 2]
  assert tofu.spread(range(3), 0) == []


def test_a_question_in_both_files_is_refused(directory):
  kept = tofu.read(directory / "retain.json")
  tofu.check_apart(tofu.read(directory / "forget.json"), kept)
  with pytest.raises(
    ConfigError, match="both forgotten and retained, got 'R0 3\\?' in"
  ):
    tofu.check_apart(kept[3:4], kept)


def test_prompt_and_answer_are_divided_before_white_space():
  encode = tofu.by_template("Q: {question}\nA: {answer}", ByteTokenizer())
  pair = encode("Why?", "So.", place="x")
  decode = ByteTokenizer().decode
  assert (decode(pair.given), decode(pair.scored)) == ("Q: Why?\nA:", " So.")


class Joined(ByteTokenizer):
  """Joins ": S"."""

  def encode(self, text):
    return super().encode(text.replace(": S", "\N{SNOWMAN}"))


def test_a_tokenizer_that_joins_is_refused():
  encode = tofu.by_template("{question}: {answer}", Joined())
  assert encode("Why?", "No.", place="x").scored
  message = (
    r"tokenizer: expected the answer 'So.' \(x, line 2\) to begin a token of its"
  )
  with pytest.raises(ConfigError, match=message):
    encode("Why?", "So.", place="x, line 2")


@pytest.mark.parametrize(
  "template",
  [
    "{question}",
    "{answer}",
    "{answer} {question}",
    "{question}{answer}.",
    "{question}{question}{answer}",
    "{answer}{question}{answer}",
  ],
)
def test_wrong_templates_are_refused(template):
  with pytest.raises(ConfigError, match="config.data.template: expected text with"):
    tofu.check_template(template)
  tofu.check_template("{question} {answer}")


PAIR = '"question": "a", "answer": "b", "paraphrased_answer": "c"'
WRONG = {
  "[1]": "expected the fields question, answer, .* line 2, but question, answer, ",
  f"{{{PAIR}": "expected JSON in .* line 2, got something else",
  '{"question": "a", "answer": ""}': "line 2, but answer, paraphrased_answer, perturb",
  f"{{{PAIR}}}": "but perturbed_answer is missing or empty",
  f'{{{PAIR}, "answer": 1, "perturbed_answer": ["d"]}}': "expected texts in .* line 2",
  f'{{{PAIR}, "perturbed_answer": "d"}}': "in its perturbed_answer a list of them, got",
}


@pytest.mark.parametrize("line, message", WRONG.items())
def test_wrong_lines_are_named(tmp_path, line, message):
  path = tmp_path / "file.json"
  path.write_text(f"{json.dumps(tofu_files.record('F', 1))}\n{line}\n")
  with pytest.raises(ConfigError, match=message) as error:
    tofu.read(path, perturbed=True, paraphrased=True)
  assert "\n" not in str(error.value)


def test_missing_empty_and_broken_files_are_named(tmp_path):
  path = tmp_path / "file.json"
  with pytest.raises(ConfigError, match="expected a file of TOFU at .*, got none"):
    tofu.read(path)
  assert tofu.content([path]) == [""]
  path.write_text("\n")
  with pytest.raises(ConfigError, match="expected questions in .*, got none"):
    tofu.read(path)
  path.write_bytes(b"\xff")
  with pytest.raises(ConfigError, match="expected UTF-8 in"):
    tofu.read(path)


@pytest.mark.skipif(
  "UNDO_JAX_TOFU" not in os.environ,
  reason="needs the benchmark's files: UNDO_JAX_TOFU=DIRECTORY",
)
def test_the_published_files_are_read():
  directory = pathlib.Path(os.environ["UNDO_JAX_TOFU"])
  more = {"perturbed": True, "paraphrased": True}
  forget, kept = (tofu.read(directory / f"{n}.json") for n in ("forget10", "retain90"))
  assert len(tofu.authors(forget, None, field="n")) == 20
  assert len(tofu.authors(kept, None, field="n")) == 180
  tofu.check_apart(forget, kept)
  others = tofu.read(directory / "forget10_perturbed.json", **more)
  assert tofu.with_answers(forget, others) == others
  others = tofu.read(directory / "retain_perturbed.json", **more)
  assert tofu.with_answers(kept, others) == others and len(others) == 400
  for name, count in (("real_authors", 100), ("world_facts", 117)):
    questions = tofu.read(directory / f"{name}_perturbed.json", perturbed=True)
    assert [len(q.perturbed) for q in questions] == [3] * count
