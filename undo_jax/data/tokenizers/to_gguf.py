"""Tokenizers as GGUF files hold them, byte-level BPE: the inverse of from_gguf.py."""

import json
import pathlib

import tokenizers as library
from tokenizers import models

from undo_jax.data.tokenizers import from_gguf
from undo_jax.utils import files
from undo_jax.utils.errors import ConfigError
from undo_jax.utils.json_types import JsonObject

# Types of tokens; the last fills the vocabulary up to the model's.
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5


def fields(directory: pathlib.Path, *, num_ids: int) -> JsonObject:
  """Return the metadata of the tokenizer in a directory, its chat template included.

  Args:
    directory: with tokenizer.json and, if there is one, tokenizer_config.json.
    num_ids: of the model; where the tokenizer has fewer, unused tokens follow.

  Raises:
    ConfigError: if there is no tokenizer.json, it is no byte-level BPE, or cuts text in
      a way that has no name in GGUF.
  """
  path = directory / "tokenizer.json"
  if not path.is_file():
    raise ConfigError(f"{directory} has no tokenizer.json, of which GGUF needs the ids")
  try:
    return _fields(files.read_object(path), path, num_ids)
  except (AttributeError, KeyError, TypeError) as error:
    raise ConfigError(
      f"{path} is no tokenizer of Hugging Face: {error!r:.80}; copy it again"
    ) from None


def _fields(content: JsonObject, path: pathlib.Path, num_ids: int) -> JsonObject:
  vocabulary = content["model"].get("vocab")
  if content["model"].get("type") != "BPE" or not isinstance(vocabulary, dict):
    raise ConfigError(f"{path}: only byte-level BPE can be written as GGUF")
  added = {token["id"]: token for token in content.get("added_tokens", ())}
  by_id = {index: token for token, index in vocabulary.items()}
  by_id |= {index: token["content"] for index, token in added.items()}

  def kind(index):
    if index not in by_id:
      return _UNUSED
    if index not in added:
      return _NORMAL
    return _CONTROL if added[index]["special"] else _USER_DEFINED

  merges = content["model"]["merges"]
  return {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": _cut(content, path),
    "tokenizer.ggml.tokens": [by_id.get(i, f"[PAD{i}]") for i in range(num_ids)],
    "tokenizer.ggml.token_type": [kind(index) for index in range(num_ids)],
    "tokenizer.ggml.merges": [
      merge if isinstance(merge, str) else " ".join(merge) for merge in merges
    ],
    **_named(path.parent, {token: index for index, token in by_id.items()}),
  }


def _cut(content: JsonObject, path: pathlib.Path) -> str:
  """Return GGUF's name of how text is cut before it is merged."""
  for name, make in from_gguf.CUTS.items():
    tokenizer = library.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = make()
    known = json.loads(tokenizer.to_str())["pre_tokenizer"]
    if content.get("normalizer") is None and content["pre_tokenizer"] == known:
      return name
  raise ConfigError(
    f"{path}: the tokenizer cuts text in a way that has no name in GGUF; only those of "
    f"{', '.join(from_gguf.CUTS)} can be written"
  )


def _named(directory: pathlib.Path, index_of: dict[str, int]) -> JsonObject:
  """Return what tokenizer_config.json says: special tokens, BOS, the chat template."""
  config = files.read_optional(directory / "tokenizer_config.json")
  metadata: JsonObject = {
    "tokenizer.ggml.add_bos_token": bool(config.get("add_bos_token", False))
  }
  for role, field in from_gguf.ROLES:
    token = config.get(role)
    token = token["content"] if isinstance(token, dict) else token
    if token in index_of:
      metadata[f"tokenizer.ggml.{field}"] = index_of[token]
  template = directory / "chat_template.jinja"
  chat = template.read_text("utf-8") if template.is_file() else None
  chat = chat or config.get("chat_template")
  if isinstance(chat, str):
    metadata["tokenizer.chat_template"] = chat
  return metadata
