"""A teacher's predictions for the rows of a split: .npy files, read by memory mapping.

They are written in parts, each of which appears whole or not at all, on a disk or in a
store; the parts of a split are then joined in one file for each of its arrays:

  SPLIT.teacher_log_probs.npy                float [rows, L, V], or [rows, L, k + 1]
  SPLIT.teacher_tokens.npy                   unsigned int [rows, L, k], where k < V
  parts/SPLIT/START-STOP.teacher_....npy     the same of the rows [START, STOP)

Each ends in the SHA-256 of all that is before it, where readers of .npy do not look.
"""

from collections.abc import Mapping
import hashlib
import io
import itertools
import pathlib
import tempfile
from typing import Any, TypeAlias

import numpy as np

from undo_jax.utils import checksums, files
from undo_jax.utils.errors import ConfigError
from undo_jax.utils.types import Rows

_DIGEST = hashlib.sha256().digest_size  # Bytes.
_PIECE = 1 << 20  # Bytes read at once.
# Of each array of a position its width and dtype. The last one is written last.
Layout: TypeAlias = Mapping[str, tuple[int, np.dtype]]


def layout(vocab_size: int, *, top_k: int, dtype: str) -> Layout:
  """Return what is kept at a position: of all V tokens, or of k and the others.

  Args:
    vocab_size: V.
    top_k: k; 0 or at least V: all tokens, whose numbers then are their places.
    dtype: of log-probabilities.
  """
  floating = np.dtype(dtype)
  if not 0 < top_k < vocab_size:
    return {"teacher_log_probs": (vocab_size, floating)}
  unsigned = np.min_scalar_type(vocab_size - 1)
  return {
    "teacher_tokens": (top_k, unsigned),
    "teacher_log_probs": (top_k + 1, floating),
  }


def cast(arrays: Mapping[str, np.ndarray], specs: Layout) -> dict[str, np.ndarray]:
  """Return arrays in their dtypes; values below the smallest number become it."""
  converted = {}
  for name, (_, dtype) in specs.items():
    array = arrays[name]
    if np.issubdtype(dtype, np.floating):
      array = np.maximum(array, np.finfo(dtype).min)
    converted[name] = array.astype(dtype)
  return converted


def num_written(directory: files.Path, split: str, specs: Layout, rows: int) -> int:
  """Return how many rows of a split, its first ones, have been written.

  Args:
    directory: of all splits.
    split: its name.
    specs: what is kept.
    rows: of the split.
  """
  if all((directory / f"{split}.{name}.npy").exists() for name in specs):
    return rows
  return max((stop for _, stop in _bounds(directory, split, specs)), default=0)


def write_part(
  directory: files.Path, split: str, start: int, arrays: Mapping[str, np.ndarray]
) -> None:
  """Write the predictions of the rows from `start` on."""
  for name, array in arrays.items():
    path = _part(directory, split, name, (start, start + len(array)))
    path.parent.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    np.save(data, array, allow_pickle=False)
    digest = hashlib.sha256(data.getvalue()).digest()
    files.write_bytes(path, data.getvalue() + digest)


def join(directory: files.Path, split: str, specs: Layout) -> None:
  """Join the parts of a split, all of whose rows are written; remove them."""
  for name in specs:
    if not (directory / f"{split}.{name}.npy").exists():
      _join(directory, split, name, _bounds(directory, split, specs))
  folder = directory / "parts" / split
  for path in folder.iterdir() if folder.exists() else ():
    path.unlink()


def _join(
  directory: files.Path, split: str, name: str, bounds: list[tuple[int, int]]
) -> None:
  """Write one array of all parts; for a store it is made here and copied."""
  first = _open(_part(directory, split, name, bounds[0]))
  header = {
    "descr": np.lib.format.dtype_to_descr(first.dtype),
    "fortran_order": False,
    "shape": (bounds[-1][1], *first.shape[1:]),
  }
  with tempfile.TemporaryDirectory() as temporary:
    here = pathlib.Path(temporary) if files.is_remote(directory) else directory
    with files.new_file(here / f"{split}.{name}.npy") as file:
      start, digest = io.BytesIO(), hashlib.sha256()
      np.lib.format.write_array_header_1_0(start, header)
      parts = (_open(_part(directory, split, name, each)).data for each in bounds)
      for data in itertools.chain([start.getbuffer()], parts):
        file.buffer.write(data)
        digest.update(data)
      file.buffer.write(digest.digest())
    if here != directory:
      files.copy_tree(here, directory)


def _open(path: files.Path) -> np.ndarray:
  """Return a part, contiguous; raise ConfigError if it is not as it was written."""
  data = path.read_bytes()
  if hashlib.sha256(data[:-_DIGEST]).digest() != data[-_DIGEST:]:
    raise checksums.damaged(path)
  return np.ascontiguousarray(np.load(io.BytesIO(data), allow_pickle=False))


def _part(
  directory: files.Path, split: str, name: str, bounds: tuple[int, int]
) -> files.Path:
  start, stop = bounds
  return directory / "parts" / split / f"{start:012d}-{stop:012d}.{name}.npy"


def _bounds(directory: files.Path, split: str, specs: Layout) -> list[tuple[int, int]]:
  """Return the first and last rows of whole parts, each beginning where one ends.

  A part is whole once its last array is there.
  """
  folder, (*_, last) = directory / "parts" / split, specs
  names = [path.name for path in folder.iterdir()] if folder.exists() else []
  texts = (name.partition(".") for name in names)
  pairs = (text.split("-") for text, _, rest in texts if rest == f"{last}.npy")
  stops = {int(start): int(stop) for start, stop in pairs}
  bounds, done = [], 0
  while done in stops:
    bounds.append((done, stops[done]))
    done = stops[done]
  return bounds


def load(
  directory: pathlib.Path, split: str, specs: Layout, *, rows: int, length: int
) -> dict[str, np.ndarray]:
  """Return the predictions of a split, mapped into memory.

  Args:
    directory: of all splits, on this machine.
    split: its name.
    specs: what is kept.
    rows: of the split.
    length: L.

  Raises:
    ConfigError: if a file is missing or not what was written; names it.
  """
  arrays = {}
  for name, (width, dtype) in specs.items():
    path = directory / f"{split}.{name}.npy"
    expected = f"{np.dtype(dtype)} {(rows, length, width)}"
    try:
      array = np.load(path, mmap_mode="r", allow_pickle=False)
      got = f"{array.dtype} {array.shape}"
    except Exception as error:  # noqa: BLE001  A damaged header fails in many ways.
      array, got = np.zeros(()), f"{error}"
    if got != expected:
      raise ConfigError(
        f"{path} is damaged, expected {expected}, got {got:.80}; bring it back from a "
        "copy, or delete the directory of its stage to run that again"
      )
    arrays[name] = array
  return arrays


def check(directory: pathlib.Path, split: str, specs: Layout) -> None:
  """Compare the files of a split with their checksums.

  It reads them whole, once for each stage that starts; utils/checksums.py states its
  speed, without that of the disk. Files from before checksums existed pass.

  Raises:
    ConfigError: if a file is not as it was written; names it.
  """
  for name in specs:
    path = directory / f"{split}.{name}.npy"
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    end = array.offset + array.nbytes
    if path.stat().st_size == end:  # Written before there were checksums.
      continue
    try:
      is_intact = _is_intact(path, end)
    except OSError:  # On a part of the disk that cannot be read.
      is_intact = False
    if not is_intact:
      raise checksums.damaged(path)


def _is_intact(path: pathlib.Path, end: int) -> bool:
  """Whether a file ends in the checksum of so many bytes."""
  digest = hashlib.sha256()
  with open(path, "rb") as file:
    while left := end - file.tell():
      data = file.read(min(left, _PIECE))
      if not data:
        return False
      digest.update(data)
    return file.read() == digest.digest()


class WithPredictions:
  """The rows of a split, each with what a teacher predicts in it."""

  def __init__(self, rows: Rows, predictions: Mapping[str, np.ndarray]):
    """Take the rows, and arrays with leading axis rows by the names of fields."""
    self._rows, self._predictions = rows, dict(predictions)

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, index: int) -> dict[str, Any]:
    kept = {name: array[index] for name, array in self._predictions.items()}
    return {**self._rows[index], **kept}
