"""Batched greedy generation, undo_jax against transformers' generate in PyTorch.

COMMAND, some minutes on 2 CPU cores:

  python -m benchmarks.generation --rounds=5

Both sides have the same random weights, read from one checkpoint, and the same
prompts, of which half are padded on the left; both append the same number of tokens
to every row with a cache, in float32. Before anything is timed, all their tokens are
checked to be equal. transformers runs eagerly, as generate comes.

Each side runs in fresh processes, the two by turns. Compilation and warm-up are not
timed. Needs the extra `bench` (PyTorch, transformers, psutil).
"""

import dataclasses
import json
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any

from absl import app, flags

from benchmarks import common, pytorch
from benchmarks.sizes import LARGE, TINY
from undo_jax.models.config import ModelConfig, num_params
from undo_jax.utils import tables

SIDES = ("undo_jax", "pytorch")
PACKAGES = "jax jaxlib flax torch transformers numpy".split()
MODULE = "benchmarks.generation"


@dataclasses.dataclass(frozen=True)
class Size:
  """A model, its prompts and what is appended to each of them."""

  model: ModelConfig
  batch_size: int
  length: int  # Of a prompt, padding included.
  num_tokens: int  # Appended to a row.
  num_calls: int  # Timed in one round.

  @property
  def tokens(self) -> int:
    """Tokens that a call generates."""
    return self.batch_size * self.num_tokens


SIZES = {
  "tiny": Size(TINY, batch_size=64, length=16, num_tokens=32, num_calls=10),
  "large": Size(LARGE, batch_size=16, length=64, num_tokens=64, num_calls=5),
  "vocabulary": Size(
    dataclasses.replace(LARGE, vocab_size=64_000),
    batch_size=8,
    length=128,
    num_tokens=64,
    num_calls=5,
  ),
}

_SIZES = flags.DEFINE_list("sizes", list(SIZES), "Some of: " + ", ".join(SIZES))
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Processes of each side.", lower_bound=1)
_CALLS = flags.DEFINE_integer("calls", None, "Timed calls of a process, for all sizes.")
_PATIENCE = flags.DEFINE_float(
  "patience",
  0.0,
  "Seconds that each process may wait for an idle machine and be run again where "
  "others disturbed it.",
)
_OUTPUT = flags.DEFINE_string("output", None, "Where to write all results as JSON.")
_WORKER = flags.DEFINE_enum(
  "worker", None, [*SIDES, "check"], "Internal: be the process of one side."
)
_INPUTS = flags.DEFINE_string("inputs", None, "Internal: checkpoint and prompts.")
_REPORT = flags.DEFINE_string("report", None, "Internal: where a worker answers.")


def write_inputs(directory: pathlib.Path, size: Size) -> None:
  """Write a checkpoint of random weights, and prompts.npz beside it."""
  import jax
  import numpy as np

  from undo_jax.models import huggingface
  from undo_jax.models.decoder import Decoder

  params = jax.jit(Decoder(size.model).init)(jax.random.key(0))
  huggingface.save(directory, size.model, params)
  rng = np.random.default_rng(0)
  shape = (size.batch_size, size.length)
  padding = np.arange(size.batch_size) % 2 * (size.length // 3)
  valid = np.arange(size.length) >= padding[:, None]
  tokens = np.where(valid, rng.integers(0, size.model.vocab_size, shape), 0)
  np.savez(directory / "prompts.npz", tokens=tokens.astype(np.int32), valid=valid)


def read_prompts(directory: pathlib.Path) -> tuple[Any, Any]:
  """Return tokens [B, L] int32 and valid [B, L] bool."""
  import numpy as np

  with np.load(directory / "prompts.npz") as file:
    return file["tokens"], file["valid"]


class JaxSide:
  """The library's generation as its users call it."""

  def __init__(self, size: Size, directory: pathlib.Path):
    from undo_jax.models import huggingface
    from undo_jax.models.decoder import Decoder
    from undo_jax.models.generation import make_generate

    config, self._params = huggingface.load(directory)
    self._prompts = read_prompts(directory)
    self._generate = make_generate(Decoder(config), num_tokens=size.num_tokens)

  def call(self) -> Any:
    """Generate once, to its end; return the tokens [B, T]."""
    import numpy as np

    return np.asarray(self._generate(self._params, *self._prompts).tokens_BxT)


class TorchSide:
  """transformers' generate as its users call it."""

  def __init__(self, size: Size, directory: pathlib.Path):
    import torch

    self._num_tokens = size.num_tokens
    self._model = pytorch.load(directory).eval()
    self._model.generation_config.eos_token_id = None  # Every row to its full length.
    tokens, valid = read_prompts(directory)
    self._prompts = torch.from_numpy(tokens).long(), torch.from_numpy(valid).long()

  def call(self) -> Any:
    """Generate once; return the tokens [B, T]."""
    return pytorch.generate(self._model, *self._prompts, self._num_tokens)


def check(size: Size, directory: pathlib.Path) -> dict[str, Any]:
  """Assert that both sides generate the same tokens; return how many, how varied."""
  import numpy as np

  ours, theirs = JaxSide(size, directory).call(), TorchSide(size, directory).call()
  if ours.shape != theirs.shape or not (ours == theirs).all():
    share = (ours == theirs).mean() if ours.shape == theirs.shape else 0.0
    raise AssertionError(f"only {share:.2%} of the tokens are equal")
  return {"equal": int(ours.size), "different ids": int(len(np.unique(ours)))}


def measure(side: Any, num_calls: int) -> dict[str, Any]:
  """Return the milliseconds of every call, and what others used of the machine."""
  for _ in range(2):  # Compilation, and the allocator's growth.
    side.call()
  times = []
  with common.Stopwatch() as watch:
    for _ in range(num_calls):
      start = time.perf_counter()
      side.call()
      times.append(1e3 * (time.perf_counter() - start))
  return {"milliseconds": times, "others": watch.others}


def work(name: str, size: Size) -> dict[str, Any]:
  """Is the process of one side, or of the check."""
  directory = pathlib.Path(str(_INPUTS.value))
  if name == "check":
    return check(size, directory)
  if name == "undo_jax":
    common.as_launched()
  side = (JaxSide if name == "undo_jax" else TorchSide)(size, directory)
  return measure(side, _CALLS.value or size.num_calls)


def compare(name: str, inputs: pathlib.Path) -> dict[str, Any]:
  """Run all rounds of a size."""
  arguments: dict[str, Any] = {"sizes": name, "inputs": inputs}
  if _CALLS.value:
    arguments["calls"] = _CALLS.value
  rounds = []
  for number in range(_ROUNDS.value or 1):
    answers = {
      side: common.run_undisturbed(
        MODULE, {**arguments, "worker": side}, patience=_PATIENCE.value or 0.0
      )
      for side in SIDES
    }
    rounds.append(answers)
    medians = [statistics.median(answers[side]["milliseconds"]) for side in SIDES]
    others = max(answers[side]["others"] for side in SIDES)
    print(
      f"{name}, round {number + 1}: {medians[0]:.1f} ms against {medians[1]:.1f} ms, "
      f"others used {others:.2f} cores",
      file=sys.stderr,
    )
  return {"size": name, "rounds": rounds}


def row(result: dict[str, Any]) -> list[str]:
  """Return a result as a row of the table; see `HEADER`."""
  size = SIZES[result["size"]]
  medians = {
    side: [statistics.median(r[side]["milliseconds"]) for r in result["rounds"]]
    for side in SIDES
  }
  ours, theirs = (statistics.median(medians[side]) for side in SIDES)
  pairs = zip(medians["pytorch"], medians["undo_jax"], strict=True)
  return [
    f"{num_params(size.model) / 1e6:.2f} M",
    f"{size.model.vocab_size:,}",
    f"{size.batch_size} x ({size.length} + {size.num_tokens})",
    f"{1e3 * size.tokens / ours:,.0f}",
    f"{1e3 * size.tokens / theirs:,.0f}",
    common.spread([b / a for b, a in pairs]),
    f"{max(r[side]['others'] for r in result['rounds'] for side in SIDES):.2f}",
  ]


HEADER = (
  "parameters",
  "vocabulary",
  "rows x (prompt + new)",
  "undo_jax, tokens/s",
  "transformers, tokens/s",
  "times as fast (min..max)",
  "others' cores",
)


def main(argv: list[str]) -> None:
  """Print the table of all sizes."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  common.require("torch", "transformers", "psutil")
  common.use_cpu()
  names = list(_SIZES.value or ())
  if _WORKER.value:
    common.report(str(_REPORT.value), work(_WORKER.value, SIZES[names[0]]))
    return
  results, checks = [], {}
  with tempfile.TemporaryDirectory() as directory:
    for name in names:
      inputs = pathlib.Path(directory) / name
      write_inputs(inputs, SIZES[name])
      arguments = {"sizes": name, "inputs": inputs, "worker": "check"}
      checks[name] = common.run_worker(MODULE, arguments)
      print(f"{name}: both sides agree, {json.dumps(checks[name])}", file=sys.stderr)
      results.append(compare(name, inputs))
  machine = common.describe(PACKAGES)
  print(tables.markdown(HEADER, [row(result) for result in results]))
  print("\n" + common.machine_text(machine))
  sizes = {name: dataclasses.asdict(SIZES[name]) for name in names}
  common.write_json(
    _OUTPUT.value,
    {"machine": machine, "sizes": sizes, "checks": checks, "results": results},
  )


if __name__ == "__main__":
  app.run(main)
