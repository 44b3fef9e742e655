"""Dropping lines of documents: those of another language, and repeated ones."""

from collections.abc import Iterable, Iterator
import hashlib
import re

from undo_jax.utils.errors import ConfigError


def filtered(
  texts: Iterable[str], *, keep: str | None = None, min_characters: int = 1
) -> Iterator[str]:
  """Yield texts of new lines only.

  Pages of a site repeat paragraphs, and translations leave some in the original
  language. Otherwise held-out pages would contain lines of training, and forget text
  would contain text to keep. Only the first occurrence of a line is kept. Memory grows
  by some 60
  bytes for each line that is kept.

  Args:
    texts: of one language, in order.
    keep: regex that a line must match somewhere; None: all do.
    min_characters: shorter texts, once filtered, are left out.

  Raises:
    ConfigError: if `keep` is no regex.
  """
  try:
    pattern = re.compile(keep or "")
  except re.error as error:
    raise ConfigError(f"expected a regex, got {keep!r}: {error}") from None
  seen: set[bytes] = set()
  for text in texts:
    lines = []
    for line in text.splitlines():
      digest = hashlib.blake2b(line.strip().encode(), digest_size=8).digest()
      if line.strip() and digest not in seen and pattern.search(line):
        seen.add(digest)
        lines.append(line)
    kept = "\n".join(lines)
    if kept and len(kept) >= min_characters:
      yield kept
