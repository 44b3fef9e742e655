"""Tokenizers that need no file: characters and bytes."""

from collections.abc import Sequence
import string
from typing import Protocol

from undo_jax.types import ConfigError

# The special ids of Gemma; ordinary tokens follow.
PAD, EOS, BOS = 0, 1, 2
NUM_SPECIAL = 3

ALPHABETS = {
  "arithmetic": string.digits + "+-*/=. ",
  "ascii": string.printable[:95] + "\n",
}


class Tokenizer(Protocol):
  """Text to ids and back. Special ids are added by packing, never by encode."""

  vocab_size: int

  def encode(self, text: str) -> list[int]:
    """Returns the ids of a text, without special ones."""
    ...

  def decode(self, ids: Sequence[int]) -> str:
    """Returns the text of ids; special ones are left out."""
    ...


class CharacterTokenizer:
  """One id for each character of an alphabet."""

  def __init__(self, alphabet: str):
    self._characters = alphabet
    self._ids = {c: i + NUM_SPECIAL for i, c in enumerate(alphabet)}
    self.vocab_size = len(alphabet) + NUM_SPECIAL

  def encode(self, text: str) -> list[int]:
    """Returns the ids of a text.

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
    """Returns the text of ids; special and unused ones are left out."""
    kept = [i - NUM_SPECIAL for i in ids if NUM_SPECIAL <= i < self.vocab_size]
    return "".join(self._characters[i] for i in kept)


class ByteTokenizer:
  """One id for each byte of the UTF-8 text: any text fits."""

  vocab_size = 256 + NUM_SPECIAL

  def encode(self, text: str) -> list[int]:
    """Returns one id for each byte."""
    return [byte + NUM_SPECIAL for byte in text.encode("utf-8")]

  def decode(self, ids: Sequence[int]) -> str:
    """Returns the text; special ids are left out, broken UTF-8 is marked."""
    kept = [i - NUM_SPECIAL for i in ids if NUM_SPECIAL <= i < self.vocab_size]
    return bytes(kept).decode("utf-8", errors="replace")


def make(name: str) -> Tokenizer:
  """Returns the tokenizer "bytes" or "characters:ALPHABET" of ALPHABETS.

  Raises:
    ConfigError: if there is none of this name.
  """
  kind, _, alphabet = name.partition(":")
  if name == "bytes":
    return ByteTokenizer()
  if kind == "characters" and alphabet in ALPHABETS:
    return CharacterTokenizer(ALPHABETS[alphabet])
  known = ["bytes", *(f"characters:{alphabet}" for alphabet in ALPHABETS)]
  raise ConfigError(f"unknown data.tokenizer {name!r}; known are {', '.join(known)}")
