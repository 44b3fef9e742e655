"""What documents a source is: its files and how they are read and divided."""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import glob
import logging
import os
import pathlib
from typing import NoReturn

from undo_jax.utils import checks
from undo_jax.utils.errors import ConfigError
from undo_jax.utils.json_types import JsonObject

LOGGER = logging.getLogger("undo_jax")
FORMATS = {
  ".txt": "text",
  ".jsonl": "jsonl",
  ".parquet": "parquet",
  ".html": "html",
  ".htm": "html",
  # Not read where merely a folder is named: they may be about its documents.
  ".py": "file",
  ".md": "file",
  ".rst": "file",
}
_KNOWN = ".txt, .jsonl, .parquet, .html, .py, .md or .rst files"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
  r"""Local files, how documents are read from them, and which are held out.

  Attributes:
    paths: files, folders (their .txt, .jsonl, .parquet and .html files, at any depth)
      and globs (** for any depth); read in this order, those of a folder or glob
      sorted by path.
    text_field: the field of a JSON line, or column of a Parquet file, with the text.
    question_field: if set, documents are pairs instead: question, "\nAnswer: ",
      answer; only the answer's tokens are scored. Needs .jsonl or .parquet.
    answer_field: the field with the answer; set with question_field.
    lines: a .txt file holds a document a line (else the file is one document, as .py,
      .md, .rst and .html always are). Empty lines are no documents, nor are pages of
      HTML without text.
    skip_empty: leaves out records without text, or null, instead of refusing them.
    validation_fraction: expected share of documents in the validation split, in
      [0, 1); a document's text and the seed decide. 0: there is no such split.
    test_fraction: likewise of the test split; both together below 1.
    validation_tokens: most tokens of the validation split, and of the test split; its
      last document is cut to fit. Later ones go to the training split, unless their
      text is held out.
    max_documents: most documents of the training split, the first ones.
    max_tokens: most tokens of the training split; its last document is cut to fit.
    max_document_tokens: longer documents are left out (the UNDO paper's code: 2048).
  """

  paths: Sequence[str]
  text_field: str = "text"
  question_field: str | None = None
  answer_field: str | None = None
  lines: bool = True
  skip_empty: bool = False
  validation_fraction: float = 0.01
  test_fraction: float = 0.0
  validation_tokens: int | None = None
  max_documents: int | None = None
  max_tokens: int | None = None
  max_document_tokens: int | None = None

  def __post_init__(self) -> None:
    is_list = isinstance(self.paths, Sequence) and not isinstance(self.paths, str)
    if not is_list or not self.paths:
      raise ConfigError(f"paths: expected a list of paths, got {self.paths!r}")
    object.__setattr__(self, "paths", tuple(map(str, self.paths)))
    for name in ("text_field", "question_field", "answer_field"):
      value = getattr(self, name)
      if not isinstance(value, str) and (value is not None or name == "text_field"):
        raise ConfigError(f"{name}: expected the name of a field, got {value!r}")
    for name in ("lines", "skip_empty"):
      if not isinstance(getattr(self, name), bool):
        raise ConfigError(
          f"{name}: expected True or False, got {getattr(self, name)!r}"
        )
    for name in ("validation_fraction", "test_fraction"):
      share = getattr(self, name)
      if not checks.is_number(share) or not 0.0 <= share < 1.0:
        expected = "at least 0 and less than 1"
        raise ConfigError(f"{name}: expected {expected}, got {share!r}")
    if self.validation_fraction + self.test_fraction >= 1.0:
      raise ConfigError(
        "test_fraction: expected less than 1 together with validation_fraction="
        f"{self.validation_fraction}, got {self.test_fraction}; lower one of them"
      )
    for name in (
      "validation_tokens",
      "max_documents",
      "max_tokens",
      "max_document_tokens",
    ):
      value = getattr(self, name)
      if value is not None and (type(value) is not int or value < 1):
        raise ConfigError(f"{name}: expected a positive integer or None, got {value!r}")
    if (self.question_field is None) != (self.answer_field is None):
      raise ConfigError(
        "question_field and answer_field: expected both or neither, got "
        f"{self.question_field!r} and {self.answer_field!r}"
      )

  @property
  def fields(self) -> tuple[str, ...]:
    """The fields of a record that are read: question and answer, or the text."""
    if self.question_field is None or self.answer_field is None:
      return (self.text_field,)
    return (self.question_field, self.answer_field)

  @property
  def splits(self) -> tuple[str, ...]:
    """The names of its splits."""
    shares = {"validation": self.validation_fraction, "test": self.test_fraction}
    return ("train", *(name for name, share in shares.items() if share))

  def options(self) -> JsonObject:
    """Return all that determines the documents but the files."""
    values = dataclasses.asdict(self)
    del values["paths"]
    return values


def find(paths: Sequence[str]) -> list[pathlib.Path]:
  """Return the files of paths, folders and globs, each once, in order.

  Args:
    paths: see `Source`. In folders, hidden files and those of other formats do not
      count.

  Raises:
    ConfigError: if one matches no file, or a file that is not merely in a folder is
      of an unknown format.
  """
  unique: dict[pathlib.Path, None] = {}
  for pattern in paths:
    matching = _match(pattern)
    if not matching:
      raise ConfigError(
        f"expected files, but none matches {pattern!r}; give a path, a folder or a "
        f"quoted glob of {_KNOWN}"
      )
    for path in matching:
      if path.suffix not in FORMATS:
        raise ConfigError(
          f"expected {_KNOWN}, got {path}; convert it or narrow the glob"
        )
    unique |= dict.fromkeys(matching)
  return list(unique)


def _match(pattern: str) -> list[pathlib.Path]:
  """Return the files that one path, folder or glob stands for, sorted."""
  path = pathlib.Path(pattern).expanduser()
  if path.is_dir():
    matching = list(_inside(path))
  else:  # A name may look like a glob.
    names = [path] if path.is_file() else glob.glob(str(path), recursive=True)
    matching = [file for file in map(pathlib.Path, names) if not file.is_dir()]
  for file in matching:
    if not file.is_file():
      raise ConfigError(
        f"expected a file, got {file}, a link to nothing or no file; mend or remove it"
      )
  return sorted(matching)


def _inside(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yield what a folder has by the names of documents, at any depth.

  Raises:
    ConfigError: if a folder in it cannot be listed, or is a link: such may go round
      in circles.
  """

  def refuse(error: OSError) -> NoReturn:
    raise ConfigError(
      f"expected a folder that can be read, got {error.filename} ({error.strerror})"
    )

  others = []
  for here, folders, names in os.walk(folder, onerror=refuse):
    folders[:] = [name for name in folders if not name.startswith(".")]
    for name in folders:
      if os.path.islink(os.path.join(here, name)):
        raise ConfigError(
          f"expected folders that are no links, got {os.path.join(here, name)}; give "
          "its path itself"
        )
    for file in (pathlib.Path(here, n) for n in names if not n.startswith(".")):
      if file.suffix not in FORMATS:
        others.append(file)
      elif FORMATS[file.suffix] != "file":
        yield file
  if others:
    _tell(folder, len(others), min(others).name)


@functools.cache  # Once, however often a folder is looked through.
def _tell(folder: pathlib.Path, count: int, name: str) -> None:
  LOGGER.warning("%s: %d files of other formats are left out (%s)", folder, count, name)
