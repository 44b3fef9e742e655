"""A checkpoint as a model that is measured."""

import dataclasses
import pathlib

from undo_jax.checkpoints import exporting, sources
from undo_jax.models.config import ModelConfig
from undo_jax.utils.types import Params


def model_of(
  path: str, *, dtype: str, learning_rate: float | None = None
) -> tuple[ModelConfig, Params, str | None]:
  """Return a checkpoint's config, parameters and tokenizer's name.

  Args:
    path: of a stage's directory or of Hugging Face's.
    dtype: of compute.
    learning_rate: which member of an attack; None: the checkpoint is no attack.

  Returns:
    The three; the name is that of a run, else of a tokenizer.json beside the weights,
    and None where there is neither.

  Raises:
    ConfigError: if there is no model, or no such member.
  """
  directory = pathlib.Path(sources.find(pathlib.Path(path).expanduser().resolve()))
  read = exporting.read(directory, learning_rate=learning_rate)
  name = read.tokenizer
  if name is None and (directory / "tokenizer.json").is_file():
    name = f"huggingface:{directory}"
  return dataclasses.replace(read.config, dtype=dtype), read.params, name
