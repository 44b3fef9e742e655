"""Memory and time of a real model's updates, undo_jax against PyTorch.

COMMAND, some minutes on 2 CPU cores; the checkpoint comes from
`undo-jax import_gguf` (docs/your_own_model.md) or is any other Hugging
Face directory:

  python -m benchmarks.update_memory --checkpoint=DIRECTORY --rounds=3

Both sides read the same float32 weights and train them on the same random tokens by
AdamW: `unlearn` is an update of GradDiff, forget and retain rows of its own; `relearn`
one of plain cross-entropy on forget rows, the attack's. Before anything is measured the
losses of the first updates are checked to be equal. PyTorch runs eagerly with
transformers' model, and torch.compile where --sides names `compiled`.

Each side runs in fresh processes, the sides by turns. Memory is the largest resident
one of the process, reading the weights included; seconds are those of an update after
the first two.
"""

import functools
import json
import pathlib
import resource
import statistics
import sys
import time
from typing import Any

from absl import app, flags

from benchmarks import common, pytorch
from undo_jax.utils import tables

SIDES = ("undo_jax", "pytorch", "compiled")
UPDATES = ("unlearn", "relearn")
PACKAGES = "jax jaxlib flax optax torch transformers numpy".split()
MODULE = "benchmarks.update_memory"
LEARNING_RATE, WEIGHT_DECAY = 1e-5, 0.1
TOLERANCE = 1e-3  # Of losses; the weights move between them.

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Hugging Face directory.")
_SIDES = flags.DEFINE_list("sides", ["undo_jax", "pytorch"], "Some of: " + str(SIDES))
_UPDATES = flags.DEFINE_list("updates", list(UPDATES), "Some of: " + str(UPDATES))
_ROWS = flags.DEFINE_integer("rows", 4, "Rows of forget data, and of retain data.")
_LENGTH = flags.DEFINE_integer("length", 128, "Tokens a row.")
_STEPS = flags.DEFINE_integer("steps", 6, "Updates of a process.", lower_bound=3)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Processes of each side.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "Where to write all results as JSON.")
_WORKER = flags.DEFINE_enum("worker", None, SIDES, "Internal: be one side's process.")
_REPORT = flags.DEFINE_string("report", None, "Internal: where a worker answers.")


def draw_rows(vocab_size: int, seed: int) -> Any:
  """Return int32 [rows, length + 1]."""
  shape = (int(_ROWS.value or 0), 1 + int(_LENGTH.value or 0))
  return common.draw_tokens(vocab_size, shape, seed)


class JaxSide:
  """Updates as the library's stages do them."""

  def __init__(self, directory: pathlib.Path, update: str):
    import jax

    from undo_jax.checkpoints import sources
    from undo_jax.distributed import sharding
    from undo_jax.running import programs
    from undo_jax.training.optimizers import OptimizerConfig
    from undo_jax.utils import allocator, files

    source = sources.open_source(files.path(str(directory)))
    mesh, vocab_size = sharding.make_mesh(), source.model.vocab_size
    batch: Any = common.batch_of(draw_rows(vocab_size, 0))
    objective, options = "cross_entropy", ()
    if update == "unlearn":
      objective, options = "grad_diff", (("retain_weight", 1.0),)
      batch = {"forget": batch, "retain": common.batch_of(draw_rows(vocab_size, 1))}
    optimizer = OptimizerConfig(
      learning_rate=LEARNING_RATE,
      num_steps=_STEPS.value or 0,
      weight_decay=WEIGHT_DECAY,
    )
    training = programs.training(
      source.model, mesh, objective, options, optimizer, num_microbatches=1
    )
    self._step, self._batch = training.step, sharding.put_batch(batch, mesh)
    params = sources.load(source, programs.abstract_params(source.model, mesh))
    self._state = jax.block_until_ready(training.create(params))
    del params
    allocator.return_freed_memory()

  def update(self) -> float:
    """Train once, to its end; return the loss before it."""
    import jax

    self._state, metrics = self._step(self._state, (), self._batch, jax.random.key(0))
    jax.block_until_ready(self._state)
    return float(metrics["loss"])


class TorchSide:
  """The same in PyTorch, with transformers' model."""

  def __init__(self, directory: pathlib.Path, update: str, compiled: bool):
    import torch

    self._model = pytorch.load(directory).train()
    self._optimizer = torch.optim.AdamW(
      self._model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
    )
    vocab = self._model.config.vocab_size
    signs = {"unlearn": (-1.0, 1.0), "relearn": (1.0,)}[update]
    self._parts = [
      (sign, torch.from_numpy(draw_rows(vocab, seed)).long())
      for seed, sign in enumerate(signs)
    ]
    mean = functools.partial(pytorch.cross_entropy, self._model)
    self._loss = torch.compile(mean) if compiled else mean

  def update(self) -> float:
    """Train once; return the loss before it."""
    loss: Any = 0.0
    for sign, rows in self._parts:
      loss = loss + sign * self._loss(rows)
    return pytorch.update(loss, self._model, self._optimizer)[0]


def work(side: str) -> dict[str, Any]:
  """Is the process of one side: losses, seconds and resident bytes of each update."""
  import psutil

  directory, update = pathlib.Path(str(_CHECKPOINT.value)), (_UPDATES.value or [""])[0]
  if side == "undo_jax":
    common.as_launched()
    trained: Any = JaxSide(directory, update)
  else:
    trained = TorchSide(directory, update, side == "compiled")
  losses, seconds, resident = [], [], []
  with common.Stopwatch() as watch:
    for _ in range(_STEPS.value or 0):
      start = time.perf_counter()
      losses.append(trained.update())
      seconds.append(time.perf_counter() - start)
      resident.append(psutil.Process().memory_info().rss)
  return {
    "losses": losses,
    "seconds": seconds,
    "resident": resident,
    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "others": watch.others,
  }


def compare(update: str) -> list[dict[str, Any]]:
  """Run all rounds of an update; return for each the answer of every side."""
  arguments = {
    "checkpoint": _CHECKPOINT.value,
    "updates": update,
    "rows": _ROWS.value,
    "length": _LENGTH.value,
    "steps": _STEPS.value,
  }
  rounds = []
  for _ in range(_ROUNDS.value or 0):
    answers = {
      side: common.run_worker(MODULE, {**arguments, "worker": side})
      for side in _SIDES.value or ()
    }
    check(answers)
    rounds.append(answers)
    print(json.dumps(answers), file=sys.stderr)
  return rounds


def check(answers: dict[str, dict[str, Any]]) -> None:
  """Assert that all sides had the same losses."""
  first = next(iter(answers.values()))["losses"]
  for side, answer in answers.items():
    for step, (one, two) in enumerate(zip(first, answer["losses"], strict=True)):
      if abs(one - two) > TOLERANCE * max(1.0, abs(one)):
        raise AssertionError(f"update {step}: the loss of {side} is {two}, not {one}")


HEADER = (
  "update",
  "side",
  "peak, GB",
  "first and last, GB",
  "seconds",
  "others' cores",
)


def rows_of(update: str, rounds: list[dict[str, Any]]) -> list[list[str]]:
  """Return the rows of the table, a side each; see HEADER."""
  rows = []
  for side in rounds[0]:
    answers = [answers[side] for answers in rounds]
    held = [statistics.median(a["resident"][at] for a in answers) for at in (0, -1)]
    rows.append(
      [
        update,
        side,
        common.spread([a["peak"] / 1e9 for a in answers]),
        " and ".join(f"{x / 1e9:.2f}" for x in held),
        common.spread([statistics.median(a["seconds"][2:]) for a in answers]),
        f"{max(a['others'] for a in answers):.2f}",
      ]
    )
  return rows


def main(argv: list[str]) -> None:
  """Print the table of all updates and sides."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  common.checkpoint_directory(_CHECKPOINT.value)
  common.require("torch", "transformers", "psutil")
  common.use_cpu()
  if _WORKER.value:
    common.report(str(_REPORT.value), work(_WORKER.value))
    return
  results = {update: compare(update) for update in _UPDATES.value or ()}
  machine = common.describe(PACKAGES)
  rows = [row for update, own in results.items() for row in rows_of(update, own)]
  print(tables.markdown(HEADER, rows))
  print("\n" + common.machine_text(machine))
  common.write_json(_OUTPUT.value, {"machine": machine, "results": results})


if __name__ == "__main__":
  app.run(main)
