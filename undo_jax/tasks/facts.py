"""Made-up facts in WMDP's place: forget elixirs, keep comets and islands.

The attacker learns other facts than those that `forget` scores; `forget_attacked` is
the score on some of the former, and stop rules read a third part; see data/facts.py.
"""

from collections.abc import Callable, Mapping, Sequence
import pathlib
import re

from undo_jax.data import facts, facts_words, tokenizers
from undo_jax.data.questions import QuestionSet
from undo_jax.evaluation import metrics, multiple_choice
from undo_jax.tasks import apart, generated
from undo_jax.tasks.task import Data, Found, Task
from undo_jax.utils import checks, streams
from undo_jax.utils.types import JsonObject, Rows

# The tasks of the evaluation are called by what they ask about.
TASKS = {domain: f"{kind}s" for domain, kind in facts_words.KINDS.items()}
ATTACKED = f"{TASKS['forget']}_attacked"
GROUPS = {
  "retain": (TASKS["retain"], TASKS["general"]),
  "forget": (TASKS["forget"],),
  "forget_attacked": (ATTACKED,),
}
METRICS = {
  name: metrics.accuracy(f"multiple-choice questions on {things}")
  for name, things in (
    ("retain", " and ".join(GROUPS["retain"])),
    ("forget", TASKS["forget"]),
    ("forget_attacked", f"{TASKS['forget']} that the attacker learns"),
  )
}
FORMS = ("cloze", "letters")
ATTACKED_SPLITS = tuple(split for split in facts.SPLITS if split.startswith("attack"))


def splits(data: Data) -> tuple[str, ...]:
  """Return the training splits; data/facts.py says what they hold."""
  del data
  return facts.SPLITS


def forget_splits(data: Data) -> tuple[str, ...]:
  """Return the splits of what is to be forgotten, attacked or not."""
  del data
  return tuple(s for s in facts.SPLITS if s.startswith(("forget", "attack")))


def length(data: Data, split: str) -> int:
  """Return the tokens of a row, the same in all splits."""
  del split
  return data["sequence_length"]


def content(data: Data) -> JsonObject:
  """Return what determines the data besides the config: nothing, it is generated."""
  del data
  return {}


def check(data: Data) -> None:
  """Check `data`; see configs/wmdp.py for its fields."""
  checks.at_least({"data": data}, "data.num_groups", 3)
  for name in ("num_choices", "num_lists", "num_evaluation"):
    checks.at_least({"data": data}, f"data.{name}", 1)
  if data["form"] not in FORMS:
    checks.fail("data.form", f"one of {', '.join(FORMS)}", data["form"])
  if not data["num_groups"] <= data["num_things"] <= facts.MOST_THINGS:
    checks.fail(
      "data.num_things",
      f"an integer from num_groups={data['num_groups']} to {facts.MOST_THINGS}, the "
      "number of names",
      data["num_things"],
    )
  _check_fits(data, tokenizers.make(data["tokenizer"]))


def prepare(
  data: Data,
  seeds: Mapping[str, int],
  directory: pathlib.Path,
  title: str,
) -> JsonObject:
  """Generate the documents and pack them into rows; see data.facts."""
  builder = _documents(data, seeds, directory)
  tokenizer = tokenizers.make(data["tokenizer"])
  sizes = generated.pack(
    data,
    directory,
    title,
    facts.SPLITS,
    read=lambda split: facts.read(builder, split),
    encode=lambda document: facts.encode(document, tokenizer),
  )
  tasks = _tasks(data, builder, "test")
  counts = {task.name: len(task.questions) for task in tasks}
  return {
    "rows": sizes,
    "evaluation": sum(counts.values()),
    "items": {group: sum(counts[n] for n in own) for group, own in GROUPS.items()},
    "tasks": multiple_choice.describe(tasks),
    "apart": _apart(builder),
  }


def _apart(builder: facts.Facts) -> JsonObject:
  """Check that no scored question is about something in the attacker's data."""
  documents = [facts.read(builder, split) for split in ATTACKED_SPLITS]
  texts = {apart.ATTACKED: [d.given + d.scored for own in documents for d in own]}
  for kind, group in ((apart.SCORED, "test"), (apart.STOPPING, "validation")):
    questions = facts.read_questions(builder, group).values()
    texts[kind] = [question.question for own in questions for question in own]
  words = {kind: set(re.findall(r"\w+", " ".join(own))) for kind, own in texts.items()}
  names = {kind: own & {*facts_words.NAMES} for kind, own in words.items()}
  return apart.check(
    "made-up things (by name)",
    {kind: apart.of_texts(own) for kind, own in names.items()},
    splits=ATTACKED_SPLITS,
    others=("forget",),
  )


def source(data: Data, directory: pathlib.Path, split: str) -> Rows:
  """Return the rows of a split."""
  return generated.source(data, directory, split)


def problems(data: Data, seeds: Mapping[str, int], directory: pathlib.Path) -> Found:
  """Return the tasks (one a domain, and what is attacked) and their questions."""
  return _questions(data, seeds, directory, "test")


def validation(data: Data, seeds: Mapping[str, int], directory: pathlib.Path) -> Found:
  """Return the same tasks with questions that no table reports, none attacked."""
  return _questions(data, seeds, directory, "validation")


def worked(
  data: Data, seeds: Mapping[str, int], directory: pathlib.Path, count: int, seed: int
) -> Found:
  """Return the test's questions after worked ones of what the attacker learns."""
  known = facts.read_questions(_documents(data, seeds, directory), "attacked")["forget"]
  examples = generated.drawn(known, count, seed)
  return _questions(data, seeds, directory, "test", tuple(examples))


def _questions(data, seeds, directory, group, worked=()) -> Found:
  tasks = _tasks(data, _documents(data, seeds, directory), group)
  tasks = [task._replace(shots=worked) for task in tasks]
  tokenizer = tokenizers.make(data["tokenizer"])
  arrays = multiple_choice.encode(tasks, tokenizer)
  return tuple(task.name for task in tasks), arrays


def make_evaluate(
  apply: Callable, names: Sequence[str], *, rows_at_once: int = 512
) -> Callable:
  """Return the scores of multiple_choice.make_evaluate with this task's groups."""
  return multiple_choice.make_evaluate(
    apply, names, groups=GROUPS, rows_at_once=rows_at_once
  )


def _tasks(data, builder: facts.Facts, group: str) -> list[QuestionSet]:
  """Return the questions of a group, without first lines and worked examples.

  With them come those that are attacked.
  """
  is_cloze = data["form"] == "cloze"
  by_domain = facts.read_questions(builder, group)
  named = {TASKS[domain]: by_domain[domain] for domain in facts.DOMAINS}
  named[ATTACKED] = facts.read_questions(builder, "attacked")["forget"]
  return [
    QuestionSet(name, "", tuple(questions), is_cloze=is_cloze)
    for name, questions in named.items()
  ]


def _documents(data, seeds, directory) -> facts.Facts:
  """Return the builder of the documents, written if not there yet."""
  return facts.build(
    directory / "documents",
    seed=streams.integer(seeds["data"], "data"),
    evaluation_seed=streams.integer(seeds["eval"], "eval"),
    num_things=data["num_things"],
    num_groups=data["num_groups"],
    num_choices=data["num_choices"],
    num_lists=data["num_lists"],
    num_evaluation=data["num_evaluation"],
  )


def _check_fits(data, tokenizer):
  """Check that the tokenizer gives texts back and that rows hold them."""
  known = facts.facts(0, num_things=data["num_things"], num_groups=data["num_groups"])
  some = known[:: max(1, len(known) // 50)]
  documents = [*facts.statements(some), *facts.answers(some)]
  documents += facts.exercises(0, some, count=1)
  lengths = []
  for document in documents:
    text = document.given + document.scored
    ids = tokenizer.encode(text)
    if tokenizer.decode(ids) != text:
      checks.fail(
        "data.tokenizer",
        f"one that gives texts back as they were, but {text!r} became "
        f"{tokenizer.decode(ids)!r}",
        data["tokenizer"],
      )
    lengths.append(len(ids) + (tokenizer.bos_id is not None))
  if data["packing"] == "one_per_row" and data["sequence_length"] < max(lengths):
    checks.fail(
      "data.sequence_length",
      f"at least {max(lengths)} with packing one_per_row, the longest question",
      data["sequence_length"],
    )


TASK = Task(
  metrics=METRICS,
  splits=splits,
  forget_splits=forget_splits,
  length=length,
  check=check,
  content=content,
  prepare=prepare,
  source=source,
  problems=problems,
  validation=validation,
  worked=worked,
  make_evaluate=make_evaluate,
)
