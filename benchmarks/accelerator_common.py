"""What the parts of `accelerator` share: sizes, timing, the fields of a row."""

from collections.abc import Callable, Sequence
import dataclasses
import statistics
import time
from typing import Any

from benchmarks.sizes import TINY
from undo_jax.models.config import ModelConfig
from undo_jax.models.presets import PRESETS

Row = dict[str, Any]  # Of the table, see accelerator.HEADER; or of the JSON alone.
Report = Callable[[Row], None]  # Takes a row at once: the process may be stopped.


@dataclasses.dataclass(frozen=True)
class Setting:
  """What all parts are told."""

  seconds: float  # For which a program is timed.
  tests: tuple[str, ...]
  platform: str = ""  # Of the device that was found.
  peak: float | None = None  # FLOPs a second.


@dataclasses.dataclass(frozen=True)
class Size:
  """A model, and what it is given."""

  model: ModelConfig
  # What is recomputed and how many rows there are: the first that fits is measured.
  attempts: tuple[tuple[str, int], ...]
  length: int  # Tokens of a row.
  members: int  # Learning rates of the attack.
  attack_rows: int
  prompts: int
  prompt: int  # Tokens of a prompt, and as many are appended.


def _preset(name: str) -> ModelConfig:
  return dataclasses.replace(
    PRESETS[name],
    dtype="bfloat16",
    attention="splash",
    logits_chunk=128,
    scan_unroll=1,
  )


_TOY = ModelConfig(
  vocab_size=64,
  num_layers=2,
  width=16,
  num_heads=4,
  num_kv_heads=2,
  head_dim=8,
  mlp_width=32,
  query_pre_attn_scalar=8.0,
  dtype="bfloat16",
  logits_chunk=8,
)
SIZES = {
  "0.4m": Size(
    TINY,
    attempts=(("none", 128),),
    length=16,
    members=1,
    attack_rows=32,
    prompts=32,
    prompt=16,
  ),
  "0.1b": Size(
    _preset("gemma2_0.1b"),
    attempts=(("none", 16), ("full", 16), ("full", 4)),
    length=1024,
    members=2,
    attack_rows=8,
    prompts=32,
    prompt=128,
  ),
  "0.3b": Size(
    _preset("gemma2_0.3b"),
    attempts=(("none", 16), ("full", 16), ("full", 4)),
    length=1024,
    members=2,
    attack_rows=8,
    prompts=32,
    prompt=128,
  ),
  "2b": Size(
    _preset("gemma2_2b"),
    attempts=(("full", 16), ("full", 4), ("full", 1)),
    length=1024,
    members=1,
    attack_rows=8,
    prompts=32,
    prompt=128,
  ),
  "toy": Size(
    _TOY,
    attempts=(("none", 4), ("full", 2)),
    length=16,
    members=2,
    attack_rows=2,
    prompts=2,
    prompt=4,
  ),
}


def short(error: Exception) -> str:
  """Return an error in one line."""
  text = " ".join(str(error).split())
  return f"{type(error).__name__}: {text}"[:160]


def timed(call: Any, wait: Any, seconds: float, groups: int = 3) -> list[float]:
  """Return the seconds of a call, one number for each of some groups of calls.

  Args:
    call: starts the work; once has been called before.
    wait: returns when all work is done.
    seconds: for all calls together, about.
    groups: how many times `wait` is called.
  """
  start = time.perf_counter()
  call()
  wait()
  once = time.perf_counter() - start
  calls = max(1, int(seconds / groups / max(once, 1e-6)))
  times = []
  for _ in range(groups):
    start = time.perf_counter()
    for _ in range(calls):
      call()
    wait()
    times.append((time.perf_counter() - start) / calls)
  return times


def speeds(
  seconds: Sequence[float], amount: float, unit: str, flops: float, peak: float | None
) -> Row:
  """Return the fields of what takes so many seconds, does so much by so many FLOPs."""
  share = flops / statistics.median(seconds) / peak if peak else None
  return {
    "seconds": list(seconds),
    "speeds": [amount / each for each in seconds],
    "unit": unit,
    "share": share,
  }
