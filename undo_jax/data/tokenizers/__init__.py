"""Tokenizers by name: of files, and characters, words and bytes, which need none."""

from collections.abc import Callable, Sequence
import re
import string
from typing import Protocol

from undo_jax.data import facts_words
from undo_jax.data.tokenizers.files import HuggingFaceTokenizer, SentencePieceTokenizer
from undo_jax.utils.errors import ConfigError
from undo_jax.utils.json_types import JsonObject

# The special ids of characters and bytes, those of Gemma; ordinary tokens follow.
PAD, EOS, BOS = 0, 1, 2
NUM_SPECIAL = 3

ALPHABETS = {
  "arithmetic": string.digits + "+-*/=. ",
  "ascii": string.printable[:95] + "\n",
}
WORDS: dict[str, Callable[[], list[str]]] = {"facts": facts_words.vocabulary}
FILES = {"sentencepiece": SentencePieceTokenizer, "huggingface": HuggingFaceTokenizer}


class Tokenizer(Protocol):
  """Text to ids and back. Special ids are added by packing, never by encode.

  Attributes:
    vocab_size: one more than the largest id that encode or packing gives.
    pad_id: fills rows up; always masked, so it may be any id (EOS where a file has
      no pad).
    eos_id: ends a document.
    bos_id: begins a document; None where EOS alone separates documents (Qwen).
  """

  vocab_size: int
  pad_id: int
  eos_id: int
  bos_id: int | None

  def encode(self, text: str) -> list[int]:
    """Return the ids of a text, without special ones."""
    ...

  def decode(self, ids: Sequence[int]) -> str:
    """Return the text of ids; special ones are left out."""
    ...


class CharacterTokenizer:
  """One id for each character of an alphabet."""

  pad_id, eos_id = PAD, EOS
  bos_id: int | None = BOS

  def __init__(self, alphabet: str):
    self._characters = alphabet
    self._ids = {c: i + NUM_SPECIAL for i, c in enumerate(alphabet)}
    self.vocab_size = len(alphabet) + NUM_SPECIAL

  def encode(self, text: str) -> list[int]:
    """Return the ids of a text.

    Raises:
      ValueError: if a character is not in the alphabet.
    """
    try:
      return [self._ids[c] for c in text]
    except KeyError as error:
      raise ValueError(
        f"the character {error.args[0]!r} of {text!r} is not in the tokenizer's "
        f"alphabet {self._characters!r}; choose a larger one (data.tokenizer)"
      ) from None

  def decode(self, ids: Sequence[int]) -> str:
    """Return the text of ids; special and unused ones are left out."""
    kept = [i - NUM_SPECIAL for i in ids if NUM_SPECIAL <= i < self.vocab_size]
    return "".join(self._characters[i] for i in kept)


class WordTokenizer:
  """One id for each character, and for each word of a list, with the space before it.

  Words that are not in the list are spelled.
  """

  pad_id, eos_id = PAD, EOS
  bos_id: int | None = BOS

  def __init__(self, words: Sequence[str]):
    self.tokens = (*ALPHABETS["ascii"], *words)
    self._ids = {token: i + NUM_SPECIAL for i, token in enumerate(self.tokens)}
    self.vocab_size = len(self.tokens) + NUM_SPECIAL

  def encode(self, text: str) -> list[int]:
    """Return the ids of a text.

    Raises:
      ValueError: if a character is not printable ASCII or a line's end.
    """
    ids = []
    for piece in re.findall(facts_words.PIECE, text):
      for token in [piece] if piece in self._ids else piece:
        if token not in self._ids:
          raise ValueError(
            f"the character {token!r} of {text!r} is not in the tokenizer's alphabet, "
            "printable ASCII; choose another tokenizer (data.tokenizer)"
          )
        ids.append(self._ids[token])
    return ids

  def decode(self, ids: Sequence[int]) -> str:
    """Return the text of ids; special and unused ones are left out."""
    kept = [i - NUM_SPECIAL for i in ids if NUM_SPECIAL <= i < self.vocab_size]
    return "".join(self.tokens[i] for i in kept)


class ByteTokenizer:
  """One id for each byte of the UTF-8 text: any text fits."""

  vocab_size = 256 + NUM_SPECIAL
  pad_id, eos_id = PAD, EOS
  bos_id: int | None = BOS

  def encode(self, text: str) -> list[int]:
    """Return one id for each byte."""
    return [byte + NUM_SPECIAL for byte in text.encode("utf-8")]

  def decode(self, ids: Sequence[int]) -> str:
    """Return the text; special ids are left out, broken UTF-8 is marked."""
    kept = [i - NUM_SPECIAL for i in ids if NUM_SPECIAL <= i < self.vocab_size]
    return bytes(kept).decode("utf-8", errors="replace")


def make(name: str) -> Tokenizer:
  """Return the tokenizer of a name.

  Args:
    name: "bytes", "characters:ALPHABET" of ALPHABETS, "words:LIST" of WORDS,
      "sentencepiece:PATH" (a tokenizer.model or a directory that holds one) or
      "huggingface:PATH" (a tokenizer.json, likewise).

  Returns:
    The tokenizer; see tokenizer_files for those that are read from files.

  Raises:
    ConfigError: if there is none of this name, or its file is missing or broken.
  """
  kind, colon, rest = name.partition(":")
  if name == "bytes":
    return ByteTokenizer()
  if kind == "characters" and rest in ALPHABETS:
    return CharacterTokenizer(ALPHABETS[rest])
  if kind == "words" and rest in WORDS:
    return WordTokenizer(WORDS[rest]())
  if kind in FILES and colon:
    return FILES[kind](rest)
  known = ["bytes", *(f"characters:{alphabet}" for alphabet in ALPHABETS)]
  known += [f"words:{words}" for words in WORDS]
  known += [f"{kind}:PATH" for kind in FILES]
  raise ConfigError(f"unknown data.tokenizer {name!r}; known are {', '.join(known)}")


def content(name: str) -> JsonObject | None:
  """Return what determines the ids of a tokenizer besides its name.

  Args:
    name: as for `make`.

  Returns:
    For a tokenizer from files its special ids (files beside it may name them) and
    "sha256", 64 hex digits over the bytes of its file; for any other None.

  Raises:
    ConfigError: as `make`.
  """
  tokenizer = make(name)
  if not isinstance(tokenizer, SentencePieceTokenizer | HuggingFaceTokenizer):
    return None
  fields = ("sha256", "pad_id", "eos_id", "bos_id")
  return {field: getattr(tokenizer, field) for field in fields}
