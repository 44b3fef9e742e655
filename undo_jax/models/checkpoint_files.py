"""Files of a Hugging Face checkpoint: its tensors, checked and read.

Never pickle: pytorch_model.bin is refused.
"""

from collections.abc import Iterator
import dataclasses
import json
import os
import pathlib
from typing import Any, TypeVar

import jax
import numpy as np
import safetensors

from undo_jax.models import families
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import shapes as shapes_of
from undo_jax.models.rotary import wavelengths
from undo_jax.utils import files, trees
from undo_jax.utils.types import ConfigError, Params

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
# By the names of safetensors.
_DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": jax.numpy.bfloat16}
_CHUNK_BYTES = 32 << 20  # Read at a time; bounds the memory beside the model.
_ROWS = 4096  # Of an embedding that are compared at a time.
_Value = TypeVar("_Value")


class Checkpoint:
  """The tensors of a directory: where each is, its shape and dtype."""

  def __init__(self, directory: pathlib.Path):
    self._directory = directory
    self._files: dict[str, pathlib.Path] = {}
    self._shapes: dict[str, tuple[int, ...]] = {}
    self._dtypes: dict[str, str] = {}
    weight_map = _weight_map(directory)
    paths = sorted(set(weight_map.values())) if weight_map else [directory / SINGLE]
    for path in paths:
      for name, shape, dtype in _header(path):
        if (weight_map or {}).get(name, path) != path:
          continue  # An old copy: the index says where the tensor is.
        self._files[name], self._shapes[name] = path, shape
        self._dtypes[name] = dtype
    for name, path in (weight_map or {}).items():
      if self._files.get(name) != path:
        raise ConfigError(
          f"{path} lacks the tensor {name}, which {INDEX} says it holds"
        )
    # The model alone, without its head, as transformers' AutoModel saves it.
    is_bare = families.EMBEDDING.removeprefix(families.MODEL) in self._files
    self._prefix = families.MODEL if is_bare else ""
    if is_bare:
      self._files = _prefixed(self._files)
      self._shapes, self._dtypes = _prefixed(self._shapes), _prefixed(self._dtypes)

  @property
  def num_bytes(self) -> int:
    """Bytes of all tensors as stored."""
    return sum(
      int(np.prod(shape)) * self.dtype(name).itemsize
      for name, shape in self._shapes.items()
      if self._dtypes[name] in _DTYPES  # What is not used may have any.
    )

  def dtype(self, name: str) -> np.dtype:
    """Return the dtype a tensor is stored in."""
    return np.dtype(_DTYPES[self._dtypes[name]])

  def check(self, config: ModelConfig) -> Params:
    """Return the parameters' shapes.

    Raises:
      ConfigError: unless there is exactly what the model needs.
    """
    if config.num_layers > len(self._shapes):  # Before so many names are made.
      raise ConfigError(
        f"{self._directory} has {len(self._shapes)} tensors, too few for the "
        f"{config.num_layers} layers that its config.json asks for"
      )
    shapes = shapes_of(config)
    expected: dict[str, tuple[int, ...]] = {}
    for path, leaf in zip(trees.paths(shapes), jax.tree.leaves(shapes), strict=True):
      shape = leaf.shape[1:] if path.startswith("layers/") else leaf.shape
      shape = shape[::-1] if families.is_transposed(path) else shape
      for name in families.tensor_names(config, path):
        expected[name] = shape
    missing = [name for name in expected if name not in self._shapes]
    extra = [
      name
      for name in self._shapes
      if name not in expected and not families.is_ignored(config, name)
    ]
    for kind, names in (("lacks", missing), ("holds beyond the model", extra)):
      if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise ConfigError(
          f"{self._directory} {kind} the tensors {', '.join(names[:3])}{more}; its "
          f"config.json asks for {config.num_layers} layers and "
          f"{'a tied' if config.tied else 'an untied'} head"
        )
    for name, shape in expected.items():
      if self._shapes[name] != shape:
        raise ConfigError(
          f"{self._files[name]}: the tensor {name} should have the shape {shape} by "
          f"config.json, got {self._shapes[name]}"
        )
      if self._dtypes[name] not in _DTYPES:
        raise ConfigError(
          f"{self._files[name]}: the tensor {name} is stored as {self._dtypes[name]}; "
          f"only {', '.join(_DTYPES)} can be read"
        )
    if config.tied and families.HEAD in self._shapes:
      self._check_tied()
    for name in self._shapes:
      if name.endswith(families.FREQUENCIES):
        self._check_frequencies(name, config)
    return shapes

  def _check_frequencies(self, name: str, config: ModelConfig) -> None:
    """Raise ConfigError if a rotary table is not that of config.json."""
    self._check_comparable(name)
    known = [config, dataclasses.replace(config, rope_factor=1.0)]  # Before scaling.
    tables = [1.0 / np.asarray(wavelengths(each)) for each in known]
    stored = self._slice(name, ...).astype(np.float32)
    if not any(
      stored.shape == t.shape and np.allclose(stored, t, 0.01) for t in tables
    ):
      raise ConfigError(
        f"{self._files[name]}: {name} is not the rotary table that config.json states; "
        "mend rope_theta and rope_scaling there, or remove the tensor"
      )

  def _check_tied(self) -> None:
    """Raise ConfigError if a head beside a tied embedding is not the same."""
    one, other = families.EMBEDDING, families.HEAD
    self._check_comparable(other)
    same, size = self._shapes[one] == self._shapes[other], self._shapes[one][0]
    parts = [slice(i, min(i + _ROWS, size)) for i in range(0, size, _ROWS)]
    if not same or any(
      (self._slice(one, part) != self._slice(other, part)).any() for part in parts
    ):
      raise ConfigError(
        f"{self._files[other]}: {other} is not the embedding, but config.json says "
        "that the two are tied; set tie_word_embeddings to false there, as "
        "transformers reads it, or remove the tensor"
      )

  def _check_comparable(self, name: str) -> None:
    """Raise ConfigError if a tensor that is not used has a dtype that numpy lacks."""
    known = (*_DTYPES, "F64")
    if self._dtypes[name] not in known:
      raise ConfigError(
        f"{self._files[name]}: the tensor {name} is stored as {self._dtypes[name]}; "
        f"only {', '.join(known)} can be compared with the model's; remove it"
      )

  def _slice(self, name: str, index: Any) -> np.ndarray:
    """Read a part of a tensor.

    Raises:
      ConfigError: if a value is not finite.
    """
    stored = name if name == families.HEAD else name.removeprefix(self._prefix)
    # Opened anew: the pages of a file that stays mapped count as memory.
    with safetensors.safe_open(self._files[name], framework="numpy") as file:
      tensor = file.get_slice(stored)[index]
    if not is_finite(tensor):
      raise ConfigError(
        f"{self._files[name]}: the tensor {name} has values that are not finite; the "
        "model diverged before it was saved, or the file is damaged"
      )
    return tensor

  def read(self, names, index, shape, stacked, transposed, dtype) -> np.ndarray:
    """Return a part of a parameter, read in chunks.

    Args:
      names: of its tensors, one a layer if it is stacked.
      index: slices into the parameter, which a device asks for.
      shape: of the whole parameter.
      stacked: whether its leading axis is the layers'.
      transposed: whether its tensors are stored as (out, in).
      dtype: of the result.
    """
    bounds = [s.indices(n)[:2] for s, n in zip(index, shape, strict=True)]
    part = _aligned([stop - start for start, stop in bounds], dtype)
    if not stacked:
      self._fill(part, names[0], bounds, transposed)
      return part
    (first, last), *inner = bounds
    for layer, name in enumerate(names[first:last]):
      self._fill(part[layer], name, inner, transposed)
    return part

  def _fill(self, out, name, bounds, transposed):
    """Fill `out` with a tensor's part; bounds and out are in the model's order."""
    if transposed:
      out, bounds = out.T, bounds[::-1]
    (start, stop), *rest = bounds
    rest = tuple(slice(*b) for b in rest)
    row_bytes = self.dtype(name).itemsize * int(np.prod(out.shape[1:]))
    rows = max(1, _CHUNK_BYTES // max(row_bytes, 1))
    if out.dtype == jax.numpy.bfloat16 == self.dtype(name):
      out = out.view(np.uint16)  # numpy copies its own types several times as fast.
    for row in range(start, stop, rows):
      end = min(row + rows, stop)
      chunk = self._slice(name, (slice(row, end), *rest))
      out[row - start : end - start] = (
        chunk.view(np.uint16) if out.dtype == np.uint16 else chunk
      )


def _prefixed(named: dict[str, _Value]) -> dict[str, _Value]:
  """Return the entries of a bare model's tensors under their names in a full model."""
  return {n if n == families.HEAD else families.MODEL + n: v for n, v in named.items()}


def is_finite(values: np.ndarray) -> bool:
  """Whether no value is NaN or infinite; of bfloat16 by its bits, which is faster."""
  if values.dtype == jax.numpy.bfloat16:
    exponent = np.uint16(0x7F80)
    return not ((values.view(np.uint16) & exponent) == exponent).any()
  return bool(np.isfinite(values).all())


def _aligned(shape, dtype) -> np.ndarray:
  """Return an empty array that a CPU device takes over without a copy."""
  size = int(np.prod(shape)) * dtype.itemsize
  buffer = np.empty(size + 64, np.uint8)
  offset = -buffer.ctypes.data % 64
  return buffer[offset : offset + size].view(dtype).reshape(shape)


def _weight_map(directory: pathlib.Path) -> dict[str, pathlib.Path] | None:
  """Return the file of each tensor by the index, or None for a single file.

  Raises:
    ConfigError: if there are no weights, only pickled ones, or the index is wrong.
  """
  if (directory / SINGLE).is_file():
    return None
  index = directory / INDEX
  if not index.is_file():
    if any(directory.glob("*.bin")):
      raise ConfigError(
        f"{directory} holds its weights as .bin, a pickle, which can run code when it "
        "is read and is refused; save them with safe_serialization=True"
      )
    raise ConfigError(f"{directory} has no weights: no {SINGLE} and no {INDEX}")
  try:
    entries = files.read_json(index)["weight_map"].items()
  except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
    raise ConfigError(f"{index} is no index of a checkpoint: {error!r}") from None
  paths = {}
  for name, file in entries:
    if not isinstance(file, str) or pathlib.PurePath(file).name != file:
      raise ConfigError(f"{index}: {file!r} is no file name in this directory")
    paths[name] = directory / file
    if not os.path.isfile(paths[name]):  # Whatever the name is.
      raise ConfigError(f"{index}: the file {file} with {name} is missing")
  if not paths:
    raise ConfigError(f"{index} is no index of a checkpoint: it names no tensor")
  return paths


def _header(path: pathlib.Path) -> Iterator[tuple[str, tuple[int, ...], str]]:
  """Yield (name, shape, dtype) of a file's tensors."""
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      # The library knows no iteration over slices.
      for name in list(file.keys()):
        entry = file.get_slice(name)
        yield name, tuple(entry.get_shape()), entry.get_dtype()
  except (safetensors.SafetensorError, OSError) as error:
    raise ConfigError(f"{path} is corrupt: {_diagnosis(path) or error}") from None


def _diagnosis(path: pathlib.Path) -> str | None:
  """Return what is wrong with a file, by its own header, or None.

  Layout: 8 bytes, the header's length; the header, JSON of {name: {dtype, shape,
  data_offsets}}; the data.
  """
  size = path.stat().st_size
  try:
    file = path.open("rb")
  except OSError as error:
    return f"it cannot be read ({error.strerror})"
  with file:
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
      return (
        f"its header should be {length} bytes long, the file has {size} bytes; it is "
        "cut off or no safetensors file"
      )
    try:
      header = json.loads(file.read(length))
      entries = [
        (*entry["data_offsets"], name)
        for name, entry in header.items()
        if name != "__metadata__"
      ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
      return "its header is no JSON of tensors"
  end = 0
  for start, stop, name in sorted(entries):
    if start < end:
      return (
        f"the tensor {name} overlaps another: its bytes begin at {start}, those "
        f"before {end} are taken"
      )
    if stop > size - 8 - length:
      return (
        f"the tensor {name} is truncated: its bytes end at {stop}, the file has "
        f"{size - 8 - length}"
      )
    end = stop
  return None
