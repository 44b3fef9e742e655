"""Tokenizers from local files: SentencePiece models and Hugging Face's JSON.

The ids are those of the libraries `sentencepiece` and `tokenizers`; nothing is
downloaded and no code of a model is run. User text is only ever text: a string that
looks like a special token ("<bos>") is encoded by its characters and never becomes
the special id. What a file declares to be text of its own stays what the library
makes of it: user-defined symbols there, added tokens that are not special here.
"""

from collections.abc import Sequence
import hashlib
import json
import pathlib
from typing import Any

import sentencepiece
import tokenizers

from undo_jax.utils.errors import ConfigError
from undo_jax.utils.json_types import JsonObject

# Where Hugging Face models name their special tokens; the first that names one wins.
NAMING_FILES = ("tokenizer_config.json", "special_tokens_map.json", "config.json")


class SentencePieceTokenizer:
  """A tokenizer.model; special ids are the file's own, EOS pads where it has no pad."""

  def __init__(self, path: str):
    """Read a model.

    Args:
      path: a tokenizer.model or a directory that holds one.

    Raises:
      ConfigError: if the file is missing or broken, or has no EOS.
    """
    file = _locate(path, "tokenizer.model", kind="sentencepiece")
    data = _read(file)
    self.sha256 = hashlib.sha256(data).hexdigest()
    self._processor = sentencepiece.SentencePieceProcessor()
    try:
      self._processor.LoadFromSerializedProto(data)
    except RuntimeError as error:
      raise _broken(file, "a SentencePiece model", error) from None
    self.vocab_size = self._processor.get_piece_size()
    eos_id = self._processor.eos_id()
    if eos_id < 0:
      raise ConfigError(
        f"data.tokenizer: expected a model with an end-of-text token, but {file} has "
        "none; train it with eos_id=1, as undo-jax prepare does"
      )
    pad_id, bos_id = self._processor.pad_id(), self._processor.bos_id()
    self.eos_id = eos_id
    self.pad_id = eos_id if pad_id < 0 else pad_id
    self.bos_id = None if bos_id in (-1, eos_id) else bos_id

  def encode(self, text: str) -> list[int]:
    """Return the ids of a text, without special ones."""
    return self._processor.encode(text)

  def decode(self, ids: Sequence[int]) -> str:
    """Return the text of ids; special and unused ones are left out."""
    kept = [int(i) for i in ids if 0 <= i < self.vocab_size]
    return self._processor.decode(kept)


class HuggingFaceTokenizer:
  """A tokenizer.json; special tokens are those that the files beside it name.

  For each of pad, eos and bos the first of `NAMING_FILES` that has the key decides:
  "eos_token" (a string, or an object with "content") or "eos_token_id" (a number, or
  a list, whose first counts); null says that there is none. A BOS counts where texts
  begin with it: "add_bos_token" in the first file says so or, where it says nothing,
  tokenizer.json's post-processor does it; one that is the EOS does not count. EOS pads
  where there is no pad.

  Truncation, padding and dropout that a file may ask for are off: ids depend on the
  text alone, and on all of it.
  """

  def __init__(self, path: str):
    """Read a tokenizer and the files beside it.

    Args:
      path: a tokenizer.json or a directory that holds one.

    Raises:
      ConfigError: if a file is missing or broken, or no file names a known EOS.
    """
    file = _locate(path, "tokenizer.json", kind="huggingface")
    data = _read(file)
    self.sha256 = hashlib.sha256(data).hexdigest()
    try:
      self._tokenizer = tokenizers.Tokenizer.from_buffer(data)
    except ValueError as error:
      raise _broken(file, "a tokenizer of Hugging Face", error) from None
    self._tokenizer.no_truncation()
    self._tokenizer.no_padding()
    if getattr(self._tokenizer.model, "dropout", None):
      self._tokenizer.model.dropout = None
    self.pad_id, self.eos_id, self.bos_id = _named_ids(file, self._tokenizer)
    self._special = self._make_special(data)
    # Ids may have gaps. Special ones that nobody uses may lie beyond the model's
    # vocabulary, as that of images does beside Gemma-3's text models.
    ids = set(self._tokenizer.get_vocab(with_added_tokens=True).values())
    named = {self.pad_id, self.eos_id, self.bos_id} - {None}
    self.vocab_size = max((ids - self._special) | named) + 1

  def encode(self, text: str) -> list[int]:
    """Return the ids of a text, without special ones.

    Raises:
      ValueError: if a special token is a single character and the text has it, or the
        library cannot encode the text.
    """
    ids: list[int] = []
    parts = [text]
    while parts:
      part = parts.pop()
      encoding = self._encode(part)
      if self._special.isdisjoint(encoding.ids):
        ids += encoding.ids
      else:
        parts += reversed(self._cut(part, encoding))
    return ids

  def _encode(self, text: str) -> Any:
    try:
      return self._tokenizer.encode(text, add_special_tokens=False)
    except Exception as error:  # noqa: BLE001  The library's have no class.
      raise ValueError(
        f"expected text of which the tokenizer knows all characters ({error}); remove "
        "the others or give another tokenizer"
      ) from None

  def encode_chat(self, text: str) -> list[int]:
    """Return the ids of a text in which special tokens stand for themselves.

    For what a chat template has written, never for data.
    """
    self._tokenizer.encode_special_tokens = False
    try:
      return self._tokenizer.encode(text, add_special_tokens=False).ids
    finally:
      self._tokenizer.encode_special_tokens = True

  def decode(self, ids: Sequence[int]) -> str:
    """Return the text of ids; special and unused ones are left out."""
    kept = [int(i) for i in ids if 0 <= i < self.vocab_size]
    return self._tokenizer.decode(kept, skip_special_tokens=True)

  def spelled(self, index: int) -> str:
    """Return the token of an id as it is written, a special one included."""
    return str(self._tokenizer.id_to_token(index))

  def _make_special(self, data: bytes) -> set[int]:
    """Make the library take special tokens in text for text; return their ids.

    The id of unknown text is not among them: it is what unknown text becomes.
    """
    added = self._tokenizer.get_added_tokens_decoder()
    special = {i for i, token in added.items() if token.special}
    named = {self.pad_id, self.eos_id, self.bos_id} - {None}
    self._tokenizer.add_special_tokens(
      [
        tokenizers.AddedToken(
          self._tokenizer.id_to_token(i), special=True, normalized=False
        )
        for i in sorted(named - special)
      ]
    )
    self._tokenizer.encode_special_tokens = True
    return (special | named) - {_unknown_id(self._tokenizer, data)}

  def _cut(self, text: str, encoding: Any) -> list[str]:
    """Cut a text within each special token in it.

    Models whose ordinary pieces include the special ones (Unigram, WordLevel) find
    them in text all the same; cut in two, they are spelled by other pieces.
    """
    parts, begin = [], 0
    for index, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
      if index not in self._special:
        continue
      middle = (start + end) // 2
      if middle <= start:
        raise ValueError(
          f"expected text without special tokens, got {text[start:end]!r}, which this "
          "tokenizer can only encode as one; remove it from the text"
        )
      parts.append(text[begin:middle])
      begin = middle
    return [*parts, text[begin:]]


def _named_ids(file, tokenizer) -> tuple[int, int, int | None]:
  """Return the pad, eos and bos id; see `HuggingFaceTokenizer` for the rule."""
  naming = {}
  for name in NAMING_FILES:
    beside = file.with_name(name)
    if beside.is_file():
      naming[beside] = _read_object(beside)
  pad, eos, bos = (_named_id(role, naming, tokenizer) for role in ("pad", "eos", "bos"))
  if eos is None:
    raise ConfigError(
      f"data.tokenizer: expected the end-of-text token of {file}, but none of "
      f"{', '.join(NAMING_FILES)} beside it names one; write a tokenizer_config.json "
      'there with {"eos_token": "..."}'
    )
  first = naming.get(file.with_name(NAMING_FILES[0]), {})
  if bos == eos or not _begins_with(bos, first.get("add_bos_token"), tokenizer):
    bos = None
  return eos if pad is None else pad, eos, bos


def _begins_with(bos: int | None, stated: object, tokenizer: Any) -> bool:
  """Whether the library begins texts with BOS, unless it is stated."""
  if isinstance(stated, bool):
    return stated
  return tokenizer.encode("", add_special_tokens=True).ids[:1] == [bos]


def _named_id(role: str, naming: dict, tokenizer: Any) -> int | None:
  """Return the id of a role from the first file that names it."""
  for file, content in naming.items():
    for key in (f"{role}_token", f"{role}_token_id"):
      if key not in content:
        continue
      value = content[key]
      if isinstance(value, dict):
        value = value.get("content")
      if isinstance(value, list):
        value = value[0] if value else None
      if value is None:
        return None
      if isinstance(value, str):
        is_text = value == value.encode(errors="ignore").decode()  # No half character.
        index = tokenizer.token_to_id(value) if is_text else None
      else:
        is_id = type(value) is int and 0 <= value < 2**31
        index = value if is_id and tokenizer.id_to_token(value) is not None else None
      if index is None:
        raise ConfigError(
          f"data.tokenizer: expected {key} in {file} to be a token of tokenizer.json, "
          f"got {value!r}; copy both files from the same model"
        )
      return index
  return None


def _unknown_id(tokenizer: Any, data: bytes) -> int | None:
  """Return the id that unknown text becomes, if there is one."""
  if isinstance(tokenizer.model, tokenizers.models.Unigram):
    return json.loads(data)["model"].get("unk_id")
  token = getattr(tokenizer.model, "unk_token", None)
  return None if token is None else tokenizer.token_to_id(token)


def _locate(path: str, name: str, *, kind: str) -> pathlib.Path:
  """Return the file at a path or, if that is a directory, the file `name` in it."""
  file = pathlib.Path(path).expanduser()
  if file.is_dir():
    file = file / name
  if not file.is_file():
    raise ConfigError(
      f"data.tokenizer: expected {kind}:PATH, PATH a {name} or a directory that holds "
      f"one, but there is no file {file}; give a local path (nothing is downloaded), "
      "or train one with undo-jax prepare"
    )
  return file


def _read(file: pathlib.Path) -> bytes:
  try:
    return file.read_bytes()
  except OSError as error:
    raise ConfigError(
      f"data.tokenizer: expected a file that can be read, got {file} "
      f"({error.strerror}); mend its permissions"
    ) from None


def _read_object(file: pathlib.Path) -> JsonObject:
  try:
    value = json.loads(_read(file))
    if not isinstance(value, dict):
      raise ValueError("it is no JSON object")
  except (ValueError, RecursionError) as error:
    raise _broken(file, "a JSON object", error) from None
  return value


def _broken(file: pathlib.Path, expected: str, error: Exception) -> ConfigError:
  reason = " ".join(str(error).split())
  return ConfigError(
    f"data.tokenizer: expected {expected}, but {file} cannot be read as one "
    f"({reason}); copy or train it again"
  )
