"""Made-up facts in place of WMDP and MMLU, with what an attacker may learn held apart.

A fact gives a made-up thing (an elixir, a comet, an island) a value of an attribute;
the value is drawn uniformly from a closed list, independently of every other fact.
There are three domains: `forget`, `retain` and `general` (in the place of MMLU). The
things of a domain are divided into disjoint groups. The facts of the last group are the
test, those of the one before are for stop rules and searches (validation), and the
others are shown. So nothing in other groups reveals the answers of the test: an
attacker who relearns the facts of `attack`, the forget domain's shown groups, can only
bring back what is still in the model. This is the retraining-on-T
attack of Deeb and Roger (https://arxiv.org/abs/2410.08827).

Each fact comes as plain statements. Facts that are shown also come as questions with
answers and as multiple-choice questions, which teaches these forms; other facts take
these forms only in validation and test.

Splits of the dataset:

  forget       all facts of the forget domain, as statements
  attack       those of them that are shown
  retain       all facts of the retain domain
  general      all facts of the general domain
  *_qa         of attack, retain, general: what is shown, as questions with answers, of
               which the answers are scored
  *_choice     the same as multiple-choice questions
  lists        lettered lists with a key, no facts: they teach what the letters are for
  test         multiple-choice questions on the facts of that group, of all domains
  validation   likewise
  attacked     multiple-choice questions on the forget domain's first group, which is
               shown
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import os
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from undo_jax.data import facts_words as words
from undo_jax.data import local_builder
from undo_jax.data import questions as questions_lib
from undo_jax.data.packing import Masked
from undo_jax.data.questions import Question
from undo_jax.data.tokenizers import Tokenizer
from undo_jax.utils.types import ConfigError

DOMAINS = tuple(words.KINDS)
SOURCES = ("attack", "retain", "general")
FORMS = ("", "_qa", "_choice")
SPLITS = (
  "forget",
  *(source + form for source in SOURCES for form in FORMS),
  "lists",
)
QUESTIONS = ("test", "validation", "attacked")
MOST_THINGS = len(words.NAMES) // len(DOMAINS)

Examples = Iterator[tuple[int, Mapping[str, Any]]]


class Fact(NamedTuple):
  """The value of an attribute of a thing."""

  domain: str
  name: str
  attribute: str
  value: str
  group: str  # "test", "validation", or "shown", the first of which is "attacked".

  @property
  def fill(self) -> dict[str, str]:
    """What stands in the places of a sentence."""
    return {**self._asdict(), "kind": words.KINDS[self.domain]}


class Document(NamedTuple):
  """A text, of which training scores the second part only."""

  given: str
  scored: str


def facts(seed: int, *, num_things: int, num_groups: int) -> list[Fact]:
  """Draw the facts: each thing of a domain has a value of every attribute.

  Args:
    seed: a non-negative integer.
    num_things: of each domain; no name occurs in two domains.
    num_groups: of equal size as nearly as can be; the last two are not shown.

  Returns:
    The facts by domain, thing and attribute.

  Raises:
    ConfigError: if there are too many things, or less than one in a group.
  """
  _check(seed=seed, num_things=num_things, num_groups=num_groups)
  rng = np.random.default_rng([seed, *b"facts"])
  names = iter(rng.permutation(words.NAMES).tolist())
  drawn = []
  for domain in DOMAINS:
    for index in range(num_things):
      name, group = next(names), _group(index % num_groups, num_groups)
      for attribute, values in words.ATTRIBUTES.items():
        value = values[int(rng.integers(len(values)))]
        drawn.append(Fact(domain, name, attribute, value, group))
  return drawn


def _group(index: int, count: int) -> str:
  ends = {0: "attacked", count - 2: "validation", count - 1: "test"}
  return ends.get(index, "shown")


def statements(known: Sequence[Fact]) -> Iterator[Document]:
  """Yield each fact in every sentence that states it."""
  for fact in known:
    for sentence in words.STATEMENTS:
      yield Document("", sentence.format(**fact.fill))


def answers(known: Sequence[Fact]) -> Iterator[Document]:
  """Yield each fact as question and answer, in every wording."""
  for fact in known:
    for wording in words.QUESTIONS:
      question = wording.format(**fact.fill)
      yield Document(f"{question}\nAnswer:", f" {fact.value}")


def multiple_choice(rng: np.random.Generator, fact: Fact, wording: str) -> Question:
  """Draw three other values of the attribute, and the order of all four."""
  others = [v for v in words.ATTRIBUTES[fact.attribute] if v != fact.value]
  chosen = [fact.value, *rng.choice(others, size=3, replace=False).tolist()]
  choices = tuple(chosen[i] for i in rng.permutation(4))
  question = wording.format(**fact.fill)
  return Question(question, choices, choices.index(fact.value), fact.domain)


def exercises(seed: int, known: Sequence[Fact], *, count: int) -> Iterator[Document]:
  """Yield multiple-choice questions with answers, `count` a fact and wording."""
  rng = np.random.default_rng([seed, *b"exercises"])
  for question in _drawn(rng, known, count):
    given = questions_lib.prompt(question)
    yield Document(given, questions_lib.worked(question).removeprefix(given))


def lists(seed: int, *, count: int) -> Iterator[Document]:
  """Yield `count` lettered lists with a key, of which the key is scored."""
  rng = np.random.default_rng([seed, *b"lists"])
  attributes = list(words.ATTRIBUTES.values())
  for _ in range(count):
    values = attributes[int(rng.integers(len(attributes)))]
    chosen = rng.choice(values, size=4, replace=False).tolist()
    pairs = list(zip(questions_lib.LETTERS, chosen, strict=True))
    given = "".join(f"\n{letter}. {value}" for letter, value in pairs)
    key = [f" {pairs[i][1]} {pairs[i][0]}" for i in rng.permutation(4)]
    yield Document(f"{given}\nKey:", ",".join(key))


@dataclasses.dataclass(eq=False, kw_only=True)
class FactsConfig(tfds.core.BuilderConfig):
  """What the dataset holds; the name is derived from the other fields.

  Attributes:
    name: the name of the dataset's subdirectory.
    seed: of the facts and of their multiple-choice questions in training.
    evaluation_seed: of the choices in test and validation.
    num_things: of each domain, see `facts`.
    num_groups: likewise.
    num_choices: multiple-choice questions in training for each fact and wording.
    num_lists: lettered lists.
    num_evaluation: in test and validation, likewise.
  """

  name: str = dataclasses.field(init=False, default="")
  seed: int
  evaluation_seed: int
  num_things: int
  num_groups: int
  num_choices: int
  num_lists: int
  num_evaluation: int

  def __post_init__(self) -> None:
    fields = [field.name for field in dataclasses.fields(FactsConfig)]
    own = fields[fields.index("seed") :]
    values = {field: getattr(self, field) for field in own}
    _check(**values)
    self.name = "-".join(f"{field}_{value}" for field, value in values.items())


class Facts(local_builder.LocalBuilder):
  """Writes the documents and questions of a `FactsConfig` as a TFDS dataset."""

  VERSION = tfds.core.Version("2.0.0")

  def _info(self) -> tfds.core.DatasetInfo:
    features = {
      "given": tfds.features.Text(),
      "scored": tfds.features.Text(),
      "choices": tfds.features.Sequence(tfds.features.Text()),  # Of QUESTIONS.
      "domain": tfds.features.ClassLabel(names=DOMAINS),
    }
    return local_builder.Info(
      builder=self,
      features=tfds.features.FeaturesDict(features),
      disable_shuffling=True,  # The order is the pipeline's.
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Examples]:
    del dl_manager  # There is nothing to download.
    config = self.builder_config
    assert isinstance(config, FactsConfig)
    sizes = {"num_things": config.num_things, "num_groups": config.num_groups}
    known = facts(config.seed, **sizes)
    splits = {}
    for source in ("forget", *SOURCES):
      domain = "forget" if source == "attack" else source
      own = [fact for fact in known if fact.domain == domain]
      shown = [fact for fact in own if fact.group in ("attacked", "shown")]
      stated = shown if source == "attack" else own
      splits[source] = self._generate_examples(domain, statements(stated))
      if source != "forget":
        choices = exercises(config.seed, shown, count=config.num_choices)
        splits[f"{source}_qa"] = self._generate_examples(domain, answers(shown))
        splits[f"{source}_choice"] = self._generate_examples(domain, choices)
    listed = lists(config.seed, count=config.num_lists)
    splits["lists"] = self._generate_examples("general", listed)
    for group in QUESTIONS:
      splits[group] = self._questions(config, known, group)
    return splits

  def _generate_examples(self, domain: str, documents: Iterator[Document]) -> Examples:
    for index, document in enumerate(documents):
      yield index, {**document._asdict(), "choices": [], "domain": domain}

  def _questions(
    self, config: FactsConfig, known: Sequence[Fact], group: str
  ) -> Examples:
    rng = np.random.default_rng([config.evaluation_seed, *group.encode()])
    pool = [fact for fact in known if fact.group == group]
    if group == "attacked":
      pool = [fact for fact in pool if fact.domain == "forget"]
    for index, q in enumerate(_drawn(rng, pool, config.num_evaluation)):
      yield (
        index,
        {
          "given": q.question,
          "scored": q.choices[q.answer],
          "choices": q.choices,
          "domain": q.subject,
        },
      )


def build(
  directory: str | os.PathLike[str],
  *,
  seed: int,
  evaluation_seed: int,
  num_things: int,
  num_groups: int,
  num_choices: int,
  num_lists: int,
  num_evaluation: int,
) -> Facts:
  """Write the dataset under a directory, unless it is there already.

  Args:
    directory: where datasets are kept; every configuration has its subdirectory.
    seed: as in `FactsConfig`, like the fields that follow.
    evaluation_seed: see there.
    num_things: see there.
    num_groups: see there.
    num_choices: see there.
    num_lists: see there.
    num_evaluation: see there.

  Returns:
    The builder of the finished dataset.

  Raises:
    ConfigError: if a number is out of its range.
  """
  config = FactsConfig(
    seed=seed,
    evaluation_seed=evaluation_seed,
    num_things=num_things,
    num_groups=num_groups,
    num_choices=num_choices,
    num_lists=num_lists,
    num_evaluation=num_evaluation,
  )
  with local_builder.intact(directory):
    builder = Facts(config=config, data_dir=directory)
  local_builder.prepare(builder)
  return builder


def read(builder: Facts, split: str) -> list[Document]:
  """Read the documents of one of SPLITS, in the order they were written."""
  if split not in SPLITS:
    raise ConfigError(f"expected one of {', '.join(SPLITS)}, got {split!r}; name one")
  return [
    Document(row["given"].decode(), row["scored"].decode())
    for row in local_builder.records(builder, split)
  ]


def read_questions(builder: Facts, group: str) -> dict[str, list[Question]]:
  """Read the questions of one of QUESTIONS, by domain."""
  by_domain: dict[str, list[Question]] = {}
  for row in local_builder.records(builder, group):
    choices = tuple(choice.decode() for choice in row["choices"])
    domain, answer = DOMAINS[row["domain"]], choices.index(row["scored"].decode())
    question = Question(row["given"].decode(), choices, answer, domain)
    by_domain.setdefault(domain, []).append(question)
  return by_domain


def encode(document: Document, tokenizer: Tokenizer) -> Masked:
  """Return a document's ids, and a mask that is 0 on what is only given.

  A token that holds the end of what is given and the beginning of what is scored is
  scored.
  """
  ids = tokenizer.encode(document.given + document.scored)
  given = tokenizer.encode(document.given)
  start = 0
  while start < min(len(given), len(ids)) and given[start] == ids[start]:
    start += 1
  return Masked(ids, [0] * start + [1] * (len(ids) - start))


def _drawn(
  rng: np.random.Generator, known: Sequence[Fact], count: int
) -> Iterator[Question]:
  for fact in known:
    for wording in words.QUESTIONS:
      for _ in range(count):
        yield multiple_choice(rng, fact, wording)


def _check(**values: int) -> None:
  """Raise ConfigError if a number is out of its range."""
  smallest = {"seed": 0, "evaluation_seed": 0, "num_groups": 3}
  for name, value in values.items():
    least = smallest.get(name, 1)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
      raise ConfigError(
        f"{name}: expected an integer of at least {least}, got {value!r}"
      )
  most, groups = values["num_things"], values["num_groups"]
  if not groups <= most <= MOST_THINGS:
    raise ConfigError(
      f"num_things: expected from {groups} (num_groups) to {MOST_THINGS} (names for "
      f"each domain), got {most}"
    )
