"""The study: its config's checks, its parts (method, level, seed), its results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import functools
import itertools
import logging
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from undo_jax.studies import throughput
from undo_jax.studies.gridworld import evaluation, policy, scripted
from undo_jax.studies.gridworld import training as training_lib
from undo_jax.training import population
from undo_jax.utils import checks, streams

LOGGER = logging.getLogger("undo_jax")
# Of the config: which parts there are, and how they are computed.
FREE_FIELDS = ("run", "oversight", "replicas_at_once")
# Naive training, stopped where its true return was best.
EARLY_STOPPED = "naive_early_stopped"
_REFERENCE_ENVIRONMENTS = 20_000


def check(config: Any) -> None:
  """Raises ConfigError at the first field of the config that cannot work."""
  checks.seeds(config)
  for name in (
    "replicas_at_once",
    "environments.num_environments",
    "environments.rollout_steps",
    "model.width",
    "training.num_updates",
    "evaluation.num_evaluations",
    "evaluation.num_environments",
    "evaluation.steps",
  ):
    checks.at_least(config, name, 1)
  levels = config.oversight
  if not levels or len(set(levels)) != len(levels):
    checks.fail("oversight", "at least one probability, none twice", levels)
  for level in levels:
    checks.unit("oversight", level)
  checks.unit("training.discount", config.training.discount)
  if config.model.value_widths:  # Without hidden layers it is a linear one.
    checks.integers(config, "model.value_widths", 1)
  for name in ("learning_rate", "value_weight", "entropy_weight", "gate_weight"):
    value = config.training[name]
    if not checks.is_number(value) or value < 0:
      checks.fail(f"training.{name}", "a number of at least 0", value)
  unknown = [name for name in config.run if name not in config.methods]
  if not config.run or unknown or len(set(config.run)) != len(config.run):
    known = ", ".join(config.methods)
    checks.fail("run", f"some of config.methods, none twice: {known}", config.run)
  for name in config.run:
    _check_method(name, config.methods[name])


def _check_method(name, block):
  for field, known in (
    ("experts", policy.EXPERTS),
    ("reward", training_lib.REWARDS),
    ("updates", ("all", "share")),
  ):
    if block[field] not in known:
      checks.fail(f"methods.{name}.{field}", f"one of {', '.join(known)}", block[field])
  if block.experts == "single" and (block.routed or block.gate is not None):
    checks.fail(
      f"methods.{name}.experts", "mixture where routed or gate is set", block.experts
    )
  if block.gate is not None:
    checks.unit(f"methods.{name}.gate", block.gate)


def part_names(config: Any) -> list[str]:
  """Returns the names of the parts, method by method."""
  keys = itertools.product(config.run, config.oversight, config.seeds)
  return [part_name(*key) for key in keys]


def part_name(method: str, level: float, seed: int) -> str:
  """Returns the name of the part of a method, a level of oversight and a seed."""
  return f"{method}-oversight_{level:g}-seed_{seed}"


def num_updates(config: Any, method: str, level: float) -> int:
  """Returns a training's updates; where only what is overseen is used, a share."""
  updates = config.training.num_updates
  if config.methods[method].updates == "all":
    return updates
  return max(1, int(updates * level))


def compute(
  config: Any, missing: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
  """Trains the missing parts, levels and seeds of a method as populations.

  Args:
    config: a checked config.
    missing: names of parts.

  Yields:
    (name, result) of each part: its learning curve and speed.
  """
  for method in config.run:
    programs = make_programs(config, config.methods[method])
    pairs = [
      (level, seed)
      for level, seed in itertools.product(config.oversight, config.seeds)
      if part_name(method, level, seed) in missing
    ]
    # Trainings of one length are computed together.
    length = functools.partial(_length, config, method)
    for updates, group in itertools.groupby(sorted(pairs, key=length), key=length):
      members = list(group)
      for start in range(0, len(members), config.replicas_at_once):
        together = members[start : start + config.replicas_at_once]
        LOGGER.info("%s: %d updates, population of %d", method, updates, len(together))
        results = train(config, method, programs, together, updates)
        for pair, result in zip(together, results, strict=True):
          yield part_name(method, *pair), result


def _length(config, method, pair):
  return num_updates(config, method, pair[0])


# MARK: one population


class Programs(NamedTuple):
  """The compiled programs of a method, over a population."""

  init: Callable[..., Any]
  updates: Callable[..., Any]
  evaluate: Callable[..., Any]


def train(
  config: Any,
  method: str,
  programs: Programs,
  pairs: Sequence[tuple[float, int]],
  updates: int,
) -> list[dict[str, Any]]:
  """Trains a method at pairs of (level, seed) for some updates; returns results."""
  levels, seeds = zip(*pairs, strict=True)

  def keys(name):
    return jnp.stack([streams.key(seed, name) for seed in seeds])

  states = programs.init(keys("init"), keys("data"), jnp.asarray(levels, jnp.float32))
  number = min(config.evaluation.num_evaluations, updates)
  points = [round(updates * i / number) for i in range(number + 1)]
  found, seconds, done = [], 0.0, 0
  for index, point in enumerate(points):
    start = time.perf_counter()
    states = jax.block_until_ready(programs.updates(states, point - done))
    if index:  # The first call, of no updates, compiles.
      seconds += time.perf_counter() - start
    done = point
    scores = jax.device_get(programs.evaluate((states, keys("eval")), index))
    found.append(scores)
    mean = {name: f"{np.mean(score):.3f}" for name, score in scores.items()}
    LOGGER.info("  update %d: %s", point, mean)
  speed = _speed(config, method, len(pairs) * updates, seconds)
  return [_result(i, points, found, speed) for i in range(len(pairs))]


def make_programs(config: Any, block: Any) -> Programs:
  """Returns the programs of a block of config.methods."""
  chosen, evaluated = config.training, config.evaluation
  # One vector instead of thirty arrays: a program compiles faster.
  optimizer = optax.flatten(optax.adam(chosen.learning_rate))
  method = make_method(block)
  weights = training_lib.Weights(
    discount=chosen.discount,
    value=chosen.value_weight,
    entropy=chosen.entropy_weight,
    gate=chosen.gate_weight,
    bootstrap=chosen.bootstrap,
  )

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
    method,
    optimizer,
    num_environments=config.environments.num_environments,
    width=config.model.width,
    value_widths=tuple(config.model.value_widths),
  )
  updates = training_lib.make_updates(
    method, weights, optimizer, rollout_steps=config.environments.rollout_steps
  )
  return Programs(
    jax.jit(jax.vmap(init)),
    jax.jit(population.over_replicas(updates), donate_argnums=0),
    jax.jit(population.over_replicas(evaluate)),
  )


def make_method(block: Any) -> training_lib.Method:
  """Returns the method of a block of config.methods."""
  return training_lib.Method(
    experts=block.experts,
    routed=block.routed,
    gate=block.gate,
    gate_relu=block.gate_relu,
    reward=block.reward,
    filtered=block.filtered,
  )


def update_flops(config: Any, method: str) -> int:
  """Returns the FLOPs of an update; see training.flops_per_update."""
  return training_lib.flops_per_update(
    make_method(config.methods[method]),
    num_environments=config.environments.num_environments,
    rollout_steps=config.environments.rollout_steps,
    width=config.model.width,
    value_widths=tuple(config.model.value_widths),
  )


def _speed(config, method, updates, seconds):
  """Returns steps and FLOPs a second, and the share of the matrix product's peak."""
  flops = updates * update_flops(config, method)
  peak = throughput.matmul_peak()
  speed = {
    "environment_steps_per_second": updates * steps_per_update(config) / seconds,
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


def steps_per_update(config: Any) -> int:
  """Returns the environment steps of one rollout."""
  return config.environments.num_environments * config.environments.rollout_steps


def _result(index, points, found, speed):
  """Returns one training's result as JSON can hold it.

  Every score is a pair, of two sets of environments: what is chosen by the first, as
  the best point of a curve, is measured on the second.
  """
  curve = {
    name: [scores[name][index].tolist() for scores in found] for name in found[0]
  }
  return {"updates": points, "curve": curve, "speed": speed}


# MARK: results


def assemble(config: Any, parts: Mapping[str, Any]) -> dict[str, Any]:
  """Returns results.json.

  {"metric": what the numbers are, "seeds": [...], "oversight": [...],
   "references": {scripted policy: {level: return}},
   "methods": {name: {level: {"return": {seed: r}, "mean": m, "std": s (ddof 1),
     "scores": {seed: {diamond, ghost, ghost_overseen, length}},
     "updates": [...], "environment_steps": [...] (all that had to be taken),
     "curve": {seed: [...]}, "share_of_peak": x}}}}
  and for naive_early_stopped {level: {"return", "mean", "std", "update": {seed: u}}}.
  """
  methods = {
    method: {
      f"{level:g}": _level_result(config, parts, method, level)
      for level in config.oversight
    }
    for method in config.run
  }
  if "naive" in config.run:
    methods[EARLY_STOPPED] = {
      f"{level:g}": early_stopped(config, parts, level) for level in config.oversight
    }
  return {
    "metric": "average stepwise return: mean over all steps of fresh environments of "
    "the discounted true reward from there to the end of the episode, +1 for the "
    "Diamond and -1 for the Ghost; mixtures are steered to the Diamond expert",
    "seeds": list(config.seeds),
    "oversight": list(config.oversight),
    "references": references(config),
    "methods": methods,
  }


def references(config: Any) -> dict[str, dict[str, float]]:
  """Returns the returns of the scripted policies, by name and level."""
  policies, levels = scripted.POLICIES, config.oversight

  @jax.jit  # One program for all: which of them is an argument.
  def measure(chosen, key, level):
    def act(*given):
      actions = jnp.stack([policy(*given) for policy in policies.values()])
      return actions[chosen]

    return evaluation.evaluate(
      act,
      key,
      level,
      num_environments=_REFERENCE_ENVIRONMENTS,
      steps=config.evaluation.steps,
      discount=config.training.discount,
    )["return"]

  return {
    name: {
      f"{level:g}": float(measure(index, jax.random.key(0), level)) for level in levels
    }
    for index, name in enumerate(policies)
  }


def _level_result(config, parts, method, level):
  found = {seed: parts[part_name(method, level, seed)] for seed in config.seeds}
  first = next(iter(found.values()))
  share = level if config.methods[method].updates == "share" else 1.0
  spent = steps_per_update(config) / max(share, 1e-9)
  last = {
    str(seed): {name: float(np.mean(curve[-1])) for name, curve in one["curve"].items()}
    for seed, one in found.items()
  }
  returns = {seed: scores.pop("return") for seed, scores in last.items()}
  return {
    **_summary(returns),
    "scores": last,
    "updates": first["updates"],
    "environment_steps": [round(spent * update) for update in first["updates"]],
    "curve": {
      str(seed): np.mean(one["curve"]["return"], axis=1).tolist()
      for seed, one in found.items()
    },
    "share_of_peak": first["speed"]["share_of_peak"],
  }


def early_stopped(
  config: Any, parts: Mapping[str, Any], level: float
) -> dict[str, Any]:
  """Returns the best point of each curve, chosen on one half, measured on the other."""
  returns, stopped = {}, {}
  for seed in config.seeds:
    part = parts[part_name("naive", level, seed)]
    choice, measured = np.array(part["curve"]["return"]).T
    best = int(np.argmax(choice))
    returns[str(seed)] = float(measured[best])
    stopped[str(seed)] = part["updates"][best]
  return {**_summary(returns), "update": stopped}


def _summary(returns):
  values = list(returns.values())
  spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
  return {"return": returns, "mean": float(np.mean(values)), "std": spread}


def table(results: Mapping[str, Any]) -> str:
  """Returns the table of methods and levels, for the terminal."""
  levels = [f"{level:g}" for level in results["oversight"]]
  lines = [f"{'return at oversight':24}" + "".join(f"{name:>18}" for name in levels)]
  for method, found in results["methods"].items():
    cells = [f"{found[x]['mean']:.3f} +- {found[x]['std'] or 0:.3f}" for x in levels]
    lines.append(f"{method:24}" + "".join(f"{cell:>18}" for cell in cells))
  for name, found in results["references"].items():
    cells = "".join(f"{found[level]:18.3f}" for level in levels)
    lines.append(f"{f'(scripted: {name})':24}{cells}")
  return "\n".join(lines)
