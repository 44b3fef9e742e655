"""Few-shot prompts token by token, by hand for arithmetic and for questions."""

import numpy as np
import pytest

from undo_jax import attacks
from undo_jax.data.arithmetic import Problem
from undo_jax.data.questions import Question, QuestionSet
from undo_jax.data.tokenizers import make
from undo_jax.evaluation import arithmetic, multiple_choice
from undo_jax.tasks import generated
from undo_jax.utils.types import ConfigError

TOKENIZER = make("characters:ascii")
BOS, EOS, PAD = TOKENIZER.bos_id, TOKENIZER.eos_id, TOKENIZER.pad_id


def equation(text, answer):
  return Problem(f"{text} = ", answer, "", "multiplication", "equation", "")


def test_arithmetic_is_asked_after_documents_of_worked_problems():
  worked = [equation("2 * 3", "6"), equation("4 * 10", "40")]
  problems = {"a": [equation("7 * 8", "56")], "b": [equation("12 * 12", "144")]}
  arrays = arithmetic.encode(problems, TOKENIZER, worked)
  texts = ["2 * 3 = 6", "4 * 10 = 40"]
  before = [t for text in texts for t in (BOS, *TOKENIZER.encode(text), EOS)]
  for row, (prompt, answer) in enumerate([("7 * 8 = ", "56"), ("12 * 12 = ", "144")]):
    given = [*before, BOS, *TOKENIZER.encode(prompt)]
    scored = [*TOKENIZER.encode(answer), EOS]
    tokens = [*given, *scored]
    inputs, mask = arrays["inputs"][row], arrays["mask"][row]
    n = len(tokens) - 1
    assert inputs[:n].tolist() == tokens[:-1]
    assert set(inputs[n:].tolist()) <= {PAD}
    assert arrays["targets"][row][mask].tolist() == scored
    assert arrays["positions"][row][mask].tolist() == [*range(len(given) - 1, n)]
  plain = arithmetic.encode(problems, TOKENIZER)
  none = arithmetic.encode(problems, TOKENIZER, [])
  assert all(np.array_equal(plain[name], none[name]) for name in plain)


def test_questions_are_asked_after_worked_ones():
  question = Question("What?", ("red", "blue", "green", "grey"), 2)
  worked = Question("Who?", ("Ann", "Bob", "Cid", "Dee"), 1)
  task = QuestionSet("elixirs", "", (question,), shots=(worked,))
  arrays = multiple_choice.encode([task], TOKENIZER)
  (bucket,) = arrays["rows"].values()
  text = "".join(
    [
      "Who?\nA. Ann\nB. Bob\nC. Cid\nD. Dee\nAnswer: B\n\n",
      "What?\nA. red\nB. blue\nC. green\nD. grey\nAnswer: ",
    ]
  )
  expected = [BOS, *TOKENIZER.encode(text)]
  assert bucket["inputs"][0, : len(expected)].tolist() == expected
  last = bucket["mask"][0, -1]
  assert bucket["positions"][0, -1] == len(expected) - 1 and last.all()
  letters = [TOKENIZER.encode(letter) for letter in "ABCD"]
  assert [[t] for t in bucket["targets"][0, -1].tolist()] == letters


def test_examples_are_drawn_without_repetition():
  known = list(range(9))
  assert sorted(generated.drawn(known, 9, seed=1)) == known
  assert generated.drawn(known, 4, seed=1) == generated.drawn(known, 9, seed=1)[:4]
  assert generated.drawn(known, 4, seed=1) != generated.drawn(known, 4, seed=2)
  with pytest.raises(ConfigError, match="expected at most 9 worked examples") as error:
    generated.drawn(known, 10, seed=1)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("count", [0.0, 2.5, 1001.0])
def test_what_is_no_number_of_examples_is_refused(count):
  shapes = {}
  edit = attacks.EDITS.get("few_shot")
  with pytest.raises(ConfigError, match=r"strengths: expected examples, whole"):
    edit.check(shapes, count, edit.parse({}))
