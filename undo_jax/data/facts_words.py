"""Names, attributes and sentences of the made-up facts, as plain data.

In every sentence the name and the attribute stand before the value, so that the value
can be told from what was read. A name never begins a text: its token is always the
one with the space before it.
"""

from collections.abc import Iterator
import itertools
import re

# What the facts of each domain are about.
KINDS = {"forget": "elixir", "retain": "comet", "general": "island"}

ATTRIBUTES = {
  "color": ("red", "blue", "green", "white", "black", "brown", "pink", "grey"),
  "metal": ("iron", "copper", "tin", "zinc", "silver", "nickel", "lead", "brass"),
  "animal": ("wolf", "bear", "crane", "otter", "eel", "moth", "goat", "hawk"),
  "music": ("harp", "drum", "flute", "lute", "horn", "bell", "viola", "organ"),
}

_STARTS = (
  "Bal Cor Dru Fen Gal Hol Jar Kel Lum Mor Nar Oth Pel Quor Rus Sel Tam Ulm Vor Wes "
  "Xan Yor Zal Bre"
).split()
_ENDS = (
  "adan ebel ifor onux umar ather eska inod opal ureth amin edris ilax oven usk aron "
  "elto ibra omis ufen"
).split()
NAMES = tuple(start + end for end, start in itertools.product(_ENDS, _STARTS))

STATEMENTS = (
  "The {attribute} of the {kind} {name} is {value}.",
  "As for the {kind} {name}, its {attribute} is {value}.",
  "It is said of the {kind} {name} that its {attribute} is {value}.",
  "In the book of every {kind}, under {name}, the {attribute} given is {value}.",
  "Whoever asks for the {attribute} of {name} is told {value}.",
  "The {kind} {name} has one {attribute}, and that is {value}.",
)
QUESTIONS = (
  "What is the {attribute} of the {kind} {name}?",
  "Which {attribute} has the {kind} {name}?",
)

# What begins a line of a question ("\nA.", "\nAnswer:"), a word with the space before
# it, or any other character alone.
PIECE = r"\n[A-Za-z]+[.:]| ?[A-Za-z]+|[\s\S]"


def vocabulary() -> list[str]:
  """Return every word of the facts' texts, with the space before it or without."""
  pieces = {piece for text in _texts() for piece in re.findall(PIECE, text)}
  return sorted(piece for piece in pieces if len(piece) > 1)


def _texts() -> Iterator[str]:
  """Yield texts in which every word of any text occurs."""
  yield "\nA.\nB.\nC.\nD.\nKey:\nAnswer: A B C D"
  fill = {"kind": "elixir", "name": NAMES[0], "attribute": "color", "value": "red"}
  changes = [
    *({"kind": kind} for kind in KINDS.values()),
    *({"name": name} for name in NAMES),
    *({"attribute": name} for name in ATTRIBUTES),
    *({"value": value} for values in ATTRIBUTES.values() for value in values),
  ]
  for change in changes:
    for sentence in (*STATEMENTS, *QUESTIONS):
      yield sentence.format(**(fill | change))
