"""Students of one teacher: one after another, against each batch predicted once.

COMMAND, minutes on 2 CPU cores:

  python -m benchmarks.students_together --rounds=5

A student's update is that of `benchmarks.distillation_step` (forward KL, clip, AdamW).
One after another, each student computes the teacher's predictions in its step;
together, a program of the teacher computes them once for all (`students_at_once`).
By turns in one process; told are the milliseconds of an update of one student,
compilation left out, beside what counting operations allows: 8 / (6 + 2 / K) for K.
"""

import statistics
import sys
from typing import Any

from absl import app, flags

from benchmarks import common
from benchmarks.sizes import MODELS
from undo_jax.models.config import num_params
from undo_jax.utils import tables

STUDENTS = (1, 2, 4)
SIZES = {"tiny": (128, 16), "large": (16, 128)}  # Rows and tokens of a row.
PACKAGES = "jax jaxlib flax optax numpy".split()
HEADER = (
  "parameters",
  "students",
  "one after another, ms",
  "together, ms",
  "times as fast (min..max)",
  "by operations",
)

_SIZES = flags.DEFINE_list("sizes", [*SIZES], "Some of: " + ", ".join(SIZES))
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Calls of each way.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 10, "Updates of a call.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "Where to write all results as JSON.")


class Setting:
  """A size's programs, its teacher and its batch."""

  def __init__(self, name: str):
    import jax

    from undo_jax.distributed import sharding
    from undo_jax.running import predictions, programs
    from undo_jax.training.optimizers import OptimizerConfig

    model, mesh = MODELS[name], sharding.make_mesh(devices=jax.devices()[:1])
    optimizer = OptimizerConfig(learning_rate=1e-3, num_steps=1_000_000)
    self.training = programs.training(model, mesh, "forward_kl", (), optimizer, 1)
    self.predict = predictions.of_batch(model, mesh)
    self.draw = programs.initialize(model, mesh)
    self.teacher, self.key = self.draw(jax.random.key(99)), jax.random.key(0)
    rows, length = SIZES[name]
    tokens = common.draw_tokens(model.vocab_size, (rows, length + 1), 0)
    self.batch = sharding.put_batch(common.batch_of(tokens), mesh)

  def train(self, number: int, *, together: bool) -> tuple[Any, list[Any]]:
    """Train so many students; return a stopwatch and the first one's losses."""
    import jax

    states = [self.training.create(self.draw(jax.random.key(n))) for n in range(number)]
    jax.block_until_ready(states)
    losses = []
    with common.Stopwatch() as watch:
      for _ in range(_STEPS.value):
        frozen, batch = {"teacher": self.teacher}, self.batch
        if together:
          frozen = {}
          batch = batch | self.predict(self.teacher, batch["inputs"])
        for index, state in enumerate(states):
          states[index], metrics = self.training.step(state, frozen, batch, self.key)
          if not index:
            losses.append(metrics["loss"])
      jax.block_until_ready(states)
    return watch, jax.device_get(losses)


def compare(name: str) -> list[dict[str, Any]]:
  """Return milliseconds of each round by the number of students and the way."""
  import numpy as np

  setting = Setting(name)
  for number in STUDENTS:  # Compiles, and checks that it is the same work.
    _, alone = setting.train(number, together=False)
    _, shared = setting.train(number, together=True)
    np.testing.assert_allclose(alone, shared, rtol=1e-3)
  rounds = []
  for number in range(_ROUNDS.value):
    times, others = {}, []
    for students in STUDENTS:
      for together in (False, True):
        watch, _ = setting.train(students, together=together)
        updates = students * _STEPS.value
        times[f"{students} {together}"] = 1e3 * watch.seconds / updates
        others.append(watch.others)
    rounds.append(times)
    shown = ", ".join(f"{time:.1f}" for time in times.values())
    print(
      f"{name}, round {number + 1}: {shown} ms; others used {max(others):.1f} cores",
      file=sys.stderr,
    )
  return rounds


def row(name: str, rounds: list[dict[str, Any]], students: int) -> list[str]:
  """Return a number of students as a row of the table; see `HEADER`."""
  alone, shared = ([r[f"{students} {way}"] for r in rounds] for way in (False, True))
  return [
    f"{num_params(MODELS[name]) / 1e6:.2f} M",
    str(students),
    f"{statistics.median(alone):.1f}",
    f"{statistics.median(shared):.1f}",
    common.spread([a / b for a, b in zip(alone, shared, strict=True)]),
    f"{8 / (6 + 2 / students):.2f}",
  ]


def main(argv: list[str]) -> None:
  """Print the table of the sizes."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  common.require("psutil")
  common.use_cpu()
  common.as_launched()
  results = {name: compare(name) for name in _SIZES.value}
  machine = common.describe(PACKAGES)
  rows = [row(name, results[name], k) for name in results for k in STUDENTS]
  print(tables.markdown(HEADER, rows))
  print("\n" + common.machine_text(machine))
  common.write_json(_OUTPUT.value, {"machine": machine, "rounds": results})


if __name__ == "__main__":
  app.run(main)
