"""What the study computes: a part is a method, a level of oversight and a seed."""

from collections.abc import Iterator, Mapping, Sequence
import itertools
import logging
import time
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.gradient_routing.gridworld import evaluation, figures
from experiments.gradient_routing.gridworld import results as results_lib
from experiments.gradient_routing.gridworld import training as training_lib
from experiments.gradient_routing.gridworld.config import Config, Method
from experiments.gradient_routing.gridworld.results import Part, Speed, part_name
from experiments.shared import studies
from undo_jax.hardware.matmul import matmul_flops_per_second
from undo_jax.training import population
from undo_jax.utils import streams

LOGGER = logging.getLogger("undo_jax")
Scores = Mapping[str, np.ndarray]  # Scores of a population, each [R, 2].


def part_names(config: Config) -> list[str]:
  """Return the names of the parts, method by method."""
  keys = itertools.product(config.run, config.oversight, config.seeds)
  return [part_name(*key) for key in keys]


def compute(config: Config, missing: Sequence[str]) -> Iterator[tuple[str, Part]]:
  """Train the missing parts, levels and seeds of a method as populations.

  Args:
    config: of the study.
    missing: names of parts.

  Yields:
    (name, result) of each part.
  """
  for method in config.run:
    programs = make_programs(config, config.methods[method])
    pairs = [
      (level, seed)
      for level, seed in itertools.product(config.oversight, config.seeds)
      if part_name(method, level, seed) in missing
    ]

    def length(pair, method=method):
      return config.num_updates(method, pair[0])

    # Trainings of the same length are computed together.
    for updates, group in itertools.groupby(sorted(pairs, key=length), key=length):
      members = list(group)
      for start in range(0, len(members), config.replicas_at_once):
        together = members[start : start + config.replicas_at_once]
        LOGGER.info("%s: %d updates, population of %d", method, updates, len(together))
        results = train(config, method, programs, together, updates)
        for pair, result in zip(together, results, strict=True):
          yield part_name(method, *pair), result


# MARK: one population


class Evaluate(Protocol):
  """The program that scores a population."""

  def __call__(
    self, states_and_keys: tuple[training_lib.State, jax.Array], index: int
  ) -> dict[str, jax.Array]:
    """Return scores [R, 2] on two sets of environments, which the index draws."""
    ...


class Programs(NamedTuple):
  """The compiled programs of a method, over a population."""

  init: training_lib.Init
  updates: training_lib.Updates
  evaluate: Evaluate


def train(
  config: Config,
  method: str,
  programs: Programs,
  pairs: Sequence[tuple[float, int]],
  updates: int,
) -> list[Part]:
  """Train a method at pairs of (level, seed) and return the results."""
  levels, seeds = zip(*pairs, strict=True)

  def keys(name):
    return jnp.stack([streams.key(seed, name) for seed in seeds])

  states = programs.init(keys("init"), keys("data"), jnp.asarray(levels, jnp.float32))
  number = min(config.evaluation.num_evaluations, updates)
  points = [round(updates * i / number) for i in range(number + 1)]
  scored, seconds, done = [], 0.0, 0
  for index, point in enumerate(points):
    start = time.perf_counter()
    states = jax.block_until_ready(programs.updates(states, point - done))
    if index:  # The first call makes no updates; it compiles.
      seconds += time.perf_counter() - start
    done = point
    scores = jax.device_get(programs.evaluate((states, keys("eval")), index))
    scored.append(scores)
    mean = {name: f"{np.mean(score):.3f}" for name, score in scores.items()}
    LOGGER.info("  update %d: %s", point, mean)
  speed = _speed(config, method, len(pairs) * updates, seconds)
  return [_part(i, points, scored, speed) for i in range(len(pairs))]


def make_programs(config: Config, method: Method) -> Programs:
  """Return the programs of a method."""
  chosen, evaluated = config.training, config.evaluation
  # With one vector instead of thirty arrays a program compiles faster.
  optimizer = optax.flatten(optax.adam(chosen.learning_rate))

  def evaluate(state_and_key, index):
    state, key = state_and_key
    return jax.vmap(
      lambda key: evaluation.evaluate(
        evaluation.acting(state.params),
        key,
        state.oversight,
        discount=chosen.discount,
        num_environments=evaluated.num_environments,
        steps=evaluated.steps,
      )
    )(jax.random.split(jax.random.fold_in(key, index)))

  init = training_lib.make_init(
    method, config.model, optimizer, config.environments.num_environments
  )
  updates = training_lib.make_updates(
    method, chosen, optimizer, config.environments.rollout_steps
  )
  return Programs(
    jax.jit(jax.vmap(init)),
    jax.jit(population.over_replicas(updates), donate_argnums=0),
    jax.jit(population.over_replicas(evaluate)),
  )


def update_flops(config: Config, method: str) -> int:
  """Return the FLOPs of an update; see training.flops_per_update."""
  return training_lib.flops_per_update(
    config.methods[method], config.model, config.steps_per_update
  )


def _speed(config: Config, method: str, updates: int, seconds: float) -> Speed:
  """Return steps and FLOPs a second, and the share of the matrix product's peak."""
  flops = updates * update_flops(config, method)
  peak = matmul_flops_per_second(size=1024)
  speed: Speed = {
    "environment_steps_per_second": updates * config.steps_per_update / seconds,
    "flops_per_second": flops / seconds,
    "matmul_peak": peak,
    "share_of_peak": flops / seconds / peak,
  }
  LOGGER.info(
    "  %.3g environment steps a second; %.3g FLOPs a second are %.0f %% of the matrix "
    "product's peak of %.3g beside it",
    speed["environment_steps_per_second"],
    speed["flops_per_second"],
    100 * speed["share_of_peak"],
    peak,
  )
  return speed


def _part(
  index: int, points: list[int], scored: Sequence[Scores], speed: Speed
) -> Part:
  """Return one training's result in a form that JSON can hold."""
  curve = {
    name: [scores[name][index].tolist() for scores in scored] for name in scored[0]
  }
  return {"updates": points, "curve": curve, "speed": speed}


make = studies.maker(
  Config,
  part_names,
  compute,
  results_lib,
  figures,
  assembles_config=True,
  free=("run", "oversight", "replicas_at_once"),
)
