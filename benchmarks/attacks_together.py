"""The same attack on several models: as one program, against one model after another.

COMMAND, minutes on 2 CPU cores:

  python -m benchmarks.attacks_together --rounds=5

At the sizes of the tiny arithmetic config's attack (five learning rates, a batch of 32
rows of 16 tokens, an evaluation every 10 updates) the program of 1, 2 and 4 models
(`models_at_once`), by turns in one process. Told are the milliseconds of an update of
one member, its share of the evaluations with it, compilation left out.
"""

import statistics
import sys
from typing import Any

from absl import app, flags

from benchmarks import common
from benchmarks.attack_setting import (
  BATCH_SIZE,
  EVALUATE_EVERY,
  EVALUATION_ROWS,
  LENGTH,
  PACKAGES,
  RATES,
  Setting,
)
from benchmarks.sizes import TINY
from undo_jax.models.config import num_params
from undo_jax.utils import tables

MODELS = (1, 2, 4)
HEADER = (
  "models at once",
  "ms a member's update, least",
  "median",
  "gain, of the least",
)

_ROUNDS = flags.DEFINE_integer("rounds", 5, "Calls of each program.", lower_bound=1)
_STEPS = flags.DEFINE_integer(
  "steps", 20, "Updates of a call, a multiple of 10.", lower_bound=EVALUATE_EVERY
)
_OUTPUT = flags.DEFINE_string("output", None, "Where to write all results as JSON.")


def caller(setting: Setting, num_models: int) -> Any:
  """Return a function that attacks so many models: (seconds, first one's weights)."""
  import jax
  import numpy as np

  from undo_jax.distributed import sharding
  from undo_jax.running import programs

  attack = programs.attack(
    setting.model,
    setting.mesh,
    "arithmetic",
    setting.tasks,
    EVALUATION_ROWS,
    setting.optimizer(1.0),
    len(RATES),
    num_models=num_models,
  )
  draw = programs.initialize(setting.model, setting.mesh)
  models = [draw(jax.random.key(number)) for number in range(num_models)]
  batches = sharding.put_batch(setting.batches, setting.mesh, leading=2)
  rates, frozen = np.asarray(RATES, np.float32), ((),) * num_models

  def call():
    states = tuple(attack.create(params, rates, setting.key) for params in models)
    jax.block_until_ready(states)
    with common.Stopwatch() as watch:
      states, _ = attack.program(
        states, frozen, setting.problems, batches, setting.key, 0
      )
      jax.block_until_ready(states)
    return watch, jax.device_get(states[0].params)

  return call


def compare() -> list[dict[int, float]]:
  """Return the milliseconds of each round by the number of models."""
  import jax
  import numpy as np

  common.as_launched()
  setting = Setting(_STEPS.value)
  callers = {size: caller(setting, size) for size in MODELS}
  weights = {size: call()[1] for size, call in callers.items()}  # Compiles.
  for size in MODELS[1:]:  # Of the first model, which all have: it is the same work.
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4),
      weights[size],
      weights[1],
    )
  rounds = []
  for number in range(_ROUNDS.value):
    watches = {size: call()[0] for size, call in callers.items()}
    updates = len(RATES) * _STEPS.value
    rounds.append(
      {size: 1e3 * watch.seconds / updates / size for size, watch in watches.items()}
    )
    times = ", ".join(f"{time:.2f} ms" for time in rounds[-1].values())
    others = max(watch.others for watch in watches.values())
    print(
      f"round {number + 1}: {times}; others used {others:.1f} cores", file=sys.stderr
    )
  return rounds


def row(rounds: list[dict[int, float]], size: int) -> list[str]:
  """Return the times of one size as a row of the table; see `HEADER`."""
  times = [each[size] for each in rounds]
  gain = min(each[1] for each in rounds) / min(times)
  return [
    str(size),
    f"{min(times):.2f}",
    f"{statistics.median(times):.2f}",
    f"{gain:.2f}",
  ]


def main(argv: list[str]) -> None:
  """Print the table of the sizes."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  common.require("psutil")
  common.use_cpu()
  rounds = compare()
  machine = common.describe(PACKAGES)
  print(tables.markdown(HEADER, [row(rounds, size) for size in MODELS]))
  print(
    f"\n- Model: {num_params(TINY) / 1e6:.2f} M parameters; {len(RATES)} learning "
    f"rates, {BATCH_SIZE} x {LENGTH} tokens, {_STEPS.value} updates a call"
  )
  print(common.machine_text(machine))
  common.write_json(_OUTPUT.value, {"machine": machine, "rounds": rounds})


if __name__ == "__main__":
  app.run(main)
