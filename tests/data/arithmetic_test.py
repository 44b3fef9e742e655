"""Tests of the arithmetic setting: problems, dataset and scorer."""

import collections
import functools
import itertools
import re
import string

import numpy as np
import pytest

from undo_jax.data import arithmetic
from undo_jax.data import arithmetic_templates as words
from undo_jax.utils.types import ConfigError

DRAWS = 5000
PLACEHOLDERS = {
  "name",
  "name2",
  "number1",
  "number2",
  "object",
  "place",
  "container",
  "group",
}
WORDS = {
  "name": words.NAMES,
  "name2": words.NAMES,
  "object": words.OBJECTS,
  "place": words.PLACES,
  "container": words.CONTAINERS,
  "group": words.GROUPS,
}


def numbers_in(text: str) -> list[int]:
  return [int(number) for number in re.findall(r"\d+", text)]


def draw_equations(operation: str) -> list[tuple[int, int, str]]:
  """Draw equations and parses them by their printed form alone."""
  rng = np.random.default_rng(0)
  symbol = {"addition": "+", "subtraction": "-", "multiplication": "*", "division": "/"}
  form = re.compile(rf"(\d+) {re.escape(symbol[operation])} (\d+) = ")
  rows = []
  for _ in range(DRAWS):
    problem = arithmetic.equation(rng, operation)
    assert (problem.operation, problem.kind) == (operation, "equation")
    assert problem.suffix == ""
    left, right = form.fullmatch(problem.prompt).groups()
    rows.append((int(left), int(right), problem.answer))
  return rows


@functools.cache
def draw_word_problems(operation: str, split: str) -> list[arithmetic.Problem]:
  rng = np.random.default_rng(1)
  return [
    arithmetic.word_problem(rng, operation, split=split) for _ in range(DRAWS // 2)
  ]


def stream(seed: int = 3, **changes) -> list[arithmetic.Problem]:
  arguments = {
    "operations": arithmetic.OPERATIONS,
    "num_equations": 200,
    "num_word_problems": 100,
    "split": "train",
  }
  return list(arithmetic.problems(seed, **(arguments | changes)))


def template_pattern(prompt: str, suffix: str) -> re.Pattern[str]:
  """Match every text that a template can produce."""
  pattern = ""
  for literal, field, _, _ in string.Formatter().parse(f"{prompt}{{answer}}{suffix}"):
    pattern += re.escape(literal)
    if field in WORDS:
      pattern += "(?:" + "|".join(map(re.escape, WORDS[field])) + ")"
    elif field:
      pattern += r"\d+"
  return re.compile(pattern, re.IGNORECASE)


@functools.cache
def patterns(split: str, operation: str) -> list[re.Pattern[str]]:
  return [template_pattern(*pair) for pair in words.TEMPLATES[split][operation]]


class TestEquation:
  def test_addition(self):
    rows = draw_equations("addition")
    assert {left for left, _, _ in rows} == set(range(1, 51))
    assert {right for _, right, _ in rows} == set(range(1, 51))
    assert all(answer == str(left + right) for left, right, answer in rows)

  def test_subtraction(self):
    rows = draw_equations("subtraction")
    assert {n for left, right, _ in rows for n in (left, right)} == set(range(1, 51))
    assert all(answer == str(left - right) for left, right, answer in rows)
    assert {int(answer) for _, _, answer in rows} == set(range(50))

  def test_multiplication(self):
    rows = draw_equations("multiplication")
    assert {(left, right) for left, right, _ in rows} == {
      (a, b) for a in range(1, 21) for b in range(1, 21)
    }
    assert all(answer == str(left * right) for left, right, answer in rows)

  def test_division(self):
    rows = draw_equations("division")
    assert {(left, right) for left, right, _ in rows} == {
      (a * b, b) for a in range(1, 21) for b in range(1, 21)
    }
    assert all(left % right == 0 for left, right, _ in rows)
    assert all(answer == f"{left // right}.0" for left, right, answer in rows)

  def test_equations_are_all_that_can_be_drawn(self):
    every = list(arithmetic.equations())
    assert len(set(every)) == len(every) == 2500 + 1275 + 400 + 400
    rng = np.random.default_rng(0)
    for operation in ("multiplication", "division"):  # Few enough to draw them all.
      drawn = {arithmetic.equation(rng, operation) for _ in range(DRAWS)}
      assert drawn == {p for p in every if p.operation == operation}
    for operation in ("addition", "subtraction"):
      drawn = {arithmetic.equation(rng, operation) for _ in range(DRAWS)}
      assert drawn < set(every)

  def test_unknown_operation(self):
    with pytest.raises(ConfigError, match="operation must be among"):
      arithmetic.equation(np.random.default_rng(0), "power")

  def test_text(self):
    problem = arithmetic.Problem("54 / 3 = ", "18.0", "", "division", "equation", "")
    assert problem.text == "54 / 3 = 18.0"


class TestTemplates:
  @pytest.mark.parametrize("operation", arithmetic.OPERATIONS)
  def test_counts(self, operation):
    assert len(words.TEMPLATES["train"][operation]) == 20
    assert len(words.TEMPLATES["evaluation"][operation]) == 10

  def test_none_repeats(self):
    # Over all splits and operations at once, so the splits are disjoint too.
    prompts = [
      prompt
      for by_operation in words.TEMPLATES.values()
      for pairs in by_operation.values()
      for prompt, _ in pairs
    ]
    assert len(prompts) == 120
    assert len(set(prompts)) == 120

  @pytest.mark.parametrize("split", ["train", "evaluation"])
  @pytest.mark.parametrize("operation", arithmetic.OPERATIONS)
  def test_form(self, operation, split):
    for prompt, suffix in words.TEMPLATES[split][operation]:
      fields = [field for _, field, _, _ in string.Formatter().parse(prompt) if field]
      assert set(fields) <= PLACEHOLDERS
      assert fields.count("number1") == fields.count("number2") == 1, prompt
      assert re.search(r"[^ ] $", prompt), prompt
      assert re.fullmatch(r" [^ ].*\.", suffix), suffix
      assert not re.search(r"\d", re.sub(r"\{\w+\}", "", prompt + suffix)), prompt
      assert "number" not in suffix

  def test_word_lists(self):
    for entries in (*WORDS.values(), words.FIRST_NAMES, words.ANIMALS):
      assert len(set(entries)) == len(entries)
    assert len(words.NAMES) == 80
    assert len(words.OBJECTS) == 60
    assert len(words.PLACES) == len(words.GROUPS) == len(words.CONTAINERS) == 20
    assert not set(words.OBJECTS) & set(words.CONTAINERS)


@pytest.mark.parametrize("split", ["train", "evaluation"])
@pytest.mark.parametrize("operation", arithmetic.OPERATIONS)
class TestWordProblem:
  def test_answer_follows_from_the_printed_numbers(self, operation, split):
    for problem in draw_word_problems(operation, split):
      first, second = numbers_in(problem.prompt)
      large, small = max(first, second), min(first, second)
      if operation == "division":
        assert large % small == 0
      expected = {
        "addition": first + second,
        "subtraction": large - small,
        "multiplication": first * second,
        "division": large // small,
      }
      assert problem.answer == str(expected[operation])
      assert (problem.operation, problem.kind) == (operation, "word_problem")
      assert not numbers_in(problem.suffix)

  def test_ranges(self, operation, split):
    problems = draw_word_problems(operation, split)
    pairs = [sorted(numbers_in(problem.prompt)) for problem in problems]
    answers = {int(problem.answer) for problem in problems}
    smaller = {small for small, _ in pairs}
    larger = {large for _, large in pairs}
    to_50, to_20 = set(range(1, 51)), set(range(1, 21))
    if operation == "addition":
      assert smaller | larger == to_50
    elif operation == "subtraction":
      assert answers == to_50
      assert smaller == to_50
      assert max(larger) <= 100
    elif operation == "multiplication":
      assert smaller | larger == to_20
    else:
      assert answers == to_20
      assert smaller == to_20
      assert max(larger) <= 400

  def test_text_is_well_formed(self, operation, split):
    for problem in draw_word_problems(operation, split):
      text = problem.text
      assert problem.prompt.endswith(" ")
      assert problem.suffix.startswith(" ")
      assert text[0].isupper() or text[0].isdigit()
      assert not re.search(r"[.!?] [a-z]", text), text
      assert not re.search(r"[{}]|  ", text), text

  def test_templates_of_its_own_split_only(self, operation, split):
    other = {"train": "evaluation", "evaluation": "train"}[split]
    used = set()
    for problem in draw_word_problems(operation, split)[:300]:
      matches = [p for p in patterns(split, operation) if p.fullmatch(problem.text)]
      assert matches, problem.text
      used.update(matches)
      assert not any(p.fullmatch(problem.text) for p in patterns(other, operation))
    assert len(used) == len(patterns(split, operation))


def test_names_differ(monkeypatch):
  template = ("{name} meets {name2}: {number1} and {number2} make ", " {object}.")
  monkeypatch.setitem(words.TEMPLATES["train"], "addition", (template,))
  seen = set()
  for problem in draw_word_problems.__wrapped__("addition", "train"):
    name, name2 = re.match(r"(.*) meets (.*):", problem.prompt).groups()
    assert name.lower() != name2.lower()
    seen |= {name.lower(), name2.lower()}
  assert seen == {name.lower() for name in words.NAMES}


class TestProblems:
  def test_same_arguments_same_stream(self):
    assert stream() == stream()

  def test_seed_matters(self):
    assert stream(seed=3) != stream(seed=4)

  def test_domains_are_independent(self):
    retain = stream(operations=arithmetic.RETAIN)
    forget = stream(operations=arithmetic.FORGET)
    kinds = [[problem.kind for problem in each] for each in (retain, forget)]
    assert kinds[0] != kinds[1]

  def test_counts_and_shuffling(self):
    kinds = [problem.kind for problem in stream()]
    assert collections.Counter(kinds) == {"equation": 200, "word_problem": 100}
    # 200 and 100 in random order change kind 133 times on average, deviation 7.7.
    changes = sum(a != b for a, b in itertools.pairwise(kinds))
    assert 100 < changes < 166

  @pytest.mark.parametrize(
    "operations", [arithmetic.RETAIN, arithmetic.FORGET, arithmetic.OPERATIONS]
  )
  def test_operations_are_uniform(self, operations):
    drawn = stream(operations=operations, num_equations=4000, num_word_problems=4000)
    expected = 4000 / len(operations)
    for kind in arithmetic.KINDS:
      counts = collections.Counter(p.operation for p in drawn if p.kind == kind)
      assert set(counts) == set(operations)
      chi_square = sum((n - expected) ** 2 / expected for n in counts.values())
      assert chi_square < 17  # Below 0.1 % by chance at three degrees of freedom.

  def test_evaluation_templates_never_in_training(self):
    held_out = {op: patterns("evaluation", op) for op in arithmetic.OPERATIONS}
    for problem in stream(num_equations=0, num_word_problems=1000):
      every = held_out[problem.operation]
      assert not any(pattern.fullmatch(problem.text) for pattern in every)

  @pytest.mark.parametrize(
    "changes",
    [
      {"seed": -1},
      {"num_equations": -1},
      {"num_word_problems": 1.5},
      {"split": "test"},
      {"operations": ()},
      {"operations": ("addition", "power")},
      {"operations": "addition"},
    ],
  )
  def test_wrong_arguments(self, changes):
    with pytest.raises(ConfigError):
      stream(**changes)


# Every fact is in the test.
WHOLE = {
  "division": arithmetic.Division(attacked=0.0, validation=0.0),
  "part": "test",
}
DIVISION = arithmetic.Division(attacked=0.5, validation=0.2)


def numbers_of(problem):
  """What a problem rests on, read off its text: the numbers that its fact joins."""
  shown = numbers_in(problem.prompt)
  if problem.operation in ("subtraction", "division"):
    shown = [min(shown), int(float(problem.answer))]
  return tuple(sorted(shown))


class TestDivision:
  def test_equations_of_one_fact_are_in_one_part(self):
    parts = collections.defaultdict(set)
    for problem in arithmetic.equations():
      known = (problem.operation in arithmetic.RETAIN, *numbers_of(problem))
      parts[known].add(DIVISION.part(problem.fact))
    # Unordered pairs of 1 to 20, those of 1 to 50 and, of a - a, one with 0.
    assert len(parts) == 210 + 1275 + 50
    assert all(len(of_fact) == 1 for of_fact in parts.values())

  def test_shares_are_about_what_is_asked(self):
    sizes = {part: arithmetic.part_sizes(DIVISION, part) for part in arithmetic.PARTS}
    totals = dict(zip(arithmetic.OPERATIONS, (2500, 1275, 400, 400), strict=True))
    for operation, total in totals.items():
      counts = [sizes[part].get(operation, 0) for part in arithmetic.PARTS]
      assert sum(counts) == total
      is_retain = operation in arithmetic.RETAIN
      expected = (0.0, 0.2, 0.8) if is_retain else (0.5, 0.2, 0.3)
      # Four standard deviations of a binomial over the facts, four equations of each.
      facts = total / (2 if is_retain else 4)
      bound = 4 * np.sqrt(0.25 / facts)
      assert np.abs(np.array(counts) / total - expected).max() < bound

  @pytest.mark.parametrize(
    "division",
    [
      arithmetic.Division(attacked=-0.1, validation=0.2),
      arithmetic.Division(attacked=0.5, validation=0.5),
      arithmetic.Division(attacked=1e-9, validation=0.2),
      arithmetic.Division(attacked=0.5, validation=1e-9),
    ],
  )
  def test_shares_that_leave_nothing_are_refused(self, division):
    with pytest.raises(ConfigError, match="attacked_share and validation_share"):
      arithmetic.check_division(division)

  def test_the_attack_and_the_test_share_no_fact(self):
    attacked = stream(
      operations=arithmetic.FORGET, num_word_problems=200, attacked=DIVISION
    )
    arguments = {"num_per_task": 60, "kinds": arithmetic.KINDS, "division": DIVISION}
    parts = {
      part: {
        numbers_of(problem)
        for problem in arithmetic.evaluation_problems(0, part=part, **arguments)
        if problem.operation in arithmetic.FORGET
      }
      for part in arithmetic.PARTS
    }
    learned = {numbers_of(problem) for problem in attacked}
    assert learned
    assert not learned & (parts["validation"] | parts["test"])
    assert not parts["validation"] & parts["test"]


class TestEvaluationProblems:
  def test_distinct_within_each_task(self):
    drawn = arithmetic.evaluation_problems(
      0, num_per_task=400, kinds=arithmetic.KINDS, **WHOLE
    )
    tasks = collections.defaultdict(list)
    for problem in drawn:
      tasks[problem.operation, problem.kind].append(problem.text)
    assert list(tasks) == [
      (operation, kind)
      for operation in arithmetic.OPERATIONS
      for kind in arithmetic.KINDS
    ]
    for texts in tasks.values():
      assert len(texts) == len(set(texts)) == 400

  def test_small_spaces_come_evenly(self):
    drawn = arithmetic.evaluation_problems(
      0, num_per_task=2600, kinds=["equation"], **WHOLE
    )
    spaces = {
      "addition": 2500,
      "subtraction": 1275,
      "multiplication": 400,
      "division": 400,
    }
    for operation, space in spaces.items():
      counts = collections.Counter(p.text for p in drawn if p.operation == operation)
      assert len(counts) == space
      assert set(counts.values()) <= {2600 // space, 2600 // space + 1}

  def test_word_problems_use_the_held_out_templates(self):
    for problem in arithmetic.evaluation_problems(
      0, num_per_task=50, kinds=["word_problem"], **WHOLE
    ):
      every = patterns("evaluation", problem.operation)
      assert any(pattern.fullmatch(problem.text) for pattern in every)

  def test_deterministic_and_independent_of_other_tasks(self):
    arguments = {"num_per_task": 20, **WHOLE}
    both = arithmetic.evaluation_problems(5, kinds=arithmetic.KINDS, **arguments)
    assert both == arithmetic.evaluation_problems(
      5, kinds=arithmetic.KINDS, **arguments
    )
    assert both != arithmetic.evaluation_problems(
      6, kinds=arithmetic.KINDS, **arguments
    )
    equations = arithmetic.evaluation_problems(5, kinds=["equation"], **arguments)
    assert equations == [problem for problem in both if problem.kind == "equation"]

  @pytest.mark.parametrize(
    "arguments",
    [
      {"num_per_task": -1, "kinds": arithmetic.KINDS},
      {"num_per_task": 1, "kinds": ["riddle"]},
      {"num_per_task": 1, "kinds": []},
      {"num_per_task": 1, "kinds": arithmetic.KINDS, "part": "train"},
    ],
  )
  def test_wrong_arguments(self, arguments):
    with pytest.raises(ConfigError):
      arithmetic.evaluation_problems(0, **(WHOLE | arguments))
