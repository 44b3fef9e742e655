"""LoRA adapters in PEFT's files: adapter_config.json, adapter_model.safetensors.

For every family of models/families.py. PEFT keeps a pair of matrices for each layer
and module, ours are stacked over layers and transposed:

  a[i] = lora_A.weight.T  ([in, r] from [r, in]),  b[i] = lora_B.weight.T

Only plain LoRA is read; an option that would change what the matrices mean is
refused by name. Pickled adapters (.bin) are not read.

Reference: PEFT's documentation, "PEFT checkpoint format".
"""

import math
import os
import pathlib
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from safetensors.numpy import save_file

from undo_jax.models import families
from undo_jax.models.checkpoint_files import is_finite
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import shapes as shapes_of
from undo_jax.utils import files, trees
from undo_jax.utils.types import ConfigError, JsonObject

CONFIG_FILE = "adapter_config.json"
TENSOR_FILE = "adapter_model.safetensors"

_FACTORS = {"a": "lora_A", "b": "lora_B"}
# Fields of a config that are read below, or that do not change what a trained
# adapter means: where it comes from, how it was started and trained.
_UNDERSTOOD = {
  "peft_type",
  "task_type",
  "r",
  "lora_alpha",
  "use_rslora",
  "target_modules",
  "bias",
  "init_lora_weights",
  "auto_mapping",
  "base_model_name_or_path",
  "revision",
  "peft_version",
  "inference_mode",
  "lora_dropout",
  "layers_pattern",
  "megatron_core",
  "loftq_config",
  "eva_config",
  "corda_config",
  "qalora_group_size",
}
# Initializations that leave the base model as it was.
_PLAIN_INIT = (True, False, "gaussian", "eva", "orthogonal")


class Adapter(NamedTuple):
  """Adapters and what their products are multiplied by."""

  adapters: Any  # {"a": [N, in, r], "b": [N, r, out]} by path, float32.
  rank: int
  alpha: float
  scale: float  # alpha / rank, or alpha / sqrt(rank) where PEFT used rsLoRA.


def save(
  directory: str | os.PathLike,
  config: ModelConfig,
  adapters: object,
  *,
  alpha: float,
  base_model: str | None = None,
) -> None:
  """Write adapters that `load` and PEFT read, whole or not at all.

  The written adapter adds alpha / r * a @ b, with r the rank of the matrices.

  Args:
    directory: a new one; may exist if it is empty.
    config: the adapted model, of one of the families (see models/families.py).
    adapters: tree of pairs {"a": [N, in, r], "b": [N, r, out]} by path, all of one
      rank, written as float32; one member of a population, not all of them.
    alpha: above 0.
    base_model: name or path of the base model, for those who load the adapter.

  Raises:
    ConfigError: if an adapter does not fit the model, the ranks differ, or the
      directory exists and is not empty, or cannot be written.

  Reference: PEFT's documentation, "PEFT checkpoint format".
  """
  if not 0 < alpha < math.inf:
    raise ConfigError(f"alpha must be a number above 0, got {alpha}")
  factors = _factors(config, adapters)
  ranks = {path: pair["a"].shape[-1] for path, pair in factors.items()}
  if len(set(ranks.values())) != 1:
    raise ConfigError(f"the adapters of one file have one rank, got {ranks}")
  tensors = {}
  for path, pair in factors.items():
    for factor, stacked in pair.items():
      for name, matrix in zip(_names(config, path, factor), stacked, strict=True):
        # Contiguous: safetensors writes the memory as it lies.
        tensors[name] = np.ascontiguousarray(matrix.T, np.float32)
  modules = {families.tensor_names(config, path)[0].split(".")[-2] for path in factors}
  settings = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": base_model,
    "r": next(iter(ranks.values())),
    "lora_alpha": int(alpha) if alpha == int(alpha) else float(alpha),
    "lora_dropout": 0.0,
    "target_modules": sorted(modules),
    "bias": "none",
    "fan_in_fan_out": False,
    "use_rslora": False,
    "inference_mode": True,
  }
  with files.new_directory(pathlib.Path(directory)) as temporary:
    save_file(tensors, temporary / TENSOR_FILE, metadata={"format": "pt"})
    files.write_json(temporary / CONFIG_FILE, settings)


def load(directory: str | os.PathLike, config: ModelConfig) -> Adapter:
  """Read an adapter that PEFT, or `save`, has written.

  Args:
    directory: holds adapter_config.json and adapter_model.safetensors.
    config: the model that is to be adapted; the tensors must fit it.

  Returns:
    The adapter; its matrices are float32 and are used as
    lora.merge(params, adapter.adapters, scale=adapter.scale).

  Raises:
    ConfigError: if a file is missing, corrupt or a pickle, the adapter no plain
      LoRA, or a tensor missing, unknown or misshaped; named in the message.

  Reference: PEFT's documentation, "PEFT checkpoint format".
  """
  directory = pathlib.Path(directory)
  settings = _read_config(directory / CONFIG_FILE)
  tensors = _read_tensors(directory / TENSOR_FILE)
  shapes = _kernels(config)
  paths = {
    name: path
    for path in shapes
    for factor in _FACTORS
    for name in _names(config, path, factor)
  }
  unknown = sorted(set(tensors) - set(paths))
  if unknown:
    raise ConfigError(
      f"{directory / TENSOR_FILE} holds tensors the model has no place for: "
      + _listed(unknown)
    )
  adapted = {paths[name] for name in tensors}
  adapted |= _targeted(config, settings["target_modules"])
  missing = [name for name in paths if name not in tensors and paths[name] in adapted]
  if missing or not adapted:
    raise ConfigError(
      f"{directory / TENSOR_FILE} lacks tensors: {_listed(missing) or 'it is empty'}; "
      "an adapted module has lora_A and lora_B in every layer"
    )
  rank, alpha = settings["r"], settings["lora_alpha"]
  adapters: dict[str, Any] = {}
  for path in sorted(adapted):
    _, fan_in, fan_out = shapes[path]
    node = adapters
    for key in path.split("/"):
      node = node.setdefault(key, {})
    for factor, shape in (("a", (rank, fan_in)), ("b", (fan_out, rank))):
      names = _names(config, path, factor)
      for name in names:
        if tensors[name].shape != shape:
          raise ConfigError(
            f"{name} must have the shape {shape}, of rank {rank} and {path} "
            f"{shapes[path]}, got {tensors[name].shape}"
          )
      node[factor] = jnp.asarray(np.stack([tensors[name].T for name in names]))
  scale = alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
  return Adapter(adapters, rank, alpha, scale)


def _kernels(config: ModelConfig) -> dict[str, tuple[int, int, int]]:
  """Return the shape [N, in, out] of every kernel of the layers by path."""
  shapes = shapes_of(config)
  leaves = zip(trees.paths(shapes), jax.tree.leaves(shapes), strict=True)
  return {path: leaf.shape for path, leaf in leaves if len(leaf.shape) == 3}


def _names(config: ModelConfig, path: str, factor: str) -> list[str]:
  """Return the tensor of each layer that holds a factor of a kernel's adapter."""
  weights = families.tensor_names(config, path)
  modules = [f"base_model.model.{name.removesuffix('.weight')}" for name in weights]
  return [f"{module}.{_FACTORS[factor]}.weight" for module in modules]


def _factors(config, adapters) -> dict[str, dict[str, np.ndarray]]:
  """Return {"a", "b"} as numpy by the path of their kernel, checked."""
  shapes = _kernels(config)
  leaves = dict(zip(trees.paths(adapters), jax.tree.leaves(adapters), strict=True))
  factors: dict[str, dict[str, np.ndarray]] = {}
  for name, leaf in leaves.items():
    path, _, factor = name.rpartition("/")
    factors.setdefault(path, {})[factor] = np.asarray(leaf)
  for path, pair in factors.items():
    if path not in shapes:
      raise ConfigError(
        f"{path!r} is no kernel of the model's layers; they are {', '.join(shapes)}"
      )
    layers, fan_in, fan_out = shapes[path]
    got = {factor: array.shape for factor, array in pair.items()}
    rank = got.get("a", (0,))[-1]
    if got != {"a": (layers, fan_in, rank), "b": (layers, rank, fan_out)}:
      raise ConfigError(
        f"{path} {shapes[path]} needs a [{layers}, {fan_in}, r] and "
        f"b [{layers}, r, {fan_out}], got {got}; of a population, save one member"
      )
  if not factors:
    raise ConfigError("there are no adapters to save: the tree is empty")
  return factors


def _targeted(config, target_modules) -> set[str]:
  """Return the paths that a config's list names; a regex names none for certain."""
  if isinstance(target_modules, str):
    return set()
  modules = {
    name.removesuffix(".weight"): path
    for path in _kernels(config)
    for name in families.tensor_names(config, path)
  }
  named = set()
  for target in target_modules:
    matching = {p for name, p in modules.items() if f".{name}".endswith(f".{target}")}
    if not matching:
      known = dict.fromkeys(name.split(".")[-1] for name in modules)
      raise ConfigError(
        f"target_modules names {target!r}, which cannot be adapted here; expected "
        f"some of {', '.join(known)}"
      )
    named |= matching
  return named


def _read_config(path: pathlib.Path) -> JsonObject:
  """Return a config that says plain LoRA."""
  if not path.exists():
    raise ConfigError(f"{path.parent} is no PEFT adapter: it has no {path.name}")
  config = files.read_object(path)

  def require(name, expected, holds):
    value = config.get(name)
    if not holds(value):
      raise ConfigError(f"{path}: {name} must be {expected}, got {value!r}")

  require("peft_type", "LORA", lambda v: v == "LORA")
  require("task_type", "CAUSAL_LM or null", lambda v: v in ("CAUSAL_LM", None))
  require("bias", "none", lambda v: v in ("none", None))
  require("r", "an integer of at least 1", lambda v: _is_number(v, int) and v >= 1)
  require("lora_alpha", "a number", lambda v: _is_number(v, int | float))
  require(
    "target_modules",
    "a list of names or a regex",
    lambda v: v and isinstance(v, str | list),
  )
  require(
    "init_lora_weights",
    "an initialization that leaves the base model as it is",
    lambda v: v is None or v in _PLAIN_INIT,
  )
  refused = sorted(n for n, v in config.items() if v and n not in _UNDERSTOOD)
  if refused:
    raise ConfigError(
      f"{path} uses what is not supported: "
      + ", ".join(f"{name}={config[name]!r}" for name in refused)
      + "; merge the adapter into its model with PEFT, or train it without"
    )
  return config


def _is_number(value, kind) -> bool:
  is_kind = isinstance(value, kind) and not isinstance(value, bool)
  return is_kind and abs(value) <= sys.float_info.max


def _read_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Return the tensors by name, as float32."""
  if not path.exists():
    if path.with_suffix(".bin").exists():
      raise ConfigError(
        f"{path.parent} holds {path.stem}.bin only, a pickle, which can run code when "
        "it is read; save the adapter with PEFT's safe_serialization=True"
      )
    raise ConfigError(f"{path.parent} is no PEFT adapter: it has no {path.name}")
  try:
    entries = safetensors.deserialize(path.read_bytes())
  except (safetensors.SafetensorError, OSError) as error:
    raise ConfigError(f"{path} is no safetensors file: {error}") from None
  dtypes = {"F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16}
  tensors = {}
  for name, part in entries:
    if part["dtype"] not in dtypes:
      raise ConfigError(
        f"{path}: {name} must be one of {', '.join(dtypes)}, got {part['dtype']}"
      )
    values = np.frombuffer(part["data"], dtypes[part["dtype"]])
    if not is_finite(values):
      raise ConfigError(
        f"{path}: {name} has values that are not finite; the adapter diverged before "
        "it was saved, or the file is damaged"
      )
    tensors[name] = values.reshape(part["shape"]).astype(np.float32)
  return tensors


def _listed(names: list[str]) -> str:
  """Return the first few names, and how many more there are."""
  more = f" and {len(names) - 6} more" if len(names) > 6 else ""
  return ", ".join(names[:6]) + more
