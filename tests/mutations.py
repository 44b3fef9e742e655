"""Bytes and JSON that differ from what somebody meant to write."""

import copy
import json

from hypothesis import strategies as st

# What formats give a meaning to, and numbers at which readers turn.
WORDS = (
  *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\n", b"\r\n", b"\x00", b"\xff"),
  *(b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b"9" * 25, b"\\ud800", b"\\n"),
  *(b"<", b">", b"</", b"<!--", b"<![CDATA[", b"&#x110000;", b"PAR1", b"\xef\xbb\xbf"),
  *(b"\xff" * 8, b"\x00" * 8, b"[" * 100_000, b'{"a":' * 100_000),
)
SCALARS = st.one_of(
  st.sampled_from([None, True, False, -1, 0, 1, 2**31, 2**63, 10**400, 0.5, -0.0]),
  st.sampled_from(["", "a\nb", "\ud800", "\u202e", "../..", "x" * 5000, "1", "\x00"]),
  st.floats(),
  st.integers(-3, 40),
  st.text(max_size=4),
)
VALUES = st.one_of(
  SCALARS,
  st.lists(SCALARS, max_size=3),
  st.dictionaries(st.text(max_size=3), SCALARS, max_size=2),
)


@st.composite
def changed_bytes(draw, data: bytes) -> bytes:
  """Draw bytes a few changes away: of bits, runs and words, cut off or doubled."""
  for _ in range(draw(st.integers(1, 3))):
    begin = draw(st.integers(0, len(data)))
    end = min(len(data), begin + draw(st.integers(0, 40)))
    part = data[begin:end]
    kind = draw(st.sampled_from(("bit", "word", "random", "out", "twice", "cut")))
    if kind == "bit":
      part = bytes([part[0] ^ 1 << draw(st.integers(0, 7))]) + part[1:] if part else b""
    elif kind == "word":
      part = draw(st.sampled_from(WORDS))
    elif kind == "random":
      part = draw(st.binary(max_size=9))
    elif kind == "twice":
      part = part * 2
    elif kind == "out":
      part = b""
    else:
      end = len(data)
    data = data[:begin] + part + data[end:]
  return data


def _places(value, before=()):
  """Yield the paths of all values in JSON."""
  items = value.items() if isinstance(value, dict) else enumerate(value)
  for key, item in items:
    yield (*before, key)
    if isinstance(item, dict | list):
      yield from _places(item, (*before, key))


@st.composite
def changed_json(draw, data: bytes) -> bytes:
  """Draw JSON in which one value is another, is gone, or has another name."""
  value = copy.deepcopy(json.loads(data))
  *path, last = draw(st.sampled_from(list(_places(value))))
  inner = value
  for key in path:
    inner = inner[key]
  kind = draw(st.sampled_from(("value", "value", "out", "name")))
  if kind == "value":
    inner[last] = draw(VALUES)
  elif kind == "out" or isinstance(inner, list):
    del inner[last]
  else:
    inner[draw(st.text(max_size=9))] = inner.pop(last)
  return json.dumps(value).encode()
