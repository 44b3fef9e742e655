"""Documents to ids on all cores, in order, with bounded memory.

Worker processes are spawned, not forked (JAX has threads), and import neither JAX nor
the program's main module: each holds a tokenizer and what it works on, about 60 MB.
"""

import collections
from collections.abc import Callable, Container, Generator, Iterable, Iterator
import concurrent.futures
from concurrent.futures.process import BrokenProcessPool
import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import threading
import types
from typing import Any, NamedTuple

import numpy as np

from undo_jax.data import tokenizers
from undo_jax.data.documents import files as document_files
from undo_jax.data.documents import hashes as document_hashes
from undo_jax.data.documents.source import Source
from undo_jax.utils.errors import ConfigError

_AROUND = 256  # Characters on either side of a cut that are looked at.


class Encoded(NamedTuple):
  """The documents of a chunk.

  Attributes:
    ids: of all documents, one after the other; uint16 where they fit, else uint32.
    lengths: int64 [documents], ids of each.
    prompts: int64 [documents], how many of them come first and are not scored.
    records: of dtype document_hashes.RECORD [documents].
    num_bytes: of the texts in UTF-8.
    file_bytes: of the files that were read for them.
    num_empty: documents without text, which are left out.
  """

  ids: np.ndarray
  lengths: np.ndarray
  prompts: np.ndarray
  records: np.ndarray
  num_bytes: int
  file_bytes: int
  num_empty: int


def encode(
  chunk: document_files.Chunk, source: Source, tokenizer: tokenizers.Tokenizer
) -> Encoded:
  """Encode the documents of a chunk; prompt and text each for itself.

  Raises:
    ConfigError: if a document is not as expected, has no text (but see `Source`), or
      cannot be encoded; its file and line are named.
  """
  dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
  parts, lengths, prompts, records = [], [], [], []
  num_bytes = num_empty = 0
  for record in document_files.records(chunk, source):
    if not document_files.has_text(record, source):
      num_empty += 1
      continue
    try:
      prompt = _ids(record.prompt, tokenizer, dtype)
      text = _ids(record.text, tokenizer, dtype)
    except ValueError as error:  # Characters that the tokenizer does not know.
      raise ConfigError(f"{record.place}: {error}") from None
    whole = record.prompt + record.text
    parts += [prompt, text]
    prompts.append(len(prompt))
    lengths.append(len(prompt) + len(text))
    records.append((document_hashes.text_hash(whole), record.file, record.number))
    num_bytes += len(whole.encode())
  return Encoded(
    np.concatenate([np.empty(0, dtype), *parts]),
    np.asarray(lengths, np.int64),
    np.asarray(prompts, np.int64),
    np.asarray(records, document_hashes.RECORD),
    num_bytes,
    chunk.file_bytes,
    num_empty,
  )


def _ids(text: str, tokenizer: tokenizers.Tokenizer, dtype: type) -> np.ndarray:
  """Return the ids of a text; a long one is cut where that changes no id."""
  held, ids = "", [np.empty(0, dtype)]
  for piece in document_files.pieces(text):
    if held and _may_cut(held[-_AROUND:], piece[:_AROUND], tokenizer):
      ids.append(np.asarray(tokenizer.encode(held), dtype))
      held = piece
    else:
      held += piece
  return np.concatenate([*ids, np.asarray(tokenizer.encode(held), dtype)])


def _may_cut(before: str, after: str, tokenizer: tokenizers.Tokenizer) -> bool:
  """Whether two parts of a text together have the ids of each by itself.

  They do not if the tokenizer begins each text with a mark of its own.
  """
  apart = [*tokenizer.encode(before), *tokenizer.encode(after)]
  return list(tokenizer.encode(before + after)) == apart


# MARK: processes


def encode_all(
  chunks: Iterable[tuple[str, document_files.Chunk | ConfigError, Source]],
  tokenizer: str,
  *,
  num_workers: int,
  full: Container[str] = (),
) -> Generator[tuple[str, Encoded], None, None]:
  """Yield what `encode` gives for each chunk, in order, by worker processes.

  Args:
    chunks: the name of a source, a chunk of it (or the error in its place), and the
      source. At most two for each worker are in progress.
    tokenizer: its name, see tokenizers.make.
    num_workers: processes; with 1 this process does the work.
    full: names of sources whose further chunks, and errors in them, are ignored; may
      grow meanwhile.

  Yields:
    The name and what was encoded.

  Raises:
    ConfigError: that of the first chunk that has one, with the source's name.
    RuntimeError: if a worker was killed, as by the system when memory is short.
  """
  make = _run_here if num_workers == 1 else _run_in_processes
  with make(tokenizer, num_workers) as submit:
    pending: collections.deque[tuple[str, Callable[[], Encoded]]] = collections.deque()
    for name, chunk, source in chunks:
      pending.append((name, submit(chunk, source)))
      if len(pending) >= 2 * num_workers:
        yield from _results([pending.popleft()], full)
    while pending:
      yield from _results([pending.popleft()], full)


def _results(pending, full):
  """Yield the results of what is pending, if they are of interest."""
  for name, result in pending:
    if name in full:
      continue
    try:
      yield name, result()
    except ConfigError as error:
      raise ConfigError(f"source {name!r}: {error}") from None


def _raise(error: ConfigError) -> Encoded:
  raise error


@contextlib.contextmanager
def _run_here(tokenizer: str, num_workers: int) -> Iterator[Any]:
  """Give a function that takes a chunk and return how to get its documents."""
  del num_workers
  made = tokenizers.make(tokenizer)

  def submit(chunk, source):
    if isinstance(chunk, ConfigError):
      return functools.partial(_raise, chunk)
    return functools.partial(encode, chunk, source, made)

  yield submit


@contextlib.contextmanager
def _run_in_processes(tokenizer: str, num_workers: int) -> Iterator[Any]:
  """As `_run_here`, but the work begins at once in another process."""
  executor = concurrent.futures.ProcessPoolExecutor(
    num_workers,
    mp_context=multiprocessing.get_context("spawn"),
    initializer=_start_worker,
    initargs=(tokenizer,),
  )

  def submit(chunk, source):
    if isinstance(chunk, ConfigError):
      return functools.partial(_raise, chunk)
    with _without_main():  # Submitting starts processes.
      return executor.submit(_encode_here, chunk, source).result

  try:
    yield submit
  except BrokenProcessPool:
    raise RuntimeError(
      "a worker process was killed while it encoded documents, perhaps because memory "
      "was short; run again with fewer workers"
    ) from None
  finally:
    executor.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
  """Keep new processes from importing the main module, and with it all of JAX."""
  main = sys.modules["__main__"]
  sys.modules["__main__"] = types.ModuleType("__main__")
  try:
    yield
  finally:
    sys.modules["__main__"] = main


_worker: dict[str, tokenizers.Tokenizer] = {}  # Of a worker process: its tokenizer.


def _start_worker(tokenizer: str) -> None:
  os.environ["TOKENIZERS_PARALLELISM"] = "false"  # A process a core is enough.
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent stops its workers.
  threading.Thread(target=_end_with_parent, daemon=True).start()
  _worker["tokenizer"] = tokenizers.make(tokenizer)


def _end_with_parent() -> None:
  """End this process when its parent was killed; it would wait for ever."""
  parent = multiprocessing.parent_process()
  if parent is not None:
    parent.join()
    os._exit(1)


def _encode_here(chunk: document_files.Chunk, source: Source) -> Encoded:
  return encode(chunk, source, _worker["tokenizer"])
