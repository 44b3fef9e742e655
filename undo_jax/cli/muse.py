r"""Measure what a model repeats, knows and gives away of MUSE's texts.

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
from typing import Any

from absl import flags

from undo_jax.checkpoints import measured
from undo_jax.cli.process import Main
from undo_jax.data import tokenizers
from undo_jax.evaluation import memorization, muse
from undo_jax.evaluation.muse import Limits
from undo_jax.evaluation.subject import Subject
from undo_jax.utils import files
from undo_jax.utils.types import ConfigError


@dataclasses.dataclass(frozen=True)
class Request:
  """What is measured, and how."""

  directory: str
  checkpoint: str
  retain_checkpoint: str | None = None
  learning_rate: float | None = None
  tokenizer: str | None = None
  groups: Sequence[str] = muse.GROUPS
  limit: int | None = None
  batch_size: int = 8
  dtype: str = "float32"
  output: str | None = None


def define() -> Main:
  """Define the flags; the main prints the table."""
  text, number = flags.DEFINE_string, flags.DEFINE_integer
  values: dict[str, Any] = {
    "directory": text("directory", None, "Of the benchmark's files.", required=True),
    "checkpoint": text("checkpoint", None, "The model to measure.", required=True),
    "retain_checkpoint": text("retain_checkpoint", None, "The reference; see above."),
    "learning_rate": flags.DEFINE_float(
      "learning_rate", None, "Of an attack's member."
    ),
    "tokenizer": text(
      "tokenizer", None, "As data.tokenizer; by default the checkpoint's own."
    ),
    "groups": flags.DEFINE_list(
      "groups", list(muse.GROUPS), f"Of {', '.join(muse.GROUPS)}."
    ),
    "limit": number("limit", None, "Rows of a split, evenly spaced.", lower_bound=1),
    "batch_size": number("batch_size", 8, "Rows at once.", lower_bound=1),
    "dtype": flags.DEFINE_enum(
      "dtype", "float32", ["float32", "bfloat16"], "Of compute."
    ),
    "output": text("output", None, "Where to write the results as JSON."),
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
  path, other = request.checkpoint, request.retain_checkpoint
  subject = _subject(request, path, request.learning_rate)
  scores = muse.measure(subject, directory, groups=request.groups, limits=limits)
  if other is not None and "privacy" in scores:
    reference = muse.measure(
      _subject(request, other, None), directory, groups=("privacy",), limits=limits
    )["privacy"]
    leakage = muse.privacy_leakage(scores["privacy"], reference)
    scores["privacy"] |= {"reference_auc": reference["auc"], "leakage": leakage}
  print(muse.text(scores))
  if request.output:
    results = {"request": dataclasses.asdict(request), "scores": scores}
    files.write_json(pathlib.Path(request.output), results)


def _subject(request: Request, path: str, rate: float | None) -> Subject:
  """Return the model of a checkpoint."""
  config, params, own = measured.model_of(path, dtype=request.dtype, learning_rate=rate)
  named = request.tokenizer or own
  if named is None:
    raise ConfigError(
      f"--tokenizer: expected a name, since {path} has no tokenizer.json, got none; "
      "give it as data.tokenizer"
    )
  return Subject(config, params, tokenizers.make(named), batch_size=request.batch_size)
