r"""Measure how well a model forgot TOFU's authors, and what it still knows.

COMMAND (needs the extra `tofu`):

  undo-jax tofu --config=CONFIG --checkpoint=DIR --retain_checkpoint=DIR \
      --output=results.json

The config must be one of the task `tofu`; its data name the authors. A checkpoint is a
trained stage's directory (WORKDIR/stages/NAME), an attack's with --learning_rate, or a
Hugging Face directory. --retain_checkpoint is a model that never saw the authors to be
forgotten; without it the table has no forget quality.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import logging
import pathlib
from typing import Any

from absl import flags

from undo_jax.checkpoints.models import Model
from undo_jax.cli import measuring, overrides
from undo_jax.cli.process import Main
from undo_jax.data import tofu as tofu_files
from undo_jax.data import tokenizers
from undo_jax.data.tofu import Question
from undo_jax.evaluation import memorization, tofu_table
from undo_jax.evaluation.tofu_table import Measured, Subject
from undo_jax.tasks import tofu
from undo_jax.utils import files
from undo_jax.utils.types import ConfigError

LOGGER = logging.getLogger("undo_jax")


@dataclasses.dataclass(frozen=True)
class Request(measuring.Request):
  """What is measured, and how."""

  formulas: str = "paper"
  forget: str = "all"
  max_new_tokens: int = 100
  num_shown: int = 2


def define() -> Main:
  """Define the flags; the main prints the table."""
  config = overrides.define()
  number = flags.DEFINE_integer
  values = measuring.define(limit="Questions of a set, evenly spaced.") | {
    "formulas": flags.DEFINE_enum(
      "formulas",
      "paper",
      tofu_table.FORMULAS,
      "The paper's, or those that published numbers were computed by: geometric means "
      "in truth ratios, and the end of text scored.",
    ),
    "forget": flags.DEFINE_enum(
      "forget",
      "all",
      ["all", "scored"],
      "All questions about authors to be forgotten, as TOFU asks, or only those that "
      "no attack reads.",
    ),
    "max_new_tokens": number("max_new_tokens", 100, "Of an answer.", lower_bound=1),
    "num_shown": number("num_shown", 2, "Answers printed of a set.", lower_bound=0),
  }

  def main(argv: list[str]) -> None:
    del argv
    chosen = {name: flag.value for name, flag in values.items()}
    measure(config.value, Request(**chosen))

  return main


def measure(config: Any, request: Request) -> None:
  """Print the table of a checkpoint, and write it where the request says."""
  if config.task != "tofu":
    raise ConfigError(
      f"config.task: expected 'tofu', got {config.task!r}; give a config of that task"
    )
  memorization.check_rouge()
  tofu.check(config.data)
  questions = tofu.questions_of(config.data, all_forget=request.forget == "all")
  sets = {n: tofu_files.spread(questions[n], request.limit) for n in tofu_table.SETS}
  subject = _subject(config.data, request, request.model())
  tables = _measured(subject, sets, config.data, request.max_new_tokens)
  reference, other = None, request.reference()
  if other is not None:
    sets = {"forget": sets["forget"]}
    subject = _subject(config.data, request, other)
    reference = _measured(subject, sets, config.data, 0)["forget"]
  print(tofu_table.text(tables, reference, request.num_shown))
  if request.output:
    results = {"request": dataclasses.asdict(request), "data": tofu.plain(config.data)}
    results |= tofu_table.to_json(tables, reference)
    files.write_json(pathlib.Path(request.output), results)


def _measured(
  subject: Subject,
  sets: Mapping[str, Sequence[Question]],
  data: Any,
  max_new_tokens: int,
) -> dict[str, Measured]:
  """Measure sets of questions one after the other."""
  tables = {}
  for name, questions in sets.items():
    LOGGER.info("%s: %d questions", name, len(questions))
    tables[name] = subject.measure(
      name,
      questions,
      num_perturbed=data.num_perturbed,
      max_new_tokens=max_new_tokens,
    )
  return tables


def _subject(data: Any, request: Request, model: Model) -> Subject:
  """Return a model with the tokenizer and template of the config."""
  return Subject(
    model.config,
    model.params,
    tokenizers.make(data.tokenizer),
    tofu.encoder(data.template, data.tokenizer),
    formulas=request.formulas,
    batch_size=request.batch_size,
  )
