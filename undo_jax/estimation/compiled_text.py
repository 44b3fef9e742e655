"""The cycles and collectives of a compiled program, from its text.

The compiler's summary counts the body of a loop once. Its text holds the estimate of
every fused operation; here both are multiplied by how often the loops turn.
"""

import collections
from collections.abc import Iterator
import dataclasses
import math
import re

COLLECTIVES = (
  "all-gather",
  "all-reduce",
  "all-to-all",
  "collective-permute",
  "ragged-all-to-all",
  "reduce-scatter",
)
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.$-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.$-]+) = (.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(calls|body|condition|to_apply)=%?([\w.$-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a computation."""

  name: str
  shape: str  # Text of what it gives.
  opcode: str
  operands: tuple[str, ...]
  text: str
  is_root: bool

  def called(self, how: str) -> list[str]:
    """Return the computations named by an attribute."""
    return [name for kind, name in _CALLED.findall(self.text) if kind == how]


@dataclasses.dataclass
class Totals:
  """Sums over a program, loops multiplied in.

  Bytes of a collective are those that a device holds afterwards (of an all-reduce or
  all-to-all: before, which is the same; of a reduce-scatter: before).
  """

  cycles: float = 0.0  # Of a device, as the compiler estimates; no collectives.
  counts: collections.Counter = dataclasses.field(default_factory=collections.Counter)
  bytes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
  sent_bytes: float = 0.0  # By a device while it waits; see `_sent`.
  hidden_bytes: float = 0.0  # Likewise, but with computation from start to end.
  assumed_loops: int = 0  # Whose length the text does not tell: taken as once.

  @property
  def hidden_share(self) -> float:
    """Part of the bytes sent beside which something is computed; 1 if none is sent."""
    moved = self.sent_bytes + self.hidden_bytes
    return self.hidden_bytes / moved if moved else 1.0


def read(text: str) -> Totals:
  """Sum up the text of a compiled program, `compiled.as_text()`."""
  computations, entry = _parse(text)
  totals = Totals()
  _walk(computations, entry, 1, totals, fused=None, seen=set())
  return totals


def _parse(text: str) -> tuple[dict[str, list[Instruction]], str]:
  computations: dict[str, list[Instruction]] = {}
  entry, current = "", None
  for line in text.splitlines():
    start = _COMPUTATION.match(line)
    if start and " = " not in line.split("(")[0]:
      current = start.group(2)
      computations[current] = []
      entry = current if start.group(1) else entry
    elif current and (match := _INSTRUCTION.match(line)):
      instruction = _instruction(match)
      if instruction:
        computations[current].append(instruction)
  return computations, entry


def _instruction(match: re.Match) -> Instruction | None:
  rest = re.sub(r"/\*.*?\*/", "", match.group(3))
  shape, rest = _split_shape(rest)
  opcode = re.match(r"\s*([\w-]+)\(", rest)
  if not opcode:
    return None
  depth, end = 1, opcode.end()
  while depth and end < len(rest):
    depth += {"(": 1, ")": -1}.get(rest[end], 0)
    end += 1
  inside = rest[opcode.end() : end - 1]
  operands = tuple(re.findall(r"%([\w.$-]+)", inside)) or (inside,)
  return Instruction(
    match.group(2), shape, opcode.group(1), operands, rest, bool(match.group(1))
  )


def _split_shape(text: str) -> tuple[str, str]:
  """Split `(f32[2]{0:T(8)}, u32[]) opcode(...)` after the shape."""
  depth = 0
  for index, letter in enumerate(text):
    depth += {"(": 1, "{": 1, "[": 1, ")": -1, "}": -1, "]": -1}.get(letter, 0)
    if letter == " " and depth == 0:
      return text[:index], text[index:]
  return text, ""


def _walk(computations, name, times, totals, *, fused, seen):
  """Add a computation, run `times` times, and all that it runs."""
  names = {i.name: i for i in computations.get(name, ())}
  # What runs beside a fusion's collective is known where the fusion stands.
  beside = fused or _beside(computations, list(names.values()))
  for instruction in names.values():
    if not fused:
      totals.cycles += times * _cycles(instruction)
    _add_collective(instruction, times, totals, seen, beside)
    for inner, turns, is_fused in _inner(computations, names, instruction, totals):
      _walk(
        computations,
        inner,
        times * turns,
        totals,
        fused=beside if is_fused else fused,
        # A collective split over several fusions keeps its channel.
        seen=seen if turns == 1 else set(),
      )


def _inner(computations, names, instruction, totals) -> Iterator[tuple[str, int, bool]]:
  if instruction.opcode == "while":
    turns = _turns(computations, names, instruction)
    if turns is None:
      totals.assumed_loops += 1
      turns = 1
    for body in instruction.called("body"):
      yield body, turns, False
  elif instruction.opcode in ("fusion", "call", "async-start", "custom-call"):
    for called in instruction.called("calls") + (
      instruction.called("to_apply") if instruction.opcode == "call" else []
    ):
      yield called, 1, instruction.opcode == "fusion"
  elif instruction.opcode == "conditional":
    branches = _BRANCHES.search(instruction.text)
    for branch in (branches.group(1) if branches else "").split(","):
      yield branch.strip().lstrip("%"), 1, False


def _cycles(instruction: Instruction) -> int:
  match = re.search(r'"estimated_cycles":"(\d+)"', instruction.text)
  return int(match.group(1)) if match else 0


def _turns(computations, names, loop) -> int | None:
  """Return how often a loop turns: ceil((limit - start) / step), or None."""
  known = re.search(r'known_trip_count"?:\s*\{"?n"?:\s*"?(\d+)', loop.text)
  if known:
    return int(known.group(1))
  condition = {i.name: i for i in computations.get(loop.called("condition")[0], ())}
  root = next((i for i in condition.values() if i.is_root), None)
  if root is None or root.opcode != "compare" or len(root.operands) != 2:
    return None
  counter, limit = (condition.get(name) for name in root.operands)
  if counter is None or counter.opcode != "get-tuple-element":
    return None
  index = _index(counter)
  limit = _constant(condition, limit)
  body = {i.name: i for i in computations.get(loop.called("body")[0], ())}
  step = _step(body, index)
  initial = names.get(loop.operands[0])
  start = None
  if initial is not None and initial.opcode == "tuple":
    start = _constant(names, names.get(initial.operands[index]))
  if limit is None or step is None:
    return None
  # Loops that the compiler writes start at zero, so far as they do not say.
  turns = math.ceil((limit - (start or 0)) / step)
  return turns + ("direction=LE" in root.text)


def _index(instruction) -> int:
  match = re.search(r"\bindex=(\d+)", instruction.text)
  assert match, instruction.text
  return int(match.group(1))


def _constant(names, instruction) -> int | None:
  while instruction is not None and instruction.opcode in ("copy", "bitcast"):
    instruction = names.get(instruction.operands[0])
  if instruction is None or instruction.opcode != "constant":
    return None
  value = instruction.operands[0]
  return int(value) if re.fullmatch(r"-?\d+", value) else None


def _step(body, index) -> int | None:
  """Return what a turn adds to the element of the loop's state."""
  root = next((i for i in body.values() if i.is_root), None)
  if root is None or root.opcode != "tuple":
    return None
  total, here = 0, body.get(root.operands[index])
  while here is not None and here.opcode in ("add", "copy"):
    if here.opcode == "add":
      first, second = (body.get(name) for name in here.operands)
      added = _constant(body, second)
      if added is None:
        added, first = _constant(body, first), second
      if added is None:
        return None
      total, here = total + added, first
    else:
      here = body.get(here.operands[0])
  if here is None or here.opcode != "get-tuple-element" or _index(here) != index:
    return None
  return total or None


def _beside(computations, instructions) -> dict[str, int]:
  """Return the cycles of computation beside each collective of a computation.

  The text is in the order in which it runs. A collective goes from its first to its
  last instruction: a start and its done, or the fusions that have parts of it, of
  which those with a matrix product compute themselves. What is one instruction, or
  a fusion without a product, has nothing beside it.
  """
  spans: dict[str, list[int]] = {}
  for index, instruction in enumerate(instructions):
    for key in _keys(computations, instruction):
      spans.setdefault(key, []).append(index)
  return {
    key: sum(
      _computed(computations, instructions[index], is_end=index in (at[0], at[-1]))
      for index in range(at[0], at[-1] + 1)
    )
    for key, at in spans.items()
  }


def _computed(computations, instruction, *, is_end: bool) -> int:
  """Return the cycles of an instruction, of a loop's body once."""
  inside = [
    i
    for how in ("calls", "body")
    for name in instruction.called(how)
    for i in computations.get(name, ())
  ]
  if is_end and not any(i.opcode in ("convolution", "dot") for i in inside):
    return 0
  if instruction.opcode == "while":
    return sum(_cycles(i) for i in inside)
  return _cycles(instruction)


def _keys(computations, instruction) -> set[str]:
  """Return the collectives that an instruction is, ends or has parts of."""
  if instruction.opcode == "fusion":
    inside = (i for name in instruction.called("calls") for i in computations[name])
    return {_key(i) for i in inside if _kind(i)}
  if instruction.opcode.endswith("-done"):
    return set(instruction.operands)
  return {_key(instruction)} if _kind(instruction) else set()


def _kind(instruction) -> str:
  opcode = instruction.opcode.removesuffix("-start")
  return opcode if opcode in COLLECTIVES else ""


def _key(instruction) -> str:
  # A done names its start; parts in several fusions have a channel in common.
  channel = re.search(r"channel_id=(\d+)", instruction.text)
  is_start = instruction.opcode.endswith("-start")
  return instruction.name if is_start or not channel else channel.group(1)


def _add_collective(instruction, times, totals, seen, beside):
  opcode, key = _kind(instruction), _key(instruction)
  if not opcode or key in seen:
    return
  seen.add(key)
  sizes = [_bytes(*array) for array in _ARRAY.findall(instruction.shape)]
  size = sum(sizes)
  if instruction.opcode.endswith("-start") and opcode != "all-reduce":
    # The shape is (what goes in, what comes out, handles).
    size = max(sizes)
  group = _group_size(instruction.text)
  if opcode == "reduce-scatter":
    size *= group
  totals.counts[opcode] += times
  totals.bytes[opcode] += times * size
  if beside.get(key):
    totals.hidden_bytes += times * _sent(opcode, size, group)
  else:
    totals.sent_bytes += times * _sent(opcode, size, group)


def _sent(opcode: str, size: float, group: int) -> float:
  """Return the bytes that each device must send at least.

  With g devices: all-gather and reduce-scatter (g - 1) / g of the whole, all-reduce
  twice that, all-to-all (g - 1) / g of its own part, a permutation all of it.
  """
  if opcode == "collective-permute":
    return size
  share = (group - 1) / group
  return size * share * (2 if opcode == "all-reduce" else 1)


def _group_size(text: str) -> int:
  """Return the devices that take part together, from any of the notations."""
  mesh = re.search(r"replica_groups=mesh\[([^\]]*)\]\s*(?:\{([^}]*)\})?", text)
  if mesh:
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh.group(1)))
    names = re.findall(r"'(\w+)'", mesh.group(2) or "")
    return math.prod(int(sizes[name]) for name in names) or 1
  iota = re.search(r"replica_groups=\[(\d+),(\d+)\]", text)
  if iota:
    return int(iota.group(2))
  listed = re.search(r"replica_groups=\{\{([\d,]*)\}", text)
  return len(listed.group(1).split(",")) if listed else 1


def _bytes(dtype: str, dims: str) -> int:
  bits = re.search(r"\d+", dtype)  # bf16, f8e4m3fn; pred has none.
  width = max(1, int(bits.group()) // 8) if bits else 1
  return width * math.prod(int(size) for size in dims.split(",") if size)
