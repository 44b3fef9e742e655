"""The user's own documents: local files to packed rows, in one stream.

    files -> chunks -> ids on all cores -> train or validation -> packed rows

What is written depends on the files' bytes and the settings alone: neither on the
number of workers nor on where the files are. Memory does not grow with the corpus.

A directory holds rows/ (the dataset, see data.rows; splits "<source>_train" and
"<source>_validation"), hashes/ (of the documents' texts, a file for each split) and,
when all is done, documents.json.
"""

from collections.abc import Callable, Generator, Mapping
import concurrent.futures
import contextlib
import hashlib
import os
import pathlib
import re
import shutil
from typing import Any

import numpy as np

from undo_jax.data import packing, rows, tokenizers
from undo_jax.data.documents import files as document_files
from undo_jax.data.documents import hashes as document_hashes
from undo_jax.data.documents import html_text
from undo_jax.data.documents.division import Division, Status
from undo_jax.data.documents.encoding import encode_all
from undo_jax.data.documents.hashes import Hashes, Overlap, hashes, overlap
from undo_jax.data.documents.source import FORMATS, Source, find
from undo_jax.utils import files
from undo_jax.utils.errors import ConfigError
from undo_jax.utils.json_types import JsonObject

__all__ = (
  "Hashes",
  "Overlap",
  "Source",
  "Status",
  "check",
  "content_hashes",
  "fingerprint",
  "hashes",
  "overlap",
  "prepare",
)

# Counts up when the same files and settings begin to give other documents.
VERSION = 1
DONE, HASHES = "documents.json", "hashes"
# Of files that are a document each, so many bytes are read before compute.
CHECKED_BYTES = 2**24


Progress = Callable[[Status], None]


# MARK: before compute


def check(source: Source) -> None:
  """Read enough of each file to check that it is as expected.

  Of files that are one document each only the first `CHECKED_BYTES` are read. The
  whole is checked during preparation, with the same errors.

  Raises:
    ConfigError: if a path matches nothing, a file is empty or not UTF-8, a field or
      column is missing, or a document has no text; the file and line are named.
  """
  num_bytes = 0
  for path in find(source.paths):
    documents = 0
    for chunk in document_files.chunks([path], source):
      is_whole = chunk.kind == "files"
      num_bytes += chunk.file_bytes * is_whole
      if num_bytes > CHECKED_BYTES and is_whole:
        documents = 1  # Or so we assume.
        break
      for record in document_files.records(chunk, source):
        documents += document_files.has_text(record, source)
      if documents:
        break
    if not documents and FORMATS[path.suffix] != "html":
      raise ConfigError(
        f"expected documents, but {path} has only empty ones; remove it"
      )


def fingerprint(source: Source) -> JsonObject:
  """Return what determines a source's documents; paths do not.

  Returns:
    {"version": of the way files are read, "files": a list of {"format", "sha256",
    "bytes"} in the order they are read, "options": those of the source}; where there
    are pages, "html": what reads them.

  Raises:
    ConfigError: if a path matches nothing or a file cannot be read.
  """
  return _fingerprint(source, _describe(find(source.paths)))


def _fingerprint(source: Source, described: list[JsonObject]) -> JsonObject:
  without_paths = [
    {"format": FORMATS[pathlib.Path(file["path"]).suffix]}
    | {key: file[key] for key in ("sha256", "bytes")}
    for file in described
  ]
  parts = {"version": VERSION, "files": without_paths, "options": source.options()}
  has_pages = any(file["format"] == "html" for file in without_paths)
  return parts | ({"html": html_text.PARSER} if has_pages else {})


def _describe(paths: list[pathlib.Path]) -> list[JsonObject]:
  """Return path, sha256 and bytes of files, several read at once."""
  with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
    return list(pool.map(_describe_file, paths))


def _describe_file(path: pathlib.Path) -> JsonObject:
  try:
    with open(path, "rb") as file:
      digest = hashlib.file_digest(file, "sha256").hexdigest()
      return {"path": str(path), "sha256": digest, "bytes": file.tell()}
  except OSError as error:
    raise document_files.unreadable(path, error) from None


# MARK: prepare


def prepare(
  directory: str | os.PathLike[str],
  *,
  sources: Mapping[str, Source],
  tokenizer: str,
  length: int,
  packing: str,
  seed: int,
  num_workers: int | None = None,
  progress: Progress | None = None,
) -> JsonObject:
  """Tokenize, divide and pack the documents of sources; once, on all cores.

  Args:
    directory: the directory to make, whole or not at all, by one process at a time.
      If it holds the same already, nothing is done.
    sources: by name; letters, digits and underscores.
    tokenizer: its name, see tokenizers.make.
    length: L; rows have L + 1 tokens. Read them by
      rows.source(directory, length=L, split="NAME_train").
    packing: one of packing.MODES; "packed" loses no token.
    seed: of the division into train and validation; a text is on the same side in
      every source.
    num_workers: processes that encode; None: one for each core. The result does not
      depend on it.
    progress: called when a source begins, and after each of its chunks.

  Returns:
    documents.json: {"settings": what determines the rows, "sources": by name {"files"
    (path, sha256, bytes), "documents", "tokens" (of documents; special ones are not
    counted), "rows" and "scored_tokens" (targets with mask 1) by split, "bytes" of
    text, and the documents left out: "empty", "too_long", "held_out" (their text is
    in validation)}}.

  Raises:
    ConfigError: if a setting, a file or a line is not as expected, a split is empty,
      or the directory holds something else.
  """
  directory = pathlib.Path(directory).expanduser().absolute()
  num_workers = _num_cores() if num_workers is None else num_workers
  _check_settings(sources, tokenizer, packing)
  _check_least(length=(length, 2), seed=(seed, 0), num_workers=(num_workers, 1))
  paths = _for_each(sources, lambda source: find(source.paths))
  stats = {path: path.stat() for own in paths.values() for path in own}
  described = {name: _describe(own) for name, own in paths.items()}
  content = tokenizers.content(tokenizer)
  settings = files.plain(
    {
      "sources": {n: _fingerprint(s, described[n]) for n, s in sources.items()},
      # Where its file is does not matter.
      "tokenizer": tokenizer if content is None else tokenizer.partition(":")[0],
      "tokenizer_content": content,
      "length": length,
      "packing": packing,
      "seed": seed,
    }
  )
  if (directory / DONE).exists():
    return _finished(directory, settings)
  _remove_killed(directory)
  with files.new_directory(directory) as temporary:
    preparation = _Preparation(
      temporary, sources, paths, tokenizer, length, packing, seed, progress
    )
    with contextlib.closing(preparation.stream(num_workers)) as stream:
      sizes = rows.write(
        temporary, length=length, splits=preparation.splits, stream=stream
      )
    counts = preparation.finish(sizes)
    _check_unchanged(stats)
    summaries = {name: {"files": described[name]} | counts[name] for name in sources}
    files.write_record(temporary / DONE, {"settings": settings, "sources": summaries})
  return files.read_record(directory / DONE)


def content_hashes(directory: str | os.PathLike[str], split: str) -> Hashes:
  """Return the hashes of the documents of a prepared split, "NAME_train" say.

  Raises:
    ConfigError: if the directory has no such split.
  """
  directory = pathlib.Path(directory)
  path = directory / HASHES / f"{split}.npy"
  if not path.exists():
    raise ConfigError(
      f"expected the prepared split {split!r}, but there is no {path}; prepare it first"
    )
  described = files.read_record(directory / DONE)["sources"][split.rpartition("_")[0]]
  names = tuple(file["path"] for file in described["files"])
  return Hashes(np.load(path, mmap_mode="r"), names)


class _Preparation:
  """One run of `prepare`: its sources' divisions, and the files of their hashes."""

  def __init__(
    self, directory, sources, paths, tokenizer, length, packing, seed, progress
  ):
    self._directory, self._tokenizer = directory / HASHES, tokenizer
    self._sources, self._paths, self._progress = sources, paths, progress
    self._directory.mkdir()
    self._full: set[str] = set()
    made = tokenizers.make(tokenizer)
    self._divisions = {
      name: Division(
        name,
        source,
        self._directory,
        length=length,
        packing_mode=packing,
        tokenizer=made,
        seed=seed,
        total_bytes=sum(path.stat().st_size for path in paths[name]),
      )
      for name, source in sources.items()
    }

  @property
  def splits(self) -> list[str]:
    """The names of the dataset's splits."""
    return [
      f"{name}_{split}" for name, s in self._sources.items() for split in s.splits
    ]

  def stream(self, num_workers: int) -> Generator[tuple[str, packing.Row], None, None]:
    """Yield the rows of all splits as they are filled."""
    encoded = encode_all(
      self._chunks(), self._tokenizer, num_workers=num_workers, full=self._full
    )
    current = next(iter(self._divisions))
    self._report(current)
    with contextlib.closing(encoded):
      for name, documents in encoded:
        if name != current:
          self._report(name)
          current = name
        yield from self._divisions[name].add(documents)
        if self._divisions[name].is_full:
          self._full.add(name)
        self._report(name)
    for division in self._divisions.values():
      yield from division.end()

  def _report(self, name: str) -> None:
    if self._progress:
      self._progress(self._divisions[name].status)

  def _chunks(self):
    """Yield (name, chunk or the error instead of it, source)."""
    for name, source in self._sources.items():
      try:
        for chunk in document_files.chunks(self._paths[name], source):
          if name in self._full:
            break
          yield name, chunk, source
      except ConfigError as error:
        yield name, error, source

  def finish(self, sizes: Mapping[str, int]) -> dict[str, JsonObject]:
    """Sort the hashes; return the counts of each source."""
    for split in self.splits:
      unsorted = self._directory / f"{split}.unsorted"
      document_hashes.sort(unsorted, self._directory / f"{split}.npy")
      unsorted.unlink()
    return {
      name: division.counts(
        {split: sizes[f"{name}_{split}"] for split in self._sources[name].splits}
      )
      for name, division in self._divisions.items()
    }


def _check_settings(sources, tokenizer, mode):
  """Raise a ConfigError on a setting out of its range."""
  if not sources:
    raise ConfigError("sources: expected at least one, got none")
  for name in sources:
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
      raise ConfigError(
        f"sources: expected a name of letters, digits and underscores, got {name!r}"
      )
  if mode not in packing.MODES:
    raise ConfigError(f"packing: expected one of {packing.MODES}, got {mode!r}")
  tokenizers.make(tokenizer)


def _check_least(**values: tuple[int, int]) -> None:
  """Raise a ConfigError if a value is no integer or less than the least."""
  for name, (value, least) in values.items():
    if type(value) is not int or value < least:
      raise ConfigError(
        f"{name}: expected an integer of at least {least}, got {value!r}"
      )


def _for_each(sources, function):
  """Return a function's values by source; its errors name the source."""
  values = {}
  for name, source in sources.items():
    try:
      values[name] = function(source)
    except ConfigError as error:
      raise ConfigError(f"source {name!r}: {error}") from None
  return values


def _finished(directory: pathlib.Path, settings: Any) -> JsonObject:
  """Return the record of a finished directory, if it has the same settings."""
  summary = files.read_record(directory / DONE)
  differing = [key for key in settings if summary["settings"].get(key) != settings[key]]
  if differing:
    raise ConfigError(
      f"{directory} holds documents with other {', '.join(differing)}; give another "
      "directory"
    )
  return summary


def _remove_killed(directory: pathlib.Path) -> None:
  """Remove what killed processes left beside a directory."""
  for left in directory.parent.glob(f".{directory.name}.*.tmp"):
    shutil.rmtree(left, ignore_errors=True)


def _check_unchanged(stats: Mapping[pathlib.Path, os.stat_result]) -> None:
  """Raise a ConfigError if a file is not the one whose checksum was taken."""
  for path, before in stats.items():
    now = path.stat() if path.exists() else None
    if now is None or (now.st_size, now.st_mtime_ns) != (
      before.st_size,
      before.st_mtime_ns,
    ):
      raise ConfigError(f"{path} changed while it was read; run again")


def _num_cores() -> int:
  """Return the number of cores that this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1
