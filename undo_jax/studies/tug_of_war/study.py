"""The tug of war: old and new parts that pull against each other, and its mending.

Retain data wants the sum of old and new to be one thing, forget data, which trains the
new part alone, another. Both pulls never end, and what is left after ablation is far
from what retain data wants. The coherence term, the retain loss of the ablated model,
brings them to rest. It is shown twice:

  two parameters  retain (a + b - 2)^2, forget (stop(a) + b - 1)^2,
                  coherence c (a - 2)^2; without it a + b -> 5/3 while a and b drift by
                  +-2/3 of the learning rate per update, with it they come to rest
  two tasks       one hidden layer learns cos(2 x2) - x3 (forget) and sin(2 x0) + x1
                  (retain), told apart by two flags; new hidden units are then ablated

Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, appendix and the authors'
demonstration of two parameters; the two tasks are ours.
"""

from collections.abc import Iterable, Iterator, Mapping
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from undo_jax.routing import era, sgtm
from undo_jax.routing.activations import route
from undo_jax.routing.sources import route_parameters
from undo_jax.utils import checks

TASKS: tuple[str, ...] = ("forget", "retain")
# Variance of the two targets, the error of the best constant: that of cos 2x is
# (1 + e^-8) / 2 - e^-4, of sin 2x (1 - e^-8) / 2, of x 1.
VARIANCE = {"forget": 1.4819, "retain": 1.4998}


class Way(NamedTuple):
  """How the two tasks are trained, numbers; see configs/routing_tug_of_war.py."""

  old_units: Any
  old_parameters: Any
  new_retain: Any
  coherence: Any
  sgtm: Any


def check(config: Any) -> None:
  """Raises ConfigError at the first field of the config that cannot work."""
  checks.seeds(config)
  for name in ("two_parameters.num_steps", "two_parameters.record_every"):
    checks.at_least(config, name, 1)
  checks.numbers(config, "two_parameters.coherence")
  if min(config.two_parameters.coherence) < 0:
    checks.fail(
      "two_parameters.coherence", "weights >= 0", config.two_parameters.coherence
    )
  for name in ("old_units", "new_units", "rows", "num_steps", "num_evaluation"):
    checks.at_least(config, f"two_tasks.{name}", 1)
  if not config.two_tasks.ways:
    checks.fail("two_tasks.ways", "at least one way to train", {})


def part_names(config: Any) -> list[str]:
  """Returns the names of the parts: each is a seed."""
  return [f"seed_{seed}" for seed in config.seeds]


def compute(
  config: Any, names: Iterable[str]
) -> Iterator[tuple[str, dict[str, dict[str, dict[str, float]]]]]:
  """Yields (part, {way: {"before", "after": errors by task}}), all as one program."""
  names = list(names)
  seeds = [int(name.removeprefix("seed_")) for name in names]
  ways = {name: Way(**way) for name, way in sorted(config.two_tasks.ways.items())}
  errors = np.asarray(two_tasks(config.two_tasks, seeds, list(ways.values())))
  for name, errors_Wx2x2 in zip(names, errors.tolist(), strict=True):
    yield name, {way: _named(x) for way, x in zip(ways, errors_Wx2x2, strict=True)}


def _named(errors_2x2) -> dict[str, dict[str, float]]:
  before, after = (dict(zip(TASKS, row, strict=True)) for row in errors_2x2)
  return {"before": before, "after": after}


def assemble(config: Any, parts: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the results.

  Returns:
    "seeds"; "two_parameters": {weight of coherence: {"steps", "old", "new"}};
    "two_tasks": {way: {seed: {"before", "after": mean squared errors by task}}};
    "variance" of the two tasks.
  """
  block = config.two_parameters
  trajectories = {}
  for weight in block.coherence:
    theta = np.asarray(two_parameters(weight, block.num_steps, block.learning_rate))
    kept = np.arange(block.record_every - 1, len(theta), block.record_every)
    trajectories[f"{weight:g}"] = {
      "steps": (kept + 1).tolist(),
      "old": theta[kept, 0].tolist(),
      "new": theta[kept, 1].tolist(),
    }
  tasks: dict[str, dict[str, Any]] = {way: {} for way in config.two_tasks.ways}
  for seed, part in zip(config.seeds, parts.values(), strict=True):
    for way in tasks:
      tasks[way][str(seed)] = part[way]
  return {
    "seeds": list(config.seeds),
    "variance": VARIANCE,
    "two_parameters": trajectories,
    "two_tasks": tasks,
  }


def table(results: Mapping[str, Any]) -> str:
  """Returns the errors of the two tasks as a Markdown table, a cell every seed."""
  columns = [(when, task) for when in ("before", "after") for task in TASKS]
  heads = [f"{task}, {when} ablation" for when, task in columns]
  lines = ["| way | " + " | ".join(heads) + " |", "| --- " * 5 + "|"]
  for way, by_seed in results["two_tasks"].items():
    cells = [
      " ".join(f"{found[when][task]:.3g}" for found in by_seed.values())
      for when, task in columns
    ]
    lines.append(f"| {way} | " + " | ".join(cells) + " |")
  return "\n".join(lines)


# ---- Two parameters.


def two_parameters(coherence: float, num_steps: int, learning_rate: float) -> jax.Array:
  """Returns (old, new) after each step of gradient descent from (0, 0), [S, 2]."""
  expansion = era.Expansion({"theta": era.Growth(0, 1, 1)})

  def loss(params):
    total = jnp.sum(params["theta"])
    masks = era.masks_for(expansion, params).params
    routed = jnp.sum(route_parameters(params, masks["forget"])["theta"])
    old = jnp.sum(era.ablated_view(params, expansion)["theta"])
    return (total - 2) ** 2 + (routed - 1) ** 2 + coherence * (old - 2) ** 2

  def step(params, _):
    grads = jax.grad(loss)(params)
    params = jax.tree.map(lambda p, g: p - learning_rate * g, params, grads)
    return params, params["theta"]

  start = {"theta": jnp.zeros(2)}
  return jax.lax.scan(step, start, None, length=num_steps)[1]


# ---- Two tasks.


def two_tasks(config: Any, seeds: list[int], ways: list[Way]) -> jax.Array:
  """Trains every seed in every way, as one compiled program.

  Args:
    config: old_units, new_units, rows of each task in a batch, num_steps,
      learning_rate (of Adam) and num_evaluation, rows of the evaluation.
    seeds: of the weights and of the batches.
    ways: see `Way`.

  Returns:
    Mean squared errors [seeds, ways, 2, 2]: before and after ablation, by task.
  """
  init = functools.partial(_init, config.old_units, config.new_units)
  rules = [("in/kernel", 1), ("in/bias", 0), ("out/kernel", 0)]
  expansion = era.reserve(
    jax.eval_shape(init, jax.random.key(0)),
    [(path, axis, config.new_units) for path, axis in rules],
    nodes={"hidden": era.Growth(-1, config.old_units, config.new_units)},
  )
  optimizer = optax.adam(config.learning_rate)

  def train(seed, way):
    params = init(jax.random.key(seed))

    def step(carry, key):
      params, state = carry
      batch = draw_batch(key, config.rows)
      grads = jax.grad(_objective)(params, expansion, batch, way)
      updates, state = optimizer.update(grads, state)
      return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(
      jax.random.fold_in(jax.random.key(seed), 1), config.num_steps
    )
    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), keys)
    batch = draw_batch(jax.random.key(999), config.num_evaluation)
    models = (params, era.ablate(params, expansion))
    return jnp.stack(
      [jnp.stack([_error(model, batch, task) for task in (0, 1)]) for model in models]
    )

  over_ways = jax.vmap(train, (None, 0))
  ways_WxF = Way(
    *(jnp.asarray(field, jnp.float32) for field in zip(*ways, strict=True))
  )
  return jax.jit(jax.vmap(over_ways, (0, None)))(jnp.asarray(seeds), ways_WxF)


def draw_batch(key: jax.Array, rows: int) -> tuple[jax.Array, jax.Array]:
  """Returns inputs [2, rows, 6], the flags last, and targets [2, rows] by task."""
  x = jax.random.normal(key, (2, rows, 4))
  targets = (
    jnp.cos(2 * x[0, :, 2]) - x[0, :, 3],
    jnp.sin(2 * x[1, :, 0]) + x[1, :, 1],
  )
  flags = jnp.broadcast_to(jnp.eye(2)[:, None], (2, rows, 2))
  return jnp.concatenate([x, flags], axis=-1), jnp.stack(targets)


def _init(old, new, key):
  one, two = jax.random.split(key)
  width = old + new
  return {
    "in": {
      "kernel": jax.random.normal(one, (6, width)) / 6**0.5,
      "bias": jnp.zeros(width),
    },
    "out": {
      "kernel": jax.random.normal(two, (width, 1)) / width**0.5,
      "bias": jnp.zeros(1),
    },
  }


def _error(params, batch, task, mask: Any = 1.0):
  x, y = batch[0][task], batch[1][task]
  hidden = jnp.tanh(x @ params["in"]["kernel"] + params["in"]["bias"])
  out = route(hidden, jnp.asarray(mask)) @ params["out"]["kernel"]
  return jnp.mean((out[:, 0] + params["out"]["bias"] - y) ** 2)


def _objective(params, expansion, batch, way):
  units = era.masks_for(expansion, params, old_target=way.old_units)
  masks = era.masks_for(
    expansion, params, old_target=way.old_parameters, new_off=way.new_retain
  ).params
  forget = route_parameters(params, masks["forget"])
  forget = _error(forget, batch, 0, units.tables["hidden"][0])
  retain = _error(route_parameters(params, masks["retain"]), batch, 1)
  ablated = _error(sgtm.view(params, expansion, "retain"), batch, 1)
  return forget + jnp.where(way.sgtm > 0, ablated, retain) + way.coherence * ablated
