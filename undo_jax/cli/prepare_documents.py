r"""Prepare your own documents: local files to packed rows, on all cores.

COMMAND:

  undo-jax prepare_documents --source=retain=english/ \
      --source='forget=korean/*.jsonl' --tokenizer=huggingface:tokenizer \
      --length=256 --output=corpora

A source is NAME=PATHS, where PATHS are files, folders and quoted globs of .txt,
.jsonl, .parquet, .html, .py, .md and .rst, separated by commas; the options below hold
for all sources.
Rows are read by undo_jax.data.rows.source("corpora", length=256, split="retain_train").

With an --output that ends in .jsonl the documents themselves are written, one JSON
object per line; so HTML pages become a corpus of text:

  undo-jax prepare_documents --source=help=pages/ --output=help.jsonl
"""

from collections.abc import Mapping, Sequence
import json
import pathlib
import time
from typing import Any

from absl import flags

from undo_jax.cli.process import Main
from undo_jax.data import packing
from undo_jax.data.documents import files as document_files
from undo_jax.data.documents import preparation
from undo_jax.data.documents.source import Source, find
from undo_jax.training.writers import Preparation
from undo_jax.utils import environment, files, tables
from undo_jax.utils.types import ConfigError, JsonObject, Options


def define() -> Main:
  """Define the flags; the main prepares the documents and prints a table of them."""
  source = flags.DEFINE_multi_string("source", None, "NAME=PATHS", required=True)
  output = flags.DEFINE_string(
    "output", None, "Directory to make, or a .jsonl file.", required=True
  )
  tokenizer = flags.DEFINE_string("tokenizer", "bytes", "As config.data.tokenizer.")
  length = flags.DEFINE_integer("length", 256, "Tokens in a row.")
  mode = flags.DEFINE_enum(
    "packing", "packed", packing.MODES, "As config.data.packing."
  )
  seed = flags.DEFINE_integer("seed", 0, "Of the division into train and validation.")
  workers = flags.DEFINE_integer("num_workers", None, "Processes; default: all cores.")
  options = _define_options()

  def main(argv: list[str]) -> None:
    del argv
    values = {name: option.value for name, option in options.items()}
    sources = _sources(source.value or (), values)
    path = pathlib.Path(str(output.value)).expanduser()
    if path.suffix == ".jsonl":
      print(f"{path}: {_extract(path, sources)} documents")
      return
    prepare(
      path,
      sources,
      tokenizer=str(tokenizer.value),
      length=int(length.value or 0),
      packing=str(mode.value),
      seed=int(seed.value or 0),
      num_workers=workers.value,
    )

  return main


def _define_options() -> dict[str, flags.FlagHolder]:
  """Define the flags that are fields of undo_jax.data.documents.source.Source."""
  string, integer = flags.DEFINE_string, flags.DEFINE_integer
  return {
    "text_field": string("text_field", "text", "Field or column of the text."),
    "question_field": string(
      "question_field", None, "Field of questions, which are read but not scored."
    ),
    "answer_field": string("answer_field", None, "Field of their answers."),
    "lines": flags.DEFINE_bool(
      "lines", True, "Each line of a .txt file is a document."
    ),
    "skip_empty": flags.DEFINE_bool("skip_empty", False, "Leave out empty documents."),
    "validation_fraction": flags.DEFINE_float(
      "validation_fraction", 0.01, "Expected share of the documents that are held out."
    ),
    "validation_tokens": integer(
      "validation_tokens", None, "Most tokens that are held out."
    ),
    "max_documents": integer(
      "max_documents", None, "Most documents of a training split."
    ),
    "max_tokens": integer("max_tokens", None, "Most tokens of a training split."),
    "max_document_tokens": integer(
      "max_document_tokens", None, "Leave out longer documents."
    ),
  }


def prepare(
  output: pathlib.Path, sources: Mapping[str, Source], **options: Any
) -> None:
  """Prepare the documents and print a table of them, and how long it took.

  Args:
    output: the directory to make.
    sources: by name.
    options: the other arguments of undo_jax.data.documents.preparation.prepare.
  """
  progress = Preparation("preparing")
  start = time.monotonic()
  with environment.PeakMemory() as memory:
    summary = preparation.prepare(output, sources=sources, progress=progress, **options)
  progress.close()
  seconds = time.monotonic() - start
  print(table(summary["sources"]))
  if progress.last is None:
    print(f"{output} held this already")
    return
  megabytes = sum(source["bytes"] for source in summary["sources"].values()) / 1e6
  print(
    f"{output}: {megabytes:.1f} MB of text in {seconds:.1f} s, "
    f"{megabytes / seconds:.2f} MB/s; peak memory {memory.bytes / 1e9:.2f} GB"
  )


def table(sources: JsonObject) -> str:
  """Return a Markdown table of the sources of documents.json, a line a split."""
  rows = []
  for name, source in sources.items():
    left_out = sum(source[reason] for reason in ("empty", "too_long", "held_out"))
    for split in source["rows"]:
      keys = ("documents", "tokens", "scored_tokens", "rows")
      numbers = [source[key][split] for key in keys]
      numbers.append(left_out if split == "train" else "")
      rows.append([f"{name}_{split}", *numbers])
  header = ["split", "documents", "tokens", "scored", "rows", "left out"]
  return tables.markdown(header, rows)


def _sources(texts: Sequence[str], options: Options) -> dict[str, Source]:
  """Return the sources by name from NAME=PATHS, each with the same options."""
  sources = {}
  for text in texts:
    name, equals, paths = text.partition("=")
    if not (name and equals and paths):
      raise ConfigError(f"--source: expected NAME=PATHS, got {text!r}")
    if name in sources:
      raise ConfigError("--source: expected each NAME once; put commas between paths")
    sources[name] = Source(paths=paths.split(","), **options)
  for name, source in sources.items():
    try:
      preparation.check(source)
    except ConfigError as error:
      raise ConfigError(f"source {name!r}: {error}") from None
  return sources


def _extract(output: pathlib.Path, sources: Mapping[str, Source]) -> int:
  """Write the documents as JSON lines; return their number."""
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
