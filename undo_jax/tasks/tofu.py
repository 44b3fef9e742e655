"""TOFU: forget some authors who do not exist, keep others; from the user's files.

The files of a directory are those of the benchmark (see data/tofu.py); of its authors
the first `num_forget_authors` and `num_retain_authors` are the run's. The questions
about each author to be forgotten are divided by a hash: an attacker gets
`attacked_share` of them (the split `attack`), and only the others are scored as
`forget`, so that nothing that an attack brings back is something that it read. Models
learn from both (the split `forget`). Questions about one author share some facts, such
as the name, so compare what comes back with a model that never saw the author. Kept
authors are scored on questions that were learned, those with perturbed answers. No
question with its answer is in `forget` and `retain`.

Only answers are scored in training, with the end of text after them. Scores are those
of evaluation/tofu.py, by the paper's formulas.

Reference: TOFU, arXiv 2401.06121.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import json
import pathlib
from typing import Any

from ml_collections import config_dict

from undo_jax.data import tofu as tofu_files
from undo_jax.data import tokenizers
from undo_jax.data.packing import Masked
from undo_jax.data.tofu import Encode, Pair, Question
from undo_jax.data.tokenizers import Tokenizer
from undo_jax.evaluation import chat, metrics
from undo_jax.evaluation import tofu as scores
from undo_jax.evaluation.tofu import Answers
from undo_jax.tasks import apart, generated
from undo_jax.tasks.task import Data, Found, Task
from undo_jax.utils import checks
from undo_jax.utils.types import ConfigError, JsonObject, Rows

SPLITS = ("retain", "forget", "attack", "real_authors", "world_facts")
FILES = (
  "forget",
  "forget_perturbed",
  "retain",
  "retain_perturbed",
  "real_authors",
  "world_facts",
)
CHAT = "chat"  # As a template: the tokenizer's own.
PACKINGS = ("one_per_row", "packed")
METRICS = {
  name: metrics.probability(f"right answers about {whose} authors, length-normalized")
  for name, whose in (("retain", "kept"), ("forget", "forgotten"))
}


def splits(data: Data) -> tuple[str, ...]:
  """Return the training splits; see above."""
  del data
  return SPLITS


def forget_splits(data: Data) -> tuple[str, ...]:
  """Return the questions of the authors to be forgotten, all and the attacked."""
  del data
  return ("forget", "attack")


def length(data: Data, split: str) -> int:
  """Return the tokens of a row, the same in all splits."""
  del split
  return data["sequence_length"]


def content(data: Data) -> JsonObject:
  """Return the checksums of the files."""
  return {"content": tofu_files.content([_path(data, name) for name in FILES])}


def check(data: Data) -> None:
  """Check `data`: its fields, all its files, and that each row has room."""
  share = data["attacked_share"]
  if not checks.is_number(share) or not 0 < share < 1:
    checks.fail("data.attacked_share", "a number above 0 and below 1", share)
  for name in ("num_forget_authors", "num_retain_authors", "num_perturbed"):
    if data[name] is not None:
      checks.at_least({"data": data}, f"data.{name}", 1)
  for name in scores.SETS:
    if data["num_evaluation"][name] is not None:
      smallest = 1 if name in ("forget", "retain") else 0
      checks.at_least({"data": data}, f"data.num_evaluation.{name}", smallest)
  if data["packing"] not in PACKINGS:
    expected = f"one of {', '.join(PACKINGS)}, which keep answers whole"
    checks.fail("data.packing", expected, data["packing"])
  if data["template"] != CHAT:
    tofu_files.check_template(data["template"])
  _check_fits(data)
  answers_of(data)


def prepare(
  data: Data,
  seeds: Mapping[str, int],
  directory: pathlib.Path,
  title: str,
) -> JsonObject:
  """Pack the questions into rows, their answers alone scored."""
  del seeds  # Nothing is drawn.
  documents = _documents(data)
  encode = encoder(data["template"], data["tokenizer"])
  sizes = generated.pack(
    data,
    directory,
    title,
    SPLITS,
    read=documents.__getitem__,
    encode=lambda q: _masked(encode(q.question, q.answer, place=q.place)),
  )
  answers = answers_of(data)
  return {
    "rows": sizes,
    "evaluation": sum(map(len, answers.values())),
    "tasks": scores.describe(answers),
    "apart": _apart(data, documents["attack"]),
  }


def _apart(data: Data, attacked: Sequence[Question]) -> JsonObject:
  """Check that no question that the attacker reads is scored."""
  questions = questions_of(data)
  scored = [*questions["forget"], *questions["retain"]]
  texts = {apart.ATTACKED: attacked, apart.SCORED: scored}
  return apart.check(
    "questions",
    {kind: apart.of_texts(q.question for q in own) for kind, own in texts.items()},
    splits=("attack",),
    others=("forget",),
    note="Questions about one author share some of what they tell. No stop rule reads "
    "any.",
  )


def source(data: Data, directory: pathlib.Path, split: str) -> Rows:
  """Return the rows of a split."""
  return generated.source(data, directory, split)


def problems(data: Data, seeds: Mapping[str, int], directory: pathlib.Path) -> Found:
  """Return the names of the scores by task and the answers that they rest on."""
  del seeds, directory  # The questions stay in their files; nothing is drawn.
  return _problems(json.dumps(plain(data)), *tofu_files.content(_paths(data)))


def make_evaluate(
  apply: Callable, names: Sequence[str], *, rows_at_once: int = 512
) -> Callable:
  """Return the scores of evaluation.tofu.make_evaluate."""
  return scores.make_evaluate(apply, names, rows_at_once=rows_at_once)


# ---- What the command `tofu` reads too.


def questions_of(data: Data, *, all_forget: bool = False) -> dict[str, list[Question]]:
  """Return all questions of each set of evaluation.tofu, not only those scored.

  Args:
    data: the config's.
    all_forget: whether `forget` has the attacked questions too.

  Raises:
    ConfigError: if a file cannot be read or lacks what is asked for; one line.
  """
  forgotten = _authors(data, "forget_perturbed", "forget", perturbed=True)
  divided = [tofu_files.divide(own, data["attacked_share"]) for own in forgotten]
  attacked, held = ([q for pair in divided for q in pair[i]] for i in range(2))
  kept = [q for own in _authors(data, "retain") for q in own]
  others = _read(data, "retain_perturbed", perturbed=True, paraphrased=True)
  questions = {
    "forget": [q for own in forgotten for q in own] if all_forget else held,
    "retain": tofu_files.with_answers(kept, others),
    "forget_attacked": attacked,
    "real_authors": _read(data, "real_authors", perturbed=True),
    "world_facts": _read(data, "world_facts", perturbed=True),
  }
  if not questions["retain"]:
    raise ConfigError(
      f"expected questions of {_path(data, 'retain')} in "
      f"{_path(data, 'retain_perturbed')}, got none of the kept authors' {len(kept)}; "
      "give files that belong together"
    )
  return questions


def encoder(template: str, tokenizer: str) -> Encode:
  """Return how questions and answers become ids.

  Args:
    template: with {question} and {answer}, or "chat": as the template beside the
      tokenizer's file writes a user's message and the assistant's answer.
    tokenizer: its name.

  Raises:
    ConfigError: if the tokenizer has no chat template.
  """
  made = tokenizers.make(tokenizer)
  if template != CHAT:
    return tofu_files.by_template(template, made)
  kind, _, path = tokenizer.partition(":")
  place = pathlib.Path(path).expanduser()
  chat_template = (
    chat.read(place.parent if place.is_file() else place) if path else None
  )
  if chat_template is None or kind != "huggingface":
    raise ConfigError(
      "config.data.template: expected a chat template beside the tokenizer "
      f"{tokenizer!r}, got none; give text with {{question}} and {{answer}}"
    )
  return functools.partial(_chat, chat_template, made)


def _chat(
  template: chat.ChatTemplate, made: Any, question: str, answer: str, *, place: str
) -> Pair:
  """Return a conversation's ids, without the BOS that rows begin with anyway."""
  del place
  messages = [{"role": "user", "content": question}]
  given = made.encode_chat(template.render(messages, begins_answer=True))
  if given[:1] == [made.bos_id]:
    given = given[1:]
  return Pair(tuple(given), tuple(made.encode(answer)))


def answers_of(data: Data) -> dict[str, list[Answers]]:
  """Return the answers that are scored in each set, as ids."""
  encode = encoder(data["template"], data["tokenizer"])
  limits = data["num_evaluation"]
  return {
    name: [
      scores.answers(q, encode, data["num_perturbed"], alone=name == "forget_attacked")
      for q in tofu_files.spread(questions, limits[name])
    ]
    for name, questions in questions_of(data).items()
  }


# ---- Files.


def _path(data: Data, name: str) -> pathlib.Path:
  return pathlib.Path(data["directory"]).expanduser() / data["files"][name]


def _paths(data: Data) -> list[pathlib.Path]:
  return [_path(data, name) for name in FILES]


def _read(data: Data, name: str, **kind: bool) -> list[Question]:
  return tofu_files.read(_path(data, name), **kind)


def _authors(
  data: Data, name: str, whose: str | None = None, *, perturbed: bool = False
) -> list[list[Question]]:
  """Return the questions of a file's first authors, so many as the run has."""
  field = f"num_{whose or name}_authors"
  questions = _read(data, name, perturbed=perturbed, paraphrased=perturbed)
  return tofu_files.authors(questions, data[field], field=f"config.data.{field}")


def _documents(data: Data) -> dict[str, list[Question]]:
  """Return the questions of each training split."""
  forgotten, kept = (_authors(data, name) for name in ("forget", "retain"))
  divided = [tofu_files.divide(own, data["attacked_share"])[0] for own in forgotten]
  documents = {
    "retain": [q for own in kept for q in own],
    "forget": [q for own in forgotten for q in own],
    "attack": [q for own in divided for q in own],
    "real_authors": _read(data, "real_authors"),
    "world_facts": _read(data, "world_facts"),
  }
  tofu_files.check_apart(documents["forget"], documents["retain"])
  _check_same(data, documents["forget"])
  return documents


def _check_same(data: Data, forgotten: Sequence[Question]) -> None:
  """Check that both forget files have the same questions; attacks read one of them."""
  others = _authors(data, "forget_perturbed", "forget", perturbed=True)
  perturbed = [q for own in others for q in own]
  for one, other in zip(forgotten, perturbed, strict=False):
    if (one.question, one.answer) != (other.question, other.answer):
      raise ConfigError(
        f"expected the same questions and answers in the same lines, got {one.place} "
        f"and {other.place} that differ; give files that belong together"
      )
  if len(forgotten) != len(perturbed):
    raise ConfigError(
      f"expected as many lines in {_path(data, 'forget')} as in "
      f"{_path(data, 'forget_perturbed')}, got {len(forgotten)} and {len(perturbed)}; "
      "give files that belong together"
    )


def _masked(pair: Pair) -> Masked:
  """Return a document whose answer alone is scored."""
  mask = [0] * len(pair.given) + [1] * len(pair.scored)
  return Masked([*pair.given, *pair.scored], mask)


def _check_fits(data: Data) -> None:
  """Check that the questions can be encoded, and with one_per_row fit their rows."""
  encode = encoder(data["template"], data["tokenizer"])
  special = 1 + (tokenizers.make(data["tokenizer"]).bos_id is not None)
  longest, place = 0, ""
  for question in [q for own in _documents(data).values() for q in own]:
    try:
      pair = encode(question.question, question.answer, place=question.place)
    except ConfigError:
      raise
    except ValueError as error:  # Characters that the tokenizer does not know.
      raise ConfigError(f"{question.place}: {error}") from None
    size = len(pair.given) + len(pair.scored) + special - 1
    if size > longest:
      longest, place = size, question.place
  if data["packing"] == "one_per_row" and data["sequence_length"] < longest:
    checks.fail(
      "data.sequence_length",
      f"at least {longest} with packing one_per_row, the longest question ({place})",
      data["sequence_length"],
    )


def plain(data: Data) -> JsonObject:
  """Return a config's data as JSON has them."""
  return data.to_dict() if isinstance(data, config_dict.ConfigDict) else dict(data)


@functools.lru_cache(maxsize=2)  # Thousands of answers, the same in all stages.
def _problems(fields: str, *contents: str) -> Found:
  del contents  # Files may be replaced.
  data = json.loads(fields)
  tokenizer: Tokenizer = tokenizers.make(data["tokenizer"])
  answers = answers_of(data)
  arrays = scores.encode(answers, bos_id=tokenizer.bos_id, pad_id=tokenizer.pad_id)
  return scores.names_of(answers), arrays


TASK = Task(
  metrics=METRICS,
  falling=(f"forget{scores.TRUTH_RATIO}",),
  splits=splits,
  forget_splits=forget_splits,
  length=length,
  check=check,
  content=content,
  prepare=prepare,
  source=source,
  problems=problems,
  make_evaluate=make_evaluate,
)
