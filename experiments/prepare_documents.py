"""Prepares your own documents: local files to packed rows, on all cores.

COMMAND:

  python -m experiments.prepare_documents --source=retain=english/ \
      --source='forget=korean/*.jsonl' --tokenizer=huggingface:tokenizer \
      --length=256 --output=corpora

A source is NAME=PATHS: files, folders and quoted globs of .txt, .jsonl, .parquet and
.html, commas between them; the options below hold for all sources. Rows are read by
undo_jax.data.rows.source("corpora", length=256, split="retain_train").

With an --output that ends in .jsonl the documents themselves are written, a JSON
object a line; so HTML pages become a corpus of text:

  python -m experiments.prepare_documents --source=help=pages/ --output=help.jsonl
"""

import json
import pathlib
import time
from typing import Any

from absl import flags

from experiments import launch
from undo_jax.data import packing
from undo_jax.data.documents import files as document_files
from undo_jax.data.documents import preparation
from undo_jax.data.documents.source import find
from undo_jax.training.writers import Preparation
from undo_jax.utils import environment, files
from undo_jax.utils.types import ConfigError

_SOURCE = flags.DEFINE_multi_string("source", None, "NAME=PATHS; several times.")
_OUTPUT = flags.DEFINE_string("output", None, "Directory to make, or a .jsonl file.")
_TOKENIZER = flags.DEFINE_string("tokenizer", "bytes", "As config.data.tokenizer.")
_LENGTH = flags.DEFINE_integer("length", 256, "Tokens a row.")
_PACKING = flags.DEFINE_enum(
  "packing", "packed", packing.MODES, "As config.data.packing."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the division into train and validation.")
_WORKERS = flags.DEFINE_integer("num_workers", None, "Processes; default: all cores.")
# Fields of document_source.Source.
_OPTIONS = {
  "text_field": flags.DEFINE_string(
    "text_field", "text", "Field or column of the text."
  ),
  "question_field": flags.DEFINE_string(
    "question_field", None, "Field of questions, which are read but not scored."
  ),
  "answer_field": flags.DEFINE_string("answer_field", None, "Field of their answers."),
  "lines": flags.DEFINE_bool("lines", True, "Each line of a .txt file is a document."),
  "skip_empty": flags.DEFINE_bool("skip_empty", False, "Leave out empty documents."),
  "validation_fraction": flags.DEFINE_float(
    "validation_fraction", 0.01, "Expected share of the documents that are held out."
  ),
  "validation_tokens": flags.DEFINE_integer(
    "validation_tokens", None, "Most tokens that are held out."
  ),
  "max_documents": flags.DEFINE_integer(
    "max_documents", None, "Most documents of a training split."
  ),
  "max_tokens": flags.DEFINE_integer(
    "max_tokens", None, "Most tokens of a training split."
  ),
  "max_document_tokens": flags.DEFINE_integer(
    "max_document_tokens", None, "Leave out longer documents."
  ),
}
flags.mark_flags_as_required(["source", "output"])


def main(argv: list[str]) -> None:
  """Prepares the documents and prints a table of what was found."""
  del argv
  parsed = list(map(_parse, _SOURCE.value or ()))
  sources = dict(parsed)
  if len(sources) < len(parsed):
    raise ConfigError("--source: expected each NAME once; put commas between paths")
  for name, source in sources.items():
    try:
      preparation.check(source)
    except ConfigError as error:
      raise ConfigError(f"source {name!r}: {error}") from None
  output = pathlib.Path(str(_OUTPUT.value)).expanduser()
  if output.suffix == ".jsonl":
    print(f"{output}: {_extract(output, sources)} documents")
    return
  progress = Preparation("preparing")
  start = time.monotonic()
  with environment.PeakMemory() as memory:
    found = preparation.prepare(
      output,
      sources=sources,
      tokenizer=str(_TOKENIZER.value),
      length=int(_LENGTH.value or 0),
      packing=str(_PACKING.value),
      seed=int(_SEED.value or 0),
      num_workers=_WORKERS.value,
      progress=progress,
    )
  progress.close()
  seconds = time.monotonic() - start
  print(table(found["sources"]))
  if progress.last is None:
    print(f"{output} held this already")
    return
  megabytes = sum(source["bytes"] for source in found["sources"].values()) / 1e6
  print(
    f"{output}: {megabytes:.1f} MB of text in {seconds:.1f} s, "
    f"{megabytes / seconds:.2f} MB/s; peak memory {memory.bytes / 1e9:.2f} GB"
  )


def table(sources: dict[str, Any]) -> str:
  """Returns a Markdown table of the sources of documents.json, a line a split."""
  lines = [
    "| split | documents | tokens | scored | rows | left out |",
    "|---" * 6 + "|",
  ]
  for name, source in sources.items():
    left_out = sum(source[reason] for reason in ("empty", "too_long", "held_out"))
    for split in source["rows"]:
      keys = ("documents", "tokens", "scored_tokens", "rows")
      numbers = [source[key][split] for key in keys]
      numbers.append(left_out if split == "train" else "")
      lines.append(f"| {name}_{split} | {' | '.join(map(str, numbers))} |")
  return "\n".join(lines)


def _parse(text: str) -> tuple[str, preparation.Source]:
  """Returns a source and its name from NAME=PATHS."""
  name, equals, paths = text.partition("=")
  if not (name and equals and paths):
    raise ConfigError(f"--source: expected NAME=PATHS, got {text!r}")
  options = {key: flag.value for key, flag in _OPTIONS.items()}
  return name, preparation.Source(paths=paths.split(","), **options)


def _extract(output: pathlib.Path, sources: dict[str, preparation.Source]) -> int:
  """Writes the documents as JSON lines; returns their number."""
  if output.exists():
    raise ConfigError(f"--output: {output} exists already and is not overwritten")
  count = 0
  with files.new_file(output) as file:
    for source in sources.values():
      for record in document_files.read(find(source.paths), source):
        if record.text.strip():
          value = {"text": record.prompt + record.text, "source": record.place}
          file.write(json.dumps(value, ensure_ascii=False) + "\n")
          count += 1
  return count


if __name__ == "__main__":
  launch.run(main)
