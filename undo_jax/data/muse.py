"""MUSE's files: texts to be forgotten, and questions about them.

A directory has a folder a group, as the benchmark is published, with a file a split:
.json lists, .jsonl lines or Parquet tables (PATH.json, PATH.parquet or PATH-*.parquet).

  verbmem   forget                                 `prompt` and `gt`, what follows it
  knowmem   forget_qa, retain_qa and, for worked   `question` and `answer`
            examples, forget_qa_icl, retain_qa_icl
  privleak  forget, holdout                        texts, or `text`

Reference: Shi et al., MUSE, arXiv 2407.06460.
"""

from collections.abc import Sequence
import pathlib
from typing import Any

from undo_jax.data import questions
from undo_jax.utils.errors import ConfigError

FIELDS = {
  "verbmem": ("prompt", "gt"),
  "knowmem": ("question", "answer"),
  "privleak": ("text",),
}
_SUFFIXES = (".json", ".jsonl", ".parquet")


def has(directory: pathlib.Path, group: str, split: str) -> bool:
  """Whether there are files of a split; see `read`."""
  return bool(_files(directory, group, split))


def read(directory: pathlib.Path, group: str, split: str) -> list[tuple[str, ...]]:
  """Read a split.

  Args:
    directory: of the benchmark.
    group: of FIELDS.
    split: see above.

  Returns:
    The texts of each row's fields, in order.

  Raises:
    ConfigError: if there is no file, no row, or a row lacks a text; names file and row.
  """
  paths = _files(directory, group, split)
  if not paths:
    raise ConfigError(
      f"expected a file {group}/{split} with one of {', '.join(_SUFFIXES)} in "
      f"{directory}, got none; put MUSE's there"
    )
  parsed = [
    _texts(row, FIELDS[group], f"{path}, {place}")
    for path in paths
    for place, row in questions.rows(path)
  ]
  if not parsed:
    raise ConfigError(f"expected rows in {paths[0]}, got none; get it anew")
  return parsed


def _files(directory: pathlib.Path, group: str, split: str) -> Sequence[pathlib.Path]:
  folder = directory.expanduser() / group
  whole = [folder / f"{split}{suffix}" for suffix in _SUFFIXES]
  there = [path for path in whole if path.is_file()]
  return there[:1] or sorted(folder.glob(f"{split}-*.parquet"))


def _texts(row: Any, fields: Sequence[str], place: str) -> tuple[str, ...]:
  if isinstance(row, str) and len(fields) == 1:
    row = {fields[0]: row}
  values = [row.get(name) if isinstance(row, dict) else None for name in fields]
  texts = [text for text in values if isinstance(text, str) and text.strip()]
  if len(texts) < len(fields):
    shown = repr(row) if len(repr(row)) < 60 else f"{repr(row)[:57]}..."
    raise ConfigError(
      f"expected texts as {' and '.join(fields)} in {place}, got {shown}; get the file "
      "anew"
    )
  return tuple(texts)
