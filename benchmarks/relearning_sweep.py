"""The relearning attack: one program for all learning rates, against loops over them.

COMMAND, tens of minutes on 2 CPU cores:

  python -m benchmarks.relearning_sweep --rounds=5

Three ways to the same scores, at the sizes of the tiny arithmetic config's attack (five
learning rates, a batch of 32 rows, an evaluation every 10 updates):

  one_program  undo_jax's own: updates and evaluations scanned, vmapped over rates.
  loop         one rate after the other, by a compiled step that takes the rate as
               an argument and a compiled evaluation: two compilations in all.
  recompiling  the same, but the rate is a constant of the optimizer, so that each
               has its own step to compile: what a script mostly does.

Each run is a fresh process, the three by turns. The first sweep of a process is
the time with compilation, the mean of the following ones that without.
"""

import functools
import statistics
import sys
from typing import Any

from absl import app, flags

from benchmarks import common
from benchmarks.attack_setting import (
  EVALUATE_EVERY,
  EVALUATION_ROWS,
  PACKAGES,
  RATES,
  Setting,
)
from benchmarks.sizes import TINY
from undo_jax.models.config import num_params
from undo_jax.utils import tables

WAYS = ("one_program", "loop", "recompiling")

_ROUNDS = flags.DEFINE_integer("rounds", 5, "Processes of each way.", lower_bound=1)
_STEPS = flags.DEFINE_integer(
  "steps", 120, "Updates of a sweep, a multiple of 10.", lower_bound=EVALUATE_EVERY
)
_REPEATS = flags.DEFINE_integer("repeats", 1, "Sweeps timed without compilation.")
_PATIENCE = flags.DEFINE_float(
  "patience",
  0.0,
  "Seconds that each process may wait for an idle machine and be run again where "
  "others disturbed it.",
)
_OUTPUT = flags.DEFINE_string("output", None, "Where to write all results as JSON.")
_WORKER = flags.DEFINE_enum("worker", None, WAYS, "Internal: be the process of a way.")
_REPORT = flags.DEFINE_string("report", None, "Internal: where a worker answers.")


# MARK: the three ways; each returns a function that does one whole sweep


def one_program(setting: Setting) -> Any:
  """Return the sweep as the library's attack stage runs it."""
  import jax
  import numpy as np

  from undo_jax.distributed import sharding
  from undo_jax.running import programs

  rates = np.asarray(RATES, np.float32)
  attack = programs.attack(
    setting.model,
    setting.mesh,
    "arithmetic",
    setting.tasks,
    EVALUATION_ROWS,
    setting.optimizer(1.0),
    len(rates),
  )

  def sweep():
    state = attack.create(setting.params, rates, setting.key)
    batches = sharding.put_batch(setting.batches, setting.mesh, leading=2)
    state, scores = attack.program(state, (), setting.problems, batches, setting.key, 0)
    return np.asarray(jax.device_get(scores)["forget"]).T, _distances(setting, state)

  return sweep


def loop(setting: Setting) -> Any:
  """Return a loop over rates; the step takes the rate in its state."""
  import jax
  import optax

  from undo_jax.training import optimizers
  from undo_jax.training import state as state_lib

  transform = optimizers.make_population_optimizer(setting.optimizer(1.0))
  step = _jitted_step(setting, transform)

  @jax.jit
  def create(params, rate):
    state = state_lib.create(params, transform)
    opt_state = optax.tree.set(state.opt_state, learning_rate=rate)
    return state._replace(opt_state=opt_state)

  return _sweep(setting, lambda rate: (step, create(setting.params, rate)))


def recompiling(setting: Setting) -> Any:
  """Return a loop over rates; each compiles a step of its own, once."""
  import jax

  from undo_jax.training import optimizers
  from undo_jax.training import state as state_lib

  @functools.cache
  def build(rate):
    transform = optimizers.make_optimizer(setting.optimizer(rate))
    create = functools.partial(state_lib.create, optimizer=transform)
    return _jitted_step(setting, transform), jax.jit(create)

  def start(rate):
    step, create = build(rate)
    return step, create(setting.params)

  return _sweep(setting, start)


def _jitted_step(setting, transform):
  import jax

  from undo_jax import objectives
  from undo_jax.models.gemma2 import Gemma2
  from undo_jax.training.step import make_step

  objective = objectives.make("cross_entropy", Gemma2(setting.model).apply)
  return jax.jit(make_step(objective, transform), donate_argnums=0)


def _sweep(setting, start):
  """Return the loop: `start(rate)` gives the step and the state of a rate."""
  import jax
  import numpy as np

  from undo_jax.running import programs

  evaluate = programs.evaluate(
    setting.model, setting.mesh, "arithmetic", setting.tasks, EVALUATION_ROWS
  )
  num_evaluations, every = setting.batches["inputs"].shape[:2]

  def batch_at(e, s):
    return jax.tree.map(lambda x: x[e, s], setting.batches)

  batches = [[batch_at(e, s) for s in range(every)] for e in range(num_evaluations)]

  def sweep():
    scores, states = [], []
    for rate in RATES:
      step, state = start(rate)
      for between in batches:
        for batch in between:
          state, _ = step(state, (), batch, setting.key)
        scores.append(jax.device_get(evaluate(state.params, setting.problems)))
      states.append(state)
    stacked = jax.tree.map(lambda *x: np.stack(x), *[s.params for s in states])
    forget = np.reshape([s["forget"] for s in scores], (len(RATES), -1))
    return forget, _distances(setting, states[0]._replace(params=stacked))

  return sweep


def _distances(setting, population):
  """Return how far each member went from the start, in parameter space."""
  import jax
  import numpy as np

  def squares_R(x, start):
    difference = np.asarray(x) - np.asarray(start)
    return np.sum(difference**2, axis=tuple(range(1, x.ndim)))

  moved = jax.tree.map(squares_R, population.params, setting.params)
  return np.sqrt(sum(jax.tree.leaves(moved)))


# MARK: workers


def work(way: str) -> dict[str, Any]:
  """Is the process of one way: a first sweep, and more of them."""
  common.as_launched()
  setting = Setting(_STEPS.value)
  sweep = {"one_program": one_program, "loop": loop, "recompiling": recompiling}[way](
    setting
  )
  with common.Stopwatch() as first:
    forget, distances = sweep()
  with common.Stopwatch() as others:
    for _ in range(_REPEATS.value):
      sweep()
  return {
    "first": first.seconds,
    "again": others.seconds / _REPEATS.value,
    "others": max(first.others, others.others),
    "forget": forget.tolist(),
    "distances": distances.tolist(),
  }


# MARK: the comparison


def check(timed: dict[str, Any]) -> dict[str, float]:
  """Assert that the three ways did the same work; return the differences.

  Training amplifies rounding, the more the larger the learning rate: the distance
  that the weights went is compared, not the weights.
  """
  import numpy as np

  reference = timed["one_program"]
  differences = {}
  for way in WAYS[1:]:
    ratio = np.divide(timed[way]["distances"], reference["distances"])
    differences[way] = float(np.max(np.abs(ratio - 1)))
    if not differences[way] < 0.05:
      raise AssertionError(
        f"{way} went {timed[way]['distances']} from the start, "
        f"one_program {reference['distances']}"
      )
  return differences


def compare() -> list[dict[str, Any]]:
  """Run all rounds."""
  rounds = []
  for number in range(_ROUNDS.value):
    timed = {
      way: common.run_undisturbed(
        "benchmarks.relearning_sweep",
        {"steps": _STEPS.value, "repeats": _REPEATS.value, "worker": way},
        patience=_PATIENCE.value,
      )
      for way in WAYS
    }
    rounds.append(timed)
    times = ", ".join(
      f"{way} {timed[way]['first']:.1f} s, again {timed[way]['again']:.1f} s"
      for way in WAYS
    )
    others = max(timed[way]["others"] for way in WAYS)
    print(
      f"round {number + 1}: {times}; others used {others:.2f} cores; "
      f"distances differ by {check(timed)}",
      file=sys.stderr,
    )
  return rounds


def row(rounds: list[dict[str, Any]], way: str) -> list[str]:
  """Return the times of one way as a row of the table; see `HEADER`."""
  cells = [way]
  for time in ("first", "again"):
    ours = [timed["one_program"][time] for timed in rounds]
    theirs = [timed[way][time] for timed in rounds]
    cells.append(f"{statistics.median(theirs):.2f}")
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    cells.append("1" if way == "one_program" else common.spread(ratios))
  return [*cells, f"{max(timed[way]['others'] for timed in rounds):.2f}"]


HEADER = (
  "way",
  "with compilation, s",
  "times one_program's (min..max)",
  "without, s",
  "times one_program's (min..max)",
  "others' cores",
)


def main(argv: list[str]) -> None:
  """Print the table of the three ways."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  common.require("psutil")
  common.use_cpu()
  if _WORKER.value:
    common.report(_REPORT.value, work(_WORKER.value))
    return
  rounds = compare()
  machine = common.describe(PACKAGES)
  print(tables.markdown(HEADER, [row(rounds, way) for way in WAYS]))
  print(
    f"\n- Model: {num_params(TINY) / 1e6:.2f} M parameters; "
    f"{len(RATES)} learning rates, {_STEPS.value} updates each"
  )
  print(common.machine_text(machine))
  common.write_json(_OUTPUT.value, {"machine": machine, "rounds": rounds})


if __name__ == "__main__":
  app.run(main)
