"""Hugging Face checkpoints in and out: directories of safetensors and config.json.

Never pickle: pytorch_model.bin is refused. What is read goes tensor by tensor into
the arrays of the model, each device getting its part, so that there is never a
second copy of the model.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
import json
import logging
import os
import pathlib
import time

import jax
from jax.sharding import SingleDeviceSharding
import numpy as np
import safetensors
import safetensors.numpy

from undo_jax.models import families
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import shapes as shapes_of
from undo_jax.utils import files, trees
from undo_jax.utils.types import ConfigError, JsonObject, Params

LOGGER = logging.getLogger("undo_jax")
_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
# By the names of safetensors.
_DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": jax.numpy.bfloat16}
_CHUNK_BYTES = 32 << 20  # Read at a time; bounds the memory beside the model.
_SHARD_BYTES = 1 << 30  # Written to a file; likewise.


def load(
  directory: str | os.PathLike,
  *,
  dtype: str | None = None,
  shardings: Callable[[ModelConfig, Params], Params] | None = None,
) -> tuple[ModelConfig, Params]:
  """Reads a checkpoint of one of the families (see models/families.py).

  Args:
    directory: with config.json and model.safetensors, or the files that
      model.safetensors.index.json names.
    dtype: of the parameters, "float32" or "bfloat16"; None: as they are stored.
    shardings: `(config, shapes) -> a tree of Shardings like the shapes`; None: all
      on the first device.

  Returns:
    (the model's config, with float32 compute; its parameters).

  Raises:
    ConfigError: if a file is missing, corrupt or a pickle, the family unknown, or a
      tensor missing, extra, misshaped or truncated; named, before anything is read.
  """
  directory = pathlib.Path(directory)
  config = read_config(directory)
  checkpoint = _Checkpoint(directory)
  shapes = shapes_of(config)
  checkpoint.check(config, shapes)
  if shardings is None:
    where = SingleDeviceSharding(jax.devices()[0])
    placed = jax.tree.map(lambda _: where, shapes)
  else:
    placed = shardings(config, shapes)

  def read(path, shape, sharding):
    names = families.tensor_names(config, path)
    stacked = path.startswith("layers/")
    wanted = checkpoint.dtype(names[0]) if dtype is None else np.dtype(dtype)
    # Not jax.make_array_from_callback, which copies what the callback returns.
    parts = [
      jax.device_put(
        checkpoint.read(
          names, index, shape.shape, stacked, families.is_transposed(path), wanted
        ),
        device,
        may_alias=True,
      )
      for device, index in sharding.addressable_devices_indices_map(shape.shape).items()
    ]
    return jax.make_array_from_single_device_arrays(shape.shape, sharding, parts)

  start = time.perf_counter()
  params = trees.map_with_path(read, shapes, placed)
  jax.block_until_ready(params)
  seconds = time.perf_counter() - start
  size = checkpoint.num_bytes / 1e6
  LOGGER.info(
    "%s: read %.0f MB in %.1f s, %.0f MB/s", directory, size, seconds, size / seconds
  )
  return config, params


def save(
  directory: str | os.PathLike,
  config: ModelConfig,
  params: Params,
  *,
  dtype: str | None = None,
  extra: Mapping[str, object] | None = None,
) -> None:
  """Writes a checkpoint that `load` and transformers read, whole or not at all.

  Args:
    directory: a new one; may exist if it is empty.
    config: the model.
    params: its parameters, all of one dtype; each leaf comes to the host alone.
    dtype: of the stored tensors, "float32" or "bfloat16"; None: that of params.
    extra: keys of config.json that ModelConfig does not hold, such as
      eos_token_id and max_position_embeddings of the model this one came from.

  Raises:
    ConfigError: if the model is of no family, the parameters are not those of the
      config, or the directory exists, is not empty, or cannot be written.
  """
  with files.new_directory(pathlib.Path(directory)) as temporary:
    write(temporary, config, params, dtype=dtype, extra=extra)


def write(directory: pathlib.Path, config, params, *, dtype=None, extra=None) -> None:
  """Writes the files of a checkpoint into an existing directory; see `save`."""
  leaves = dict(zip(trees.paths(params), jax.tree.leaves(params), strict=True))
  stored = str(next(iter(leaves.values())).dtype) if dtype is None else dtype
  settings = families.to_json(config, dtype=stored)
  shapes = shapes_of(config)
  expected = dict(zip(trees.paths(shapes), jax.tree.leaves(shapes), strict=True))
  for path in [*expected, *(path for path in leaves if path not in expected)]:
    want = expected[path].shape if path in expected else None
    got = leaves[path].shape if path in leaves else None
    if want != got:
      raise ConfigError(
        f"the parameter {path} should have the shape {want} by the config, got {got}"
      )
  known = {key for key, value in settings.items() if value is not None}
  for key, value in (extra or {}).items():
    if key not in known or key in _REPLACEABLE:
      settings[key] = value
  write_tensors(directory, tensors(config, params), np.dtype(stored))
  files.write_json(directory / "config.json", settings)


def check(directory: pathlib.Path) -> None:
  """Raises ConfigError unless a checkpoint's tensors are those of its config.json."""
  config = read_config(directory)
  shapes = shapes_of(config)
  _Checkpoint(directory).check(config, shapes)


# Keys that to_json fills with the family's defaults for lack of better knowledge.
_REPLACEABLE = (
  "pad_token_id",
  "eos_token_id",
  "bos_token_id",
  "max_position_embeddings",
  "attention_dropout",
)


def read_config(directory: str | os.PathLike) -> ModelConfig:
  """Returns the ModelConfig of a checkpoint's config.json; see families.from_json."""
  return families.from_json(read_settings(directory))


def read_settings(directory: str | os.PathLike) -> JsonObject:
  """Returns a checkpoint's config.json.

  Raises:
    ConfigError: if there is none, or it is no JSON object.
  """
  path = pathlib.Path(directory) / "config.json"
  if not path.is_file():
    raise ConfigError(
      f"{directory} is no checkpoint directory: it has no config.json; give the "
      "directory that holds config.json and model.safetensors"
    )
  try:
    settings = files.read_json(path)
  except (ValueError, OSError) as error:
    raise ConfigError(f"{path} cannot be read as JSON: {error}") from None
  if not isinstance(settings, dict):
    raise ConfigError(f"{path} must hold a JSON object, got {type(settings).__name__}")
  return settings


# MARK: writing


def write_tensors(
  directory: pathlib.Path,
  tensors: Iterable[tuple[str, Callable[[], np.ndarray]]],
  dtype: np.dtype,
) -> None:
  """Writes safetensors files of about _SHARD_BYTES, and their index if several.

  No more than one tensor and one file are held.

  Args:
    directory: an existing one.
    tensors: the name of each, and what makes its values.
    dtype: of what is written.
  """
  shards: list[list[str]] = []
  held: dict[str, np.ndarray] = {}
  size = total = 0

  def flush():
    nonlocal held, size
    path = directory / f"shard-{len(shards)}"
    safetensors.numpy.save_file(held, path, metadata={"format": "pt"})
    path.chmod(0o644)  # The library leaves it to the owner alone.
    shards.append(list(held))
    held, size = {}, 0

  for name, make in tensors:
    values = np.ascontiguousarray(make(), dtype)
    if held and size + values.nbytes > _SHARD_BYTES:
      flush()
    held[name] = values
    size += values.nbytes
    total += values.nbytes
  flush()
  weight_map = {}
  for i, names in enumerate(shards):
    name = _SINGLE
    if len(shards) > 1:
      name = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
    (directory / f"shard-{i}").rename(directory / name)
    weight_map |= dict.fromkeys(names, name)
  if len(shards) > 1:
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    files.write_json(directory / _INDEX, index)


def tensors(
  config: ModelConfig, params: Params
) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
  """Yields the name that transformers gives a tensor, and what returns its values."""
  for path, leaf in zip(trees.paths(params), jax.tree.leaves(params), strict=True):
    host = np.asarray(leaf)
    names = families.tensor_names(config, path)
    parts = host if path.startswith("layers/") else [host]
    for name, part in zip(names, parts, strict=True):
      part = part.T if families.is_transposed(path) else part
      yield name, lambda part=part: part


# MARK: reading


class _Checkpoint:
  """The tensors of a directory: where each is, its shape and dtype."""

  def __init__(self, directory: pathlib.Path):
    self._directory = directory
    self._files: dict[str, pathlib.Path] = {}
    self._shapes: dict[str, tuple[int, ...]] = {}
    self._dtypes: dict[str, str] = {}
    weight_map = _weight_map(directory)
    paths = sorted(set(weight_map.values())) if weight_map else [directory / _SINGLE]
    for path in paths:
      for name, shape, dtype in _header(path):
        self._files[name], self._shapes[name] = path, shape
        self._dtypes[name] = dtype
    for name, path in (weight_map or {}).items():
      if self._files.get(name) != path:
        raise ConfigError(
          f"{path} lacks the tensor {name}, which {_INDEX} says it holds"
        )

  @property
  def num_bytes(self) -> int:
    """Bytes of all tensors as stored."""
    return sum(
      int(np.prod(shape)) * np.dtype(_DTYPES[self._dtypes[name]]).itemsize
      for name, shape in self._shapes.items()
    )

  def dtype(self, name: str) -> np.dtype:
    """Returns the dtype a tensor is stored in."""
    return np.dtype(_DTYPES[self._dtypes[name]])

  def check(self, config: ModelConfig, shapes: Params) -> None:
    """Raises ConfigError unless there is exactly what the model needs."""
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

  def read(self, names, index, shape, stacked, transposed, dtype) -> np.ndarray:
    """Returns a part of a parameter, read in chunks.

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
    """Fills `out` with a tensor's part; bounds and out are in the model's order."""
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
      # Opened anew: the pages of a file that stays mapped count as memory.
      with safetensors.safe_open(self._files[name], framework="numpy") as file:
        chunk = file.get_slice(name)[(slice(row, end), *rest)]
      out[row - start : end - start] = (
        chunk.view(np.uint16) if out.dtype == np.uint16 else chunk
      )


def _aligned(shape, dtype) -> np.ndarray:
  """Returns an empty array that a CPU device takes over without a copy."""
  size = int(np.prod(shape)) * dtype.itemsize
  buffer = np.empty(size + 64, np.uint8)
  offset = -buffer.ctypes.data % 64
  return buffer[offset : offset + size].view(dtype).reshape(shape)


def _weight_map(directory: pathlib.Path) -> dict[str, pathlib.Path] | None:
  """Returns the file of each tensor by the index, or None for a single file.

  Raises:
    ConfigError: if there are no weights, only pickled ones, or the index is wrong.
  """
  if (directory / _SINGLE).is_file():
    return None
  index = directory / _INDEX
  if not index.is_file():
    if any(directory.glob("*.bin")):
      raise ConfigError(
        f"{directory} holds its weights as .bin, a pickle, which can run code when it "
        "is read and is refused; save them with safe_serialization=True"
      )
    raise ConfigError(f"{directory} has no weights: no {_SINGLE} and no {_INDEX}")
  try:
    entries = files.read_json(index)["weight_map"].items()
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ConfigError(f"{index} is no index of a checkpoint: {error!r}") from None
  found = {}
  for name, file in entries:
    if not isinstance(file, str) or pathlib.PurePath(file).name != file:
      raise ConfigError(f"{index}: {file!r} is no file name in this directory")
    found[name] = directory / file
    if not found[name].is_file():
      raise ConfigError(f"{index}: the file {file} with {name} is missing")
  return found


def _header(path: pathlib.Path) -> Iterator[tuple[str, tuple[int, ...], str]]:
  """Yields (name, shape, dtype) of a file's tensors."""
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      # The library knows no iteration over slices.
      for name in list(file.keys()):
        entry = file.get_slice(name)
        yield name, tuple(entry.get_shape()), entry.get_dtype()
  except (safetensors.SafetensorError, OSError) as error:
    raise ConfigError(f"{path} is corrupt: {_diagnosis(path) or error}") from None


def _diagnosis(path: pathlib.Path) -> str | None:
  """Returns what is wrong with a file, by its own header, or None.

  Layout: 8 bytes, the header's length; the header, JSON of {name: {dtype, shape,
  data_offsets}}; the data.
  """
  size = path.stat().st_size
  with path.open("rb") as file:
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
    except (ValueError, KeyError, TypeError, AttributeError):
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
