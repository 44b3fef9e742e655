"""How long a checkpoint keeps training waiting, and what training does beside it.

COMMAND, some minutes on 2 CPU cores, 3 GB of disk and 6 GB of memory:

  python -m benchmarks.checkpoint_saving --saves=5

A model of 0.1 B parameters is trained (cross-entropy, AdamW, float32) and saved with
the optimizer's state every few updates, in two ways by turns:

  waiting   training goes on once the checkpoint and its checksums are written.
  going_on  training goes on once the state may be overwritten, as stages do.

Blocked are the seconds from asking for a save to the next update; the other columns are
the seconds until the checkpoint is complete, and those of the updates after it.
"""

from collections.abc import Iterator
import pathlib
import statistics
import tempfile
import time
from typing import Any

from absl import app, flags

from benchmarks import common
from undo_jax.models.config import num_params
from undo_jax.models.presets import PRESETS
from undo_jax.utils import tables

PACKAGES = "jax jaxlib flax optax orbax-checkpoint numpy".split()
WAYS = ("waiting", "going_on")

_MODEL = flags.DEFINE_enum("model", "gemma2_0.1b", sorted(PRESETS), "What is trained.")
_SAVES = flags.DEFINE_integer("saves", 5, "Of each way.", lower_bound=1)
_UPDATES = flags.DEFINE_integer("updates", 4, "Between two saves.", lower_bound=1)
_ROWS = flags.DEFINE_integer("rows", 4, "Of a batch.", lower_bound=1)
_LENGTH = flags.DEFINE_integer("length", 32, "Tokens of a row.", lower_bound=1)
_DIRECTORY = flags.DEFINE_string("directory", None, "Where checkpoints go for a while.")
_OUTPUT = flags.DEFINE_string("output", None, "Where to write all results as JSON.")


class Training:
  """A stage's program, its state and a batch."""

  def __init__(self, name: str, rows: int, length: int):
    import jax

    from undo_jax.distributed import sharding
    from undo_jax.running import programs
    from undo_jax.training.optimizers import OptimizerConfig

    model, mesh = PRESETS[name], sharding.make_mesh()
    optimizer = OptimizerConfig(learning_rate=1e-5, num_steps=1_000_000)
    program = programs.training(model, mesh, "cross_entropy", (), optimizer, 1)
    self._step, self._key = program.step, jax.random.key(0)
    self.state = program.create(programs.initialize(model, mesh)(self._key))
    tokens = common.draw_tokens(model.vocab_size, (rows, length + 1), 0)
    self._batch = sharding.put_batch(common.batch_of(tokens), mesh)

  def update(self) -> float:
    """Do one update to its end; return its seconds."""
    import jax

    start = time.perf_counter()
    self.state, _ = self._step(self.state, {}, self._batch, self._key)
    jax.block_until_ready(self.state)
    return time.perf_counter() - start


def measure(training: Training, directory: pathlib.Path) -> Iterator[dict[str, Any]]:
  """Save by turns in both ways; yield what each save took."""
  from undo_jax.training.checkpointing import Checkpoints

  checkpoints = Checkpoints(directory)
  training.update()  # Compilation.
  for step in range(1, _SAVES.value * len(WAYS) + 1):
    way = WAYS[step % len(WAYS)]
    with common.Stopwatch() as watch:
      start = time.perf_counter()
      checkpoints.save(step, training.state.params, {"rest": training.state.opt_state})
      if way == "waiting":
        checkpoints.finish()
      blocked = time.perf_counter() - start
      updates = [training.update() for _ in range(_UPDATES.value)]
      checkpoints.finish()
      whole = time.perf_counter() - start
    yield {
      "way": way,
      "blocked": blocked,
      # Of one that was waited for it is what blocked.
      "complete": blocked if way == "waiting" else whole,
      "updates": updates,
      "whole": whole,
      "others": watch.others,
    }
  checkpoints.close()


HEADER = (
  "way",
  "blocked, s (min..max)",
  "complete at the latest after, s",
  "an update after it, s",
  "save and updates, s",
  "others' cores",
)


def row(way: str, saves: list[dict[str, Any]]) -> list[str]:
  """Return a row of the table."""
  own = [each for each in saves if each["way"] == way]
  updates = [seconds for each in own for seconds in each["updates"]]
  return [
    way,
    common.spread([each["blocked"] for each in own]),
    common.spread([each["complete"] for each in own]),
    f"{statistics.median(updates):.2f}",
    common.spread([each["whole"] for each in own]),
    f"{max(each['others'] for each in own):.2f}",
  ]


def main(argv: list[str]) -> None:
  """Print the table of both ways."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  common.require("psutil")
  common.use_cpu()
  training = Training(_MODEL.value, _ROWS.value, _LENGTH.value)
  with tempfile.TemporaryDirectory(dir=_DIRECTORY.value) as directory:
    saves = list(measure(training, pathlib.Path(directory) / "checkpoints"))
  machine = common.describe(PACKAGES)
  print(tables.markdown(HEADER, [row(way, saves) for way in WAYS]))
  print(
    f"\n- Model: {num_params(PRESETS[_MODEL.value]) / 1e6:.1f} M parameters, saved "
    f"with both moments; {_SAVES.value} saves of each way, {_UPDATES.value} updates "
    f"after each, {_ROWS.value} x {_LENGTH.value} tokens"
  )
  print(common.machine_text(machine))
  common.write_json(_OUTPUT.value, {"machine": machine, "saves": saves})


if __name__ == "__main__":
  app.run(main)
