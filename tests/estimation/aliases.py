"""Reads what a compiled program writes over."""

import re

_ALIAS = re.compile(r"\{([\d, ]*)\}: \((\d+), \{[\d, ]*\}, \w+-alias\)")


def aliases(text: str) -> dict[int, int]:
  """Return which arguments a compiled program writes its results over.

  Returns:
    Number of the result -> number of the argument, both of flattened trees. What is
    donated and not among them is held twice.
  """
  header = text.split("\n", 1)[0]
  matches = _ALIAS.findall(header)
  return {int(result or 0): int(argument) for result, argument in matches}
