"""Checkpoints of other kinds in: each becomes a Hugging Face directory."""

import pathlib

import numpy as np

from undo_jax.data.tokenizers import from_gguf
from undo_jax.models import families, gguf_weights, huggingface
from undo_jax.utils import files
from undo_jax.utils.types import ConfigError, JsonObject


def import_gguf(path: pathlib.Path, directory: pathlib.Path, *, dtype: str) -> None:
  """Write the weights, the tokenizer and the chat template of a GGUF file.

  Args:
    path: of the file; a Llama-family model, see models/gguf_weights.py.
    directory: a new one, which transformers opens as well; whole or not at all.
    dtype: of the weights, "float32" (exactly what the file holds) or "bfloat16".

  Raises:
    ConfigError: if the file or its tokenizer cannot be read; named.
  """
  file = gguf_weights.open_file(path)
  settings = gguf_weights.settings(file, dtype=dtype)
  try:
    families.from_json(settings)
  except ConfigError as error:
    raise ConfigError(f"{path}: {error}") from None
  with files.new_directory(directory) as temporary:
    from_gguf.write(file.fields, temporary, path=str(path))
    tensors = gguf_weights.tensors(file, settings)
    huggingface.write_tensors(temporary, tensors, np.dtype(dtype))
    files.write_json(temporary / "config.json", settings)
    files.write_json(temporary / "generation_config.json", _generation(settings))
    try:
      huggingface.check(temporary)
    except ConfigError as error:
      message = str(error).replace(str(temporary), str(path))
      raise ConfigError(message) from None


def _generation(settings: JsonObject) -> JsonObject:
  """Return the generation_config.json: the tokens that begin and end a text."""
  return {k: v for k, v in settings.items() if k in ("bos_token_id", "eos_token_id")}
