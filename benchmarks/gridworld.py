"""The gridworld's steps a second, and its training's share of the matmul peak.

COMMAND, a minute or two on 2 CPU cores:

  python -m benchmarks.gridworld --rounds=5

  environment   4,096 environments, random moves: random words, step, next episodes.
  observed      the same, and every observation [E, 100] written to memory.
  training      updates of `routing` at a size of configs/gradient_routing/gridworld.py:
                acting, returns, labels, gradients, Adam; one seed, or a population.

The peak is the best float32 product of two 1024 x 1024 matrices of the same round, so
that what else runs on the machine slows both. The goal is 3 M steps a second for the
environment alone on 2 cores.
"""

import time
from typing import Any

from absl import app, flags

from benchmarks import common
from configs.gradient_routing import gridworld as config_file
from undo_jax.utils import tables

PACKAGES = "jax jaxlib optax numpy".split()
ENVIRONMENTS, STEPS = 4096, 200
# Sizes of the config, members of the population, updates in a round.
TRAININGS = {
  "small": ("small", 1, 20),
  "small x 12": ("small", 12, 2),
  "paper": ("paper", 1, 1),
}

_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds of each way.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "Where to write all results as JSON.")


def environment_alone(observed: bool) -> Any:
  """Return a function that takes STEPS steps in all environments."""
  import jax
  import jax.numpy as jnp

  from experiments.gradient_routing.gridworld import environment, scripted

  def body(carry, key):
    world, total = carry
    words = jax.random.bits(key, (environment.RESET_WORDS + 1, ENVIRONMENTS))
    action = scripted.random(world, jnp.zeros(()), words[-1])
    world, outcome = environment.step(words[:-1], world, action, 0.1)
    total += jnp.sum(environment.true_reward(outcome))
    if observed:  # The barrier keeps the sum from being computed without them.
      observation = jax.lax.optimization_barrier(environment.observe(world))
      total += jnp.sum(observation)
    return (world, total), None

  @jax.jit
  def run(world, key):
    keys = jax.random.split(key, STEPS)
    return jax.lax.scan(body, (world, jnp.float32(0.0)), keys)[0]

  key = jax.random.key(0)
  words = jax.random.bits(key, (environment.RESET_WORDS, ENVIRONMENTS))
  world = environment.reset(words, 0.1)
  return lambda: jax.block_until_ready(run(world, key))


def training(size: str, members: int, updates: int) -> tuple[Any, int, int]:
  """Return a function that trains, its environment steps and its FLOPs."""
  import jax
  import jax.numpy as jnp

  from experiments.gradient_routing.gridworld import study
  from experiments.gradient_routing.gridworld.config import Config
  from experiments.shared import typed

  config = typed.read(Config, config_file.get_config(size))
  programs = study.make_programs(config, config.methods["routing"])
  keys = jnp.stack([jax.random.key(seed) for seed in range(members)])
  holder = [programs.init(keys, keys, jnp.full(members, 0.1))]

  def run():
    holder[0] = jax.block_until_ready(programs.updates(holder[0], updates))

  steps = members * updates * config.steps_per_update
  return run, steps, members * updates * study.update_flops(config, "routing")


def measure() -> dict[str, list[dict[str, float]]]:
  """Return seconds, steps, FLOPs and the peak beside them of every round."""
  from undo_jax.hardware.matmul import matmul_flops_per_second

  steps = ENVIRONMENTS * STEPS
  ways = {
    "environment": (environment_alone(observed=False), steps, 0),
    "observed": (environment_alone(observed=True), steps, 0),
    **{f"training, {name}": training(*sizes) for name, sizes in TRAININGS.items()},
  }
  for run, _, _ in ways.values():
    for _ in range(2):  # Compilation, and the allocator's growth.
      run()
  rounds = {name: [] for name in ways}
  for _ in range(_ROUNDS.value):
    for name, (run, steps, flops) in ways.items():
      start = time.perf_counter()
      run()
      seconds = time.perf_counter() - start
      round_ = {"seconds": seconds, "steps": steps, "flops": flops}
      rounds[name].append(round_ | {"peak": matmul_flops_per_second(size=1024)})
  return rounds


def rows(measured: dict[str, list[dict[str, float]]]) -> list[list[str]]:
  """Return the rows of the table."""
  table = []
  for name, rounds in measured.items():
    speeds = [r["steps"] / r["seconds"] / 1e6 for r in rounds]
    shares = [100 * r["flops"] / r["seconds"] / r["peak"] for r in rounds]
    share = common.spread(shares, 0) if any(shares) else "-"
    table.append([name, common.spread(speeds), share])
  peaks = [r["peak"] / 1e9 for rounds in measured.values() for r in rounds]
  table.append(["(peak, GFLOP/s)", "-", common.spread(peaks, 0)])
  return table


HEADER = ("way", "M steps a second (min..max)", "% of the matmul peak (min..max)")


def main(argv: list[str]) -> None:
  """Print the table."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  common.require("psutil")
  common.use_cpu()
  common.as_launched()
  with common.Stopwatch() as watch:
    measured = measure()
  machine = common.describe(PACKAGES)
  print(tables.markdown(HEADER, rows(measured)))
  print(f"\n- Cores that others used meanwhile: {watch.others:.2f}")
  print(common.machine_text(machine))
  common.write_json(
    _OUTPUT.value, {"machine": machine, "others": watch.others, "rounds": measured}
  )


if __name__ == "__main__":
  app.run(main)
