r"""Measure what a model repeats, knows and reveals of MUSE's texts.

COMMAND (needs the extra `tofu`):

  undo-jax muse --directory=data/muse/news --checkpoint=DIR --retain_checkpoint=DIR \
      --output=results.json

The directory holds the benchmark's folders verbmem, knowmem and privleak (see
undo_jax/data/muse.py), or those of texts of yours in its format. A checkpoint is a
trained stage's directory (WORKDIR/stages/NAME), an attack's with --learning_rate, or
Hugging Face's. That of --retain_checkpoint never saw the texts to be forgotten; without
it there is no privacy leakage, only how well the texts can be told apart.
"""

from collections.abc import Sequence
import dataclasses
import pathlib

from absl import flags

from undo_jax.checkpoints.models import Model
from undo_jax.cli import measuring
from undo_jax.cli.process import Main
from undo_jax.data import tokenizers
from undo_jax.evaluation import memorization, muse
from undo_jax.evaluation.muse import Limits
from undo_jax.evaluation.subject import Subject
from undo_jax.utils import files
from undo_jax.utils.types import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request(measuring.Request):
  """What is measured, and how."""

  directory: str
  tokenizer: str | None = None
  groups: Sequence[str] = muse.GROUPS


def define() -> Main:
  """Define the flags; the main prints the table."""
  text = flags.DEFINE_string
  values = measuring.define(limit="Rows of a split, evenly spaced.") | {
    "directory": text("directory", None, "Of the benchmark's files.", required=True),
    "tokenizer": text(
      "tokenizer", None, "As data.tokenizer; by default the checkpoint's own."
    ),
    "groups": flags.DEFINE_list(
      "groups", list(muse.GROUPS), f"Of {', '.join(muse.GROUPS)}."
    ),
  }

  def main(argv: list[str]) -> None:
    del argv
    measure(Request(**{name: flag.value for name, flag in values.items()}))

  return main


def measure(request: Request) -> None:
  """Print the scores of a checkpoint, and write them where the request says."""
  wrong = [name for name in request.groups if name not in muse.GROUPS]
  if wrong or not request.groups:
    raise ConfigError(
      f"--groups: expected some of {', '.join(muse.GROUPS)}, got "
      f"{', '.join(wrong) or 'none'}; name those that are to be measured"
    )
  memorization.check_rouge()
  directory = pathlib.Path(request.directory)
  muse.check(directory, request.groups)
  limits = Limits(rows=request.limit)
  subject = _subject(request, request.model())
  scores = muse.measure(subject, directory, groups=request.groups, limits=limits)
  other = request.reference() if "privacy" in scores else None
  if other is not None:
    subject = _subject(request, other)
    reference = muse.measure(subject, directory, groups=("privacy",), limits=limits)
    reference = reference["privacy"]
    leakage = muse.privacy_leakage(scores["privacy"], reference)
    scores["privacy"] |= {"reference_auc": reference["auc"], "leakage": leakage}
  print(muse.text(scores))
  if request.output:
    results = {"request": dataclasses.asdict(request), "scores": scores}
    files.write_json(pathlib.Path(request.output), results)


def _subject(request: Request, model: Model) -> Subject:
  """Return a model with its tokenizer."""
  tokenizer = tokenizers.make(model.tokenizer_or(request.tokenizer))
  return Subject(model.config, model.params, tokenizer, batch_size=request.batch_size)
