"""Hugging Face checkpoints in and out: directories of safetensors and config.json.

Never pickle: pytorch_model.bin is refused. What is read goes tensor by tensor into
the arrays of the model, each device getting its part, so that there is never a
second copy of the model.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
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
from undo_jax.models.checkpoint_files import INDEX, SINGLE, Checkpoint
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import shapes as shapes_of
from undo_jax.utils import files, trees
from undo_jax.utils.types import ConfigError, JsonObject, Params

LOGGER = logging.getLogger("undo_jax")
_SHARD_BYTES = 1 << 30  # Written to a file; likewise.


def load(
  directory: str | os.PathLike,
  *,
  dtype: str | None = None,
  shardings: Callable[[ModelConfig, Params], Params] | None = None,
) -> tuple[ModelConfig, Params]:
  """Read a checkpoint of one of the families (see models/families.py).

  Args:
    directory: with config.json and model.safetensors, or the files that
      model.safetensors.index.json names.
    dtype: of the parameters, "float32" or "bfloat16"; None: as they are stored,
      where layers differ the one that holds all their values.
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
  checkpoint = Checkpoint(directory)
  shapes = checkpoint.check(config)
  if shardings is None:
    where = SingleDeviceSharding(jax.devices()[0])
    placed = jax.tree.map(lambda _: where, shapes)
  else:
    placed = shardings(config, shapes)

  def read(path, shape, sharding):
    names = families.tensor_names(config, path)
    stacked = path.startswith("layers/")
    if dtype is None:
      wanted = jax.numpy.result_type(*map(checkpoint.dtype, names))
    else:
      wanted = np.dtype(dtype)
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
  """Write a checkpoint that `load` and transformers read, whole or not at all.

  Args:
    directory: a new one; may exist if it is empty.
    config: the model.
    params: its parameters; each leaf comes to the host alone.
    dtype: of the stored tensors, "float32" or "bfloat16"; None: that of params or, of
      several, the one that holds all their values.
    extra: keys of config.json that ModelConfig does not hold, such as
      eos_token_id and max_position_embeddings of the model this one came from.

  Raises:
    ConfigError: if the model is of no family, the parameters are not those of the
      config, or the directory exists, is not empty, or cannot be written.
  """
  with files.new_directory(pathlib.Path(directory)) as temporary:
    write(temporary, config, params, dtype=dtype, extra=extra)


def write(directory: pathlib.Path, config, params, *, dtype=None, extra=None) -> None:
  """Write the files of a checkpoint into an existing directory; see `save`."""
  leaves = dict(zip(trees.paths(params), jax.tree.leaves(params), strict=True))
  stored = dtype or str(jax.numpy.result_type(*(x.dtype for x in leaves.values())))
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
  if "dtype" in settings:  # Of transformers 5, which writes it in torch_dtype's place.
    settings["dtype"] = stored
  write_tensors(directory, tensors(config, params), np.dtype(stored))
  files.write_json(directory / "config.json", settings)


def check(directory: pathlib.Path) -> None:
  """Raise ConfigError unless a checkpoint's tensors are those of its config.json."""
  Checkpoint(directory).check(read_config(directory))


# Keys that to_json fills with the family's defaults for lack of better knowledge.
_REPLACEABLE = (
  "pad_token_id",
  "eos_token_id",
  "bos_token_id",
  "max_position_embeddings",
  "attention_dropout",
  "cache_implementation",
  "use_cache",
)


def read_config(directory: str | os.PathLike) -> ModelConfig:
  """Return the ModelConfig of a checkpoint's config.json; see families.from_json."""
  return families.from_json(read_settings(directory))


def read_settings(directory: str | os.PathLike) -> JsonObject:
  """Return a checkpoint's config.json.

  Raises:
    ConfigError: if there is none, or it is no JSON object.
  """
  path = pathlib.Path(directory) / "config.json"
  if not path.is_file():
    raise ConfigError(
      f"{directory} is no checkpoint directory: it has no config.json; give the "
      "directory that holds config.json and model.safetensors"
    )
  return files.read_object(path)


# MARK: writing


def write_tensors(
  directory: pathlib.Path,
  tensors: Iterable[tuple[str, Callable[[], np.ndarray]]],
  dtype: np.dtype,
) -> None:
  """Write safetensors files of about _SHARD_BYTES, and their index if several.

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
    name = SINGLE
    if len(shards) > 1:
      name = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
    (directory / f"shard-{i}").rename(directory / name)
    weight_map |= dict.fromkeys(names, name)
  if len(shards) > 1:
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    files.write_json(directory / INDEX, index)


def tensors(
  config: ModelConfig, params: Params
) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
  """Yield the name that transformers gives a tensor, and what returns its values."""
  for path, leaf in zip(trees.paths(params), jax.tree.leaves(params), strict=True):
    host = np.asarray(leaf)
    names = families.tensor_names(config, path)
    parts = host if path.startswith("layers/") else [host]
    for name, part in zip(names, parts, strict=True):
      part = part.T if families.is_transposed(path) else part
      yield name, lambda part=part: part
