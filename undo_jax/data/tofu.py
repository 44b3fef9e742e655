"""TOFU's files: questions and answers about authors who do not exist.

A file has a JSON object a line, as the benchmark is published: `question` and `answer`
and, where wrong answers are scored too, `perturbed_answer` (a list of texts) and
`paraphrased_answer`. Authors are consecutive blocks of 20 lines. Files that ask about
real authors and the world have no paraphrase; there the answer stands for it.

Reference: TOFU, arXiv 2401.06121.
"""

from collections.abc import Collection, Sequence
import functools
import hashlib
import json
import pathlib
from typing import Any, NamedTuple, Protocol, TypeVar

from undo_jax.data.tokenizers import Tokenizer
from undo_jax.utils.errors import ConfigError

QUESTIONS_PER_AUTHOR = 20
QUESTION, ANSWER = "{question}", "{answer}"  # What a template has in their place.
_Item = TypeVar("_Item")


class Question(NamedTuple):
  """A question with its answers; `place` is its file and line."""

  question: str
  answer: str
  place: str
  paraphrase: str = ""  # The answer in other words.
  perturbed: tuple[str, ...] = ()  # Wrong answers of the same form.


class Pair(NamedTuple):
  """A question and an answer as ids, without those that begin and end a document."""

  given: tuple[int, ...]
  scored: tuple[int, ...]


class Encode(Protocol):
  """Makes ids of a question and an answer."""

  def __call__(self, question: str, answer: str, *, place: str) -> Pair:
    """Return the ids; `place` is what an error calls the two."""
    ...


def read(
  path: pathlib.Path, *, perturbed: bool = False, paraphrased: bool = False
) -> list[Question]:
  """Read a file.

  Args:
    path: of JSON lines.
    perturbed: whether lines have wrong answers.
    paraphrased: whether they have a paraphrase too; else the answer stands for it.

  Returns:
    A question a line, in order.

  Raises:
    ConfigError: if the file is missing, empty or cannot be read, or a line is no JSON
      object with the fields it needs; names file and line.
  """
  path = path.expanduser()
  if not path.is_file():
    raise ConfigError(f"expected a file of TOFU at {path}, got none; put it there")
  try:
    lines = path.read_text(encoding="utf-8").split("\n")
  except (UnicodeDecodeError, OSError) as error:
    raise ConfigError(
      f"expected UTF-8 in {path}, got what cannot be read ({error}); get it anew"
    ) from None
  questions = []
  for number, line in enumerate(lines, start=1):
    place = f"{path}, line {number}"
    if line.strip():
      questions.append(_question(_parsed(line, place), place, perturbed, paraphrased))
  if not questions:
    raise ConfigError(f"expected questions in {path}, got none; get it anew")
  return questions


def content(paths: Sequence[pathlib.Path]) -> list[str]:
  """Return the SHA-256 of each file, "" of one that is not there."""
  return [
    hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    for path in (path.expanduser() for path in paths)
  ]


def authors(
  questions: Sequence[Question], number: int | None, *, field: str
) -> list[list[Question]]:
  """Return the questions of the first authors, 20 each.

  Args:
    questions: of a file, in its order.
    number: of authors; None: all.
    field: what an error calls the number.

  Raises:
    ConfigError: if the questions are no whole blocks, or there are fewer authors.
  """
  count, rest = divmod(len(questions), QUESTIONS_PER_AUTHOR)
  path = questions[0].place.rpartition(",")[0]
  if rest:
    raise ConfigError(
      f"expected {QUESTIONS_PER_AUTHOR} lines of each author in {path}, got "
      f"{len(questions)} lines; give a file as it is published"
    )
  if number is not None and number > count:
    raise ConfigError(
      f"{field}: expected at most {count}, the authors in {path}, got {number}; ask "
      "for fewer"
    )
  chosen = range(count if number is None else number)
  size = QUESTIONS_PER_AUTHOR
  return [list(questions[i * size : (i + 1) * size]) for i in chosen]


def divide(
  author: Sequence[Question], share: float
) -> tuple[list[Question], list[Question]]:
  """Divide an author's questions: those that an attacker gets, and those scored.

  Those with the smallest hashes are attacked: round(share * n) of n, but at least one
  and at most all but one. Only the texts decide, not their order.

  Args:
    author: all of the author's questions.
    share: in (0, 1).

  Returns:
    (attacked, scored), each in the order of `author`.
  """
  count = min(max(round(share * len(author)), 1), len(author) - 1)
  ranked = sorted(range(len(author)), key=lambda i: (_hash(author[i].question), i))
  attacked = {*ranked[:count]}
  sides: tuple[list[Question], list[Question]] = [], []
  for index, question in enumerate(author):
    sides[index not in attacked].append(question)
  return sides


def with_answers(
  questions: Sequence[Question], others: Sequence[Question]
) -> list[Question]:
  """Return those questions that others repeat, with the others' further answers."""
  known = {(other.question, other.answer): other for other in others}
  pairs = [(question.question, question.answer) for question in questions]
  return [known[pair] for pair in pairs if pair in known]


def spread(items: Sequence[_Item], number: int | None) -> list[_Item]:
  """Return a number of items, evenly spaced from the first on; None: all."""
  if number is None or number >= len(items):
    return list(items)
  return [items[i * len(items) // number] for i in range(number)]


def check_apart(one: Collection[Question], other: Collection[Question]) -> None:
  """Raise ConfigError if a question with its answer is in both; names the places."""
  places = {(q.question, q.answer): q.place for q in one}
  for q in other:
    if (q.question, q.answer) in places:
      raise ConfigError(
        "expected no question to be both forgotten and retained, got "
        f"{q.question!r} in {places[q.question, q.answer]} and {q.place}; give files "
        "that belong together"
      )


def check_template(template: str) -> None:
  """Raise ConfigError unless a template has a question and ends in its answer."""
  before, question, rest = template.partition(QUESTION)
  between = rest.removesuffix(ANSWER)
  marks = before + between
  if not question or between == rest or QUESTION in marks or ANSWER in marks:
    raise ConfigError(
      f"config.data.template: expected text with {QUESTION} once that ends in its only "
      f"{ANSWER}, got {template!r}; change it"
    )


def by_template(template: str, tokenizer: Tokenizer) -> Encode:
  """Return how a template makes ids; see `check_template`.

  White space before the answer is scored with it, since most tokenizers join it to the
  word that follows.
  """
  ids_of = functools.lru_cache(maxsize=8)(tokenizer.encode)  # A question's answers.

  def encode(question: str, answer: str, *, place: str) -> Pair:
    before = template[: -len(ANSWER)].replace(QUESTION, question)
    prompt = before.rstrip()
    given = ids_of(prompt)
    whole = tokenizer.encode(prompt + before[len(prompt) :] + answer)
    if whole[: len(given)] != given or len(whole) == len(given):
      raise ConfigError(
        f"config.data.tokenizer: expected the answer {_short(answer)} ({place}) to "
        f"begin a token of its own after {prompt[-12:]!r}, but the tokenizer joins "
        "them; choose another tokenizer or data.template"
      )
    return Pair(tuple(given), tuple(whole[len(given) :]))

  return encode


def _question(row: Any, place: str, perturbed: bool, paraphrased: bool) -> Question:
  """Return a line as a question.

  Raises:
    ConfigError: if something is missing or not as expected.
  """
  names = ["question", "answer"] + ["paraphrased_answer"] * paraphrased
  fields = names + ["perturbed_answer"] * perturbed
  missing = [x for x in fields if not isinstance(row, dict) or row.get(x) in (None, "")]
  if missing:
    raise ConfigError(
      f"expected the fields {', '.join(fields)} in {place}, but {', '.join(missing)} "
      "is missing or empty; get the file anew"
    )
  wrong = row["perturbed_answer"] if perturbed else ["none"]
  texts = [row[name] for name in names]
  listed = isinstance(wrong, list) and wrong
  if not listed or not all(isinstance(x, str) and x.strip() for x in texts + wrong):
    raise ConfigError(
      f"expected texts in {place} and in its perturbed_answer a list of them, got "
      f"{_short(row)}; get the file anew"
    )
  question, answer = row["question"], row["answer"]
  if not perturbed:
    return Question(question, answer, place)
  paraphrase = row["paraphrased_answer"] if paraphrased else answer
  return Question(question, answer, place, paraphrase, tuple(wrong))


def _parsed(line: str, place: str) -> Any:
  try:
    return json.loads(line)
  except (ValueError, RecursionError) as error:
    raise ConfigError(
      f"expected JSON in {place}, got something else ({error}); get the file anew"
    ) from None


def _hash(text: str) -> bytes:
  return hashlib.blake2b(text.encode(), digest_size=8).digest()


def _short(value: object) -> str:
  return repr(value) if len(repr(value)) < 60 else f"{repr(value)[:57]}..."
