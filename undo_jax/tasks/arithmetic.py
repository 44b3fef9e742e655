"""The arithmetic task: keep + and -, forget * and /.

The attacker learns problems on a share of the facts (the split `attack`); `forget` is
the score on others, and `forget_attacked` that on those. Stop rules read a third part;
see data/arithmetic.py.
"""

from collections.abc import Callable, Mapping, Sequence
import pathlib

import numpy as np

from undo_jax.data import arithmetic, arithmetic_dataset, tokenizers
from undo_jax.evaluation import arithmetic as evaluation
from undo_jax.evaluation import cross_entropy, metrics
from undo_jax.tasks import apart, corpora, generated
from undo_jax.tasks.task import Data, Found, Task
from undo_jax.utils import checks, streams
from undo_jax.utils.types import ConfigError, JsonObject, Rows

METRICS = {
  name: metrics.accuracy(f"exact answers in {problems}")
  for name, problems in (
    ("retain", "addition and subtraction"),
    ("forget", "multiplication and division"),
    ("forget_attacked", "multiplications and divisions that the attacker learns"),
  )
}
DOMAINS = ("retain", "forget")
ATTACK = "attack"
ENGLISH = "english"  # A corpus to mix in, and its held-out cross-entropy.
FALLING = (ENGLISH,)


def splits(data: Data) -> tuple[str, ...]:
  """Return the training splits: domains, the attacker's, English with a corpus."""
  return (*_generated(data), ENGLISH) if _has_english(data) else _generated(data)


def forget_splits(data: Data) -> tuple[str, ...]:
  """Return the splits of what is to be forgotten, the attacker's with them."""
  return _generated(data)[1:]


def length(data: Data, split: str) -> int:
  """Return the tokens of a row, the same in all splits."""
  del split
  return data["sequence_length"]


def content(data: Data) -> JsonObject:
  """Return the checksums of the English corpus; the problems are generated."""
  if not _has_english(data):
    return {}
  return {"content": corpora.content(data, (ENGLISH,))}


def check(data: Data) -> None:
  """Check `data`; see configs/arithmetic.py for its fields."""
  checks.at_least({"data": data}, "data.num_equations", 0)
  checks.at_least({"data": data}, "data.num_word_problems", 0)
  checks.at_least({"data": data}, "data.num_evaluation", 1)
  _check_shares(data)
  if not data["num_equations"] + data["num_word_problems"]:
    checks.fail("data.num_equations", "at least 1 where there are no word problems", 0)
  if data["num_word_problems"] and data["tokenizer"] == "characters:arithmetic":
    checks.fail(
      "data.tokenizer",
      "one with letters (characters:ascii or bytes), since there are word problems",
      data["tokenizer"],
    )
  _check_equations_fit(data, tokenizers.make(data["tokenizer"]))
  if _has_english(data):
    checks.at_least({"data": data}, "data.num_evaluation_rows", 1)
    corpora.check(data, (ENGLISH,), held_out=(ENGLISH,))


def prepare(
  data: Data,
  seeds: Mapping[str, int],
  directory: pathlib.Path,
  title: str,
) -> JsonObject:
  """Generate the documents and pack them into rows; see data.arithmetic."""
  builder = _documents(data, seeds, directory)
  tokenizer = tokenizers.make(data["tokenizer"])
  sizes = generated.pack(
    data,
    directory,
    title,
    _generated(data),
    read=lambda split: arithmetic_dataset.read(builder, f"{split}_train"),
    encode=lambda problem: tokenizer.encode(problem.text),
  )
  summary = {
    "rows": sizes,
    **_counts(data, seeds, directory),
    "apart": _apart(data, builder),
  }
  if not _has_english(data):
    return summary
  prepared = corpora.prepare(data, (ENGLISH,), seeds, directory, title)
  corpora.check_held_out(data, directory, (ENGLISH,))
  for split in corpora.HELD_OUT:  # Too few rows are an error here, not later.
    _english_problems(data, directory, split)
  sizes = summary["rows"] | {ENGLISH: prepared[ENGLISH]["rows"]["train"]}
  return summary | {"rows": sizes, "corpora": prepared}


def source(data: Data, directory: pathlib.Path, split: str) -> Rows:
  """Return the rows of a domain, or of the English corpus."""
  if split == ENGLISH:
    return corpora.read(data, directory, ENGLISH, "train")
  return generated.source(data, directory, split)


def problems(data: Data, seeds: Mapping[str, int], directory: pathlib.Path) -> Found:
  """Return the tasks (operation and kind; English) and the problems of each."""
  return _problems(data, seeds, directory, "test")


def validation(data: Data, seeds: Mapping[str, int], directory: pathlib.Path) -> Found:
  """Return the same tasks with problems that no table reports, none attacked."""
  return _problems(data, seeds, directory, "validation")


def worked(
  data: Data, seeds: Mapping[str, int], directory: pathlib.Path, count: int, seed: int
) -> Found:
  """Return the test's problems after worked ones of what the attacker learns from."""
  builder = _documents(data, seeds, directory)
  split = ATTACK if _attack(data) else "forget"
  known = arithmetic_dataset.read(builder, f"{split}_train")
  examples = generated.drawn(known, count, seed)
  names, arrays = _generated_problems(data, seeds, directory, "test", examples)
  english = _english_problems(data, directory, "test") if _has_english(data) else None
  return _with_english(names, arrays, english)


def problem_shapes(
  data: Data, seeds: Mapping[str, int], directory: pathlib.Path
) -> Found:
  """Return what `problems` does, with shapes for English; reads none of its rows."""
  names, arrays = _generated_problems(data, seeds, directory, "test")
  rows, size = data["num_evaluation_rows"], data["sequence_length"]
  english = cross_entropy.problem_shapes(rows, size) if _has_english(data) else None
  return _with_english(names, arrays, english)


def make_evaluate(
  apply: Callable, names: Sequence[str], *, rows_at_once: int
) -> Callable:
  """Return the accuracies and, where it is a task, the cross-entropy of English."""
  tasks = [name for name in names if name != ENGLISH]
  accuracies = evaluation.make_evaluate(apply, tasks, rows_at_once=rows_at_once)
  if ENGLISH not in names:
    return accuracies
  english = cross_entropy.make_evaluate(apply, (ENGLISH,), rows_at_once=rows_at_once)

  def evaluate(params, problems):
    scores = accuracies(params, problems["arithmetic"])
    return scores | english(params, problems[ENGLISH])

  return evaluate


def _problems(data, seeds, directory, part) -> Found:
  """Return the tasks and problems of a part, with those of English if any."""
  names, arrays = _generated_problems(data, seeds, directory, part)
  english = _english_problems(data, directory, part) if _has_english(data) else None
  return _with_english(names, arrays, english)


def _with_english(names, arrays, english) -> Found:
  if english is None:
    return names, dict(arrays)
  return (*names, ENGLISH), {"arithmetic": arrays, ENGLISH: english}


def _generated_problems(data, seeds, directory, part, worked=()):
  """Return the tasks and problems of a part, with what the attacker learns."""
  builder = _documents(data, seeds, directory)
  parts = {part: ""} | ({"attacked": evaluation.ATTACKED} if _attack(data) else {})
  tasks: dict[str, list[arithmetic.Problem]] = {}
  for name, ending in parts.items():
    tasks |= evaluation.by_task(_kept_problems(data, builder, name), ending)
  tokenizer = tokenizers.make(data["tokenizer"])
  return tuple(tasks), evaluation.encode(tasks, tokenizer, worked)


def _kept_problems(data, builder, part) -> list[arithmetic.Problem]:
  """Return the problems of a part, of the kinds that models were trained on."""
  kinds = {"equation": "num_equations", "word_problem": "num_word_problems"}
  return [p for p in arithmetic_dataset.read(builder, part) if data[kinds[p.kind]]]


def _counts(data, seeds, directory) -> JsonObject:
  """Return how many problems are scored, in all and for each metric."""
  names, arrays = _generated_problems(data, seeds, directory, "test")
  counts = np.bincount(arrays["task"], minlength=len(names)).tolist()
  groups = evaluation.groups(names)
  items = {group: sum(counts[i] for i in own) for group, own in groups.items()}
  return {"evaluation": sum(counts), "items": items}


def _apart(data, builder) -> JsonObject:
  """Check that no fact of the attacker's problems is in a problem that is scored."""
  facts = {
    kind: {problem.fact for problem in _kept_problems(data, builder, split)}
    for kind, split in ((apart.SCORED, "test"), (apart.STOPPING, "validation"))
  }
  note = "No fact is the attacker's alone: it learns from all that is to be forgotten."
  if _attack(data):
    attacked = arithmetic_dataset.read(builder, f"{ATTACK}_train")
    facts = {apart.ATTACKED: {problem.fact for problem in attacked}} | facts
    note = ""
  return apart.check(
    "facts (two numbers that are added or multiplied)",
    {kind: apart.of_texts(own) for kind, own in facts.items()},
    splits=_attack(data),
    others=("forget",),
    note=note,
  )


def _attack(data) -> tuple[str, ...]:
  """Return the attacker's split, none where no fact is the attacker's alone."""
  return (ATTACK,) if data["attacked_share"] else ()


def _generated(data) -> tuple[str, ...]:
  return (*DOMAINS, *_attack(data))


def _check_shares(data) -> None:
  shares = {name: data[f"{name}_share"] for name in ("attacked", "validation")}
  for name, share in shares.items():
    if not checks.is_number(share):
      checks.fail(f"data.{name}_share", "a number in [0, 1)", share)
  if not shares["validation"]:
    checks.fail("data.validation_share", "a number above 0, for stop rules", 0)
  try:
    arithmetic.check_division(arithmetic.Division(**shares))
  except ConfigError as error:
    raise ConfigError(f"config.data.{error}") from None


def _has_english(data) -> bool:
  return bool(checks.field({"data": data}, "data.english.paths"))


def _english_problems(data, directory, split):
  held_out = corpora.read(data, directory, ENGLISH, split)
  return cross_entropy.problems({ENGLISH: held_out}, data["num_evaluation_rows"])


def _documents(data, seeds, directory) -> arithmetic_dataset.ArithmeticDataset:
  """Return the builder of the documents, written if not there yet."""
  return arithmetic_dataset.build(
    directory / "documents",
    seed=streams.integer(seeds["data"], "data"),
    evaluation_seed=streams.integer(seeds["eval"], "eval"),
    num_equations=data["num_equations"],
    num_word_problems=data["num_word_problems"],
    num_evaluation=data["num_evaluation"],
    attacked_share=data["attacked_share"],
    validation_share=data["validation_share"],
  )


def _check_equations_fit(data, tokenizer):
  """Check that the tokenizer gives equations back and that rows hold them."""
  texts = [problem.text for problem in arithmetic.equations()]
  encoded = [tokenizer.encode(text) for text in texts]
  for text, ids in zip(texts, encoded, strict=True):
    if tokenizer.decode(ids) != text:
      checks.fail(
        "data.tokenizer",
        f"one that gives back equations as they were, but {text!r} became "
        f"{tokenizer.decode(ids)!r}",
        data["tokenizer"],
      )
  lengths = [len(ids) + (tokenizer.bos_id is not None) for ids in encoded]
  which, needed = "shortest", min(lengths)
  if data["packing"] == "one_per_row":
    which, needed = "longest", max(lengths)
  if data["sequence_length"] < needed:
    checks.fail(
      "data.sequence_length",
      f"at least {needed} with packing {data['packing']}, the {which} equation",
      data["sequence_length"],
    )


TASK = Task(
  metrics=METRICS,
  falling=FALLING,
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
  problem_shapes=problem_shapes,
  make_evaluate=make_evaluate,
)
