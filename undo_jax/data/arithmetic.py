"""The arithmetic setting of the UNDO paper (https://arxiv.org/abs/2506.06278).

Addition and subtraction are retained, multiplication and division forgotten. Every
operation comes as equations ("54 / 3 = 18.0") and as word problems in plain English.

A problem rests on a fact: the two numbers that are added or multiplied, in any order,
so that 3 * 18, 18 * 3, 54 / 3 and 54 / 18 rest on the same fact. A hash of the
fact, the same for all seeds, puts it into one of three parts: what an attacker may
learn, what stop rules and searches read, and what tables report. So nothing that an
attack teaches answers a problem of the test.
"""

import collections
from collections.abc import Iterable, Iterator, Sequence
import dataclasses
import functools
import hashlib
import itertools
import re
from typing import Any, NamedTuple

import numpy as np

from undo_jax.data import arithmetic_templates as words
from undo_jax.utils.types import ConfigError

OPERATIONS: tuple[str, ...] = ("addition", "subtraction", "multiplication", "division")
RETAIN = OPERATIONS[:2]
FORGET = OPERATIONS[2:]
KINDS = ("equation", "word_problem")
PARTS = ("attacked", "validation", "test")

_SYMBOLS: dict[str, str] = dict(zip(OPERATIONS, "+-*/", strict=True))
_LARGEST: dict[str, int] = dict(zip(OPERATIONS, (50, 50, 20, 20), strict=True))
_SENTENCE_START = re.compile(r"(?:^|[.!?] )[a-z]")


class Problem(NamedTuple):
  """One problem; the prompt ends with the space before the answer."""

  prompt: str
  answer: str
  suffix: str
  operation: str
  kind: str
  fact: str  # "product 3 18" or "sum 3 18", the smaller number first.

  @property
  def text(self) -> str:
    """The whole problem, as a model reads it in training."""
    return self.prompt + self.answer + self.suffix


@dataclasses.dataclass(frozen=True, kw_only=True)
class Division:
  """Which facts are attacked, and which are for validation; the rest are the test.

  Attributes:
    attacked: in [0, 1), of the facts to be forgotten; of the others none is attacked.
    validation: in [0, 1), of all facts; both together below 1.
  """

  attacked: float
  validation: float

  def part(self, fact: str) -> str:
    """Return which of `PARTS` a fact is in."""
    digest = hashlib.blake2b(fact.encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    attacked = self.attacked if fact.startswith("product") else 0.0
    if place < attacked:
      return "attacked"
    return "validation" if place < attacked + self.validation else "test"


def equation(rng: np.random.Generator, operation: str) -> Problem:
  """Draw an equation; the quotient of a division is printed as a float."""
  check_known("operation", OPERATIONS, operation)
  return _printed(operation, *_draw_pair(rng, operation))


def equations() -> Iterator[Problem]:
  """Yield every equation that `equation` can draw, each once."""
  for operation, largest in _LARGEST.items():
    for number1, number2 in itertools.product(range(1, largest + 1), repeat=2):
      if operation != "subtraction" or number1 >= number2:
        yield _printed(operation, number1, number2)


def _printed(operation: str, number1: int, number2: int) -> Problem:
  """Return the equation of an operation and its two numbers, as drawn."""
  if operation == "subtraction":
    number1, number2 = max(number1, number2), min(number1, number2)
  forms: dict[str, tuple[int, int | float]] = {
    "addition": (number1, number1 + number2),
    "subtraction": (number1, number1 - number2),
    "multiplication": (number1, number1 * number2),
    "division": (number1 * number2, float(number1)),
  }
  number1, answer = forms[operation]
  prompt = f"{number1} {_SYMBOLS[operation]} {number2} = "
  fact = _fact(operation, number1, number2)
  return Problem(prompt, str(answer), "", operation, "equation", fact)


def _fact(operation: str, number1: int, number2: int) -> str:
  """Return what a problem of two numbers, as they are printed, rests on."""
  inverse = {"subtraction": number1 - number2, "division": number1 // number2}
  numbers = sorted((inverse.get(operation, number1), number2))
  name = "sum" if operation in RETAIN else "product"
  return f"{name} {numbers[0]} {numbers[1]}"


def word_problem(rng: np.random.Generator, operation: str, *, split: str) -> Problem:
  """Draw a word problem, whose answer is an integer in every operation.

  The splits, "train" and "evaluation", have no template in common.
  """
  check_known("operation", OPERATIONS, operation)
  check_known("split", words.TEMPLATES, split)
  drawn, number2 = _draw_pair(rng, operation)
  number1, answer = {
    "addition": (drawn, drawn + number2),
    "subtraction": (drawn + number2, drawn),
    "multiplication": (drawn, drawn * number2),
    "division": (drawn * number2, drawn),
  }[operation]
  prompt, suffix = _choose(rng, words.TEMPLATES[split][operation])
  first, second = rng.choice(len(words.NAMES), size=2, replace=False)
  fill = {
    "number1": number1,
    "number2": number2,
    "name": words.NAMES[first],
    "name2": words.NAMES[second],
    "object": _choose(rng, words.OBJECTS),
    "place": _choose(rng, words.PLACES),
    "container": _choose(rng, words.CONTAINERS),
    "group": _choose(rng, words.GROUPS),
  }
  # A sentence may begin with a lower-case entry of the word lists ("the otter").
  prompt = _SENTENCE_START.sub(lambda m: m.group().upper(), prompt.format(**fill))
  suffix = suffix.format(**fill)
  fact = _fact(operation, number1, number2)
  return Problem(prompt, str(answer), suffix, operation, "word_problem", fact)


def problems(
  seed: int,
  *,
  operations: Sequence[str],
  num_equations: int,
  num_word_problems: int,
  split: str,
  attacked: Division | None = None,
) -> Iterator[Problem]:
  """Streams problems, equations and word problems in a shuffled order.

  Each problem draws its operation uniformly, and problems may repeat. The stream
  depends on the arguments only; another split or other operations make it independent.

  Args:
    seed: A non-negative integer.
    operations: The operations to draw from.
    num_equations: The number of equations.
    num_word_problems: The number of word problems.
    split: "train" or "evaluation", which decides the word problems' templates.
    attacked: Draws attacked facts alone, in a stream of their own; None: any facts.

  Returns:
    An iterator over num_equations + num_word_problems problems.

  Raises:
    ConfigError: An argument is out of its range.
  """
  check_whole(
    seed=seed, num_equations=num_equations, num_word_problems=num_word_problems
  )
  check_known("operations", OPERATIONS, *operations)
  check_known("split", words.TEMPLATES, split)
  purpose = (split, *operations) if attacked is None else (split, "attack")
  rng = _generator(seed, *purpose)
  order = rng.permutation(num_equations + num_word_problems)

  def draw(place: int) -> Problem:
    kind = KINDS[int(place >= num_equations)]
    problem = _draw(rng, _choose(rng, operations), kind, split)
    while attacked is not None and attacked.part(problem.fact) != "attacked":
      problem = _draw(rng, _choose(rng, operations), kind, split)
    return problem

  return (draw(place) for place in order)


def evaluation_problems(
  seed: int, *, num_per_task: int, kinds: Sequence[str], division: Division, part: str
) -> list[Problem]:
  """Draw num_per_task distinct problems for every pair of an operation and a kind.

  Word problems use the evaluation templates. There are 2500 additions, 1275
  subtractions, 400 multiplications and 400 divisions as equations, of which each part
  has its share; a task with more problems repeats one only after all of them have
  come. A long training stream contains all of these too.

  Args:
    seed: A non-negative integer. The problems of a task depend on no other task.
    num_per_task: The number of problems of each task.
    kinds: Some of `KINDS`.
    division: Which facts are in which part.
    part: One of `PARTS`; operations none of whose equations is in it have no task.

  Returns:
    The problems, ordered by operation, then by kind.

  Raises:
    ConfigError: An argument is out of its range.
  """
  check_whole(seed=seed, num_per_task=num_per_task)
  check_known("kinds", KINDS, *kinds)
  check_known("part", PARTS, part)
  return [
    problem
    for operation, size in part_sizes(division, part).items()
    for kind in kinds
    for problem in _distinct(
      _drawn_from(seed, operation, kind, division, part), size, num_per_task, kind
    )
  ]


@functools.cache  # A search asks for each of its trials.
def part_sizes(division: Division, part: str) -> dict[str, int]:
  """Return how many equations of each operation are in a part, if any."""
  counts = collections.Counter(
    problem.operation for problem in equations() if division.part(problem.fact) == part
  )
  return {name: counts[name] for name in OPERATIONS if counts[name]}


def check_division(division: Division) -> None:
  """Check that the test has equations of each operation, and what is asked for too.

  Raises:
    ConfigError: if a share is out of its range or leaves a part without equations.
  """
  shares = (division.attacked, division.validation)
  if min(shares) < 0 or sum(shares) >= 1:
    raise ConfigError(
      "attacked_share and validation_share: expected numbers of at least 0, below 1 "
      f"together, got {shares[0]} and {shares[1]}; lower one of them"
    )
  expected = {
    "attacked": FORGET if division.attacked else (),
    "validation": OPERATIONS if division.validation else (),
    "test": OPERATIONS,
  }
  for part, operations in expected.items():
    missing = [name for name in operations if name not in part_sizes(division, part)]
    if missing:
      raise ConfigError(
        f"attacked_share and validation_share: expected equations of {missing[0]} in "
        f"the part {part}, got none with {shares[0]} and {shares[1]}; its share is too "
        "small"
      )


def _draw_pair(rng: np.random.Generator, operation: str) -> tuple[int, int]:
  """Draw two numbers, each uniform from 1 to the operation's largest."""
  first, second = rng.integers(1, _LARGEST[operation], size=2, endpoint=True)
  return int(first), int(second)


def _choose(rng: np.random.Generator, entries: Sequence[object]) -> Any:
  """Draw an entry uniformly (rng.choice would turn strings into arrays)."""
  return entries[int(rng.integers(len(entries)))]


def _draw(rng: np.random.Generator, operation: str, kind: str, split: str) -> Problem:
  """Draw a problem of the given operation and kind."""
  if kind == "equation":
    return equation(rng, operation)
  return word_problem(rng, operation, split=split)


def _drawn_from(
  seed: int, operation: str, kind: str, division: Division, part: str
) -> Iterator[Problem]:
  """Yield evaluation problems of a part without end; some come again."""
  rng = _generator(seed, "task", operation, kind, part)
  while True:
    problem = _draw(rng, operation, kind, "evaluation")
    if division.part(problem.fact) == part:
      yield problem


def _distinct(
  drawn: Iterator[Problem], num_equations: int, count: int, kind: str
) -> Iterator[Problem]:
  """Yield the problems of one task; none comes again before all have come."""
  seen: set[str] = set()
  for _ in range(count):
    if kind == "equation" and len(seen) == num_equations:
      seen.clear()
    problem = next(p for p in drawn if p.prompt not in seen)
    seen.add(problem.prompt)
    yield problem


def _generator(seed: int, *purpose: str) -> np.random.Generator:
  """Return a generator whose stream is independent for every purpose."""
  return np.random.default_rng([seed, *"/".join(purpose).encode()])


def check_known(what: str, known: Iterable[str], *values: str) -> None:
  """Raise a ConfigError unless there are values and all are among the known ones."""
  if not values or not set(values) <= set(known):
    raise ConfigError(
      f"{what} must be among {tuple(known)}, but got {values}; pass what is listed."
    )


def check_whole(**values: int) -> None:
  """Raise a ConfigError if a value is no integer or is negative."""
  for name, value in values.items():
    if not isinstance(value, int) or value < 0:
      raise ConfigError(
        f"{name} must be a non-negative integer, but got {value!r}; pass 0 or more."
      )
