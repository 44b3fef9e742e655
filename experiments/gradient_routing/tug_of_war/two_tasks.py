"""Two tasks that one hidden layer learns, and whose new units are then ablated."""

from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp
import optax

from experiments.gradient_routing.tug_of_war.config import TwoTasks, Way
from undo_jax.routing import era, sgtm
from undo_jax.routing.activations import route
from undo_jax.routing.sources import route_parameters
from undo_jax.utils.types import Params

TASKS: tuple[str, ...] = ("forget", "retain")
# Variance of the two targets, which is the error of the best constant. The variance of
# cos 2x is (1 + e^-8) / 2 - e^-4, that of sin 2x is (1 - e^-8) / 2, and that of x is 1.
VARIANCE = {"forget": 1.4819, "retain": 1.4998}
Batch = tuple[jax.Array, jax.Array]  # See `draw_batch`.


def train(config: TwoTasks, seeds: Sequence[int], ways: Sequence[Way]) -> jax.Array:
  """Train every seed in every way, as one compiled program.

  Args:
    config: sizes and training (by Adam).
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

  def train_one(seed, way):
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

  over_ways = jax.vmap(train_one, (None, 0))
  ways_W = jax.tree.map(lambda *values: jnp.asarray(values, jnp.float32), *ways)
  return jax.jit(jax.vmap(over_ways, (0, None)))(jnp.asarray(seeds), ways_W)


def draw_batch(key: jax.Array, rows: int) -> Batch:
  """Return inputs [2, rows, 6], the flags last, and targets [2, rows] by task."""
  x = jax.random.normal(key, (2, rows, 4))
  targets = (
    jnp.cos(2 * x[0, :, 2]) - x[0, :, 3],
    jnp.sin(2 * x[1, :, 0]) + x[1, :, 1],
  )
  flags = jnp.broadcast_to(jnp.eye(2)[:, None], (2, rows, 2))
  return jnp.concatenate([x, flags], axis=-1), jnp.stack(targets)


def _init(old: int, new: int, key: jax.Array) -> Params:
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


def _error(
  params: Params, batch: Batch, task: int, mask: jax.Array | float = 1.0
) -> jax.Array:
  x, y = batch[0][task], batch[1][task]
  hidden = jnp.tanh(x @ params["in"]["kernel"] + params["in"]["bias"])
  out = route(hidden, jnp.asarray(mask)) @ params["out"]["kernel"]
  return jnp.mean((out[:, 0] + params["out"]["bias"] - y) ** 2)


def _objective(
  params: Params, expansion: era.Expansion, batch: Batch, way: Way
) -> jax.Array:
  units = era.masks_for(expansion, params, old_target=way.old_units)
  masks = era.masks_for(
    expansion, params, old_target=way.old_parameters, new_off=way.new_retain
  ).params
  forget = route_parameters(params, masks["forget"])
  forget = _error(forget, batch, 0, units.tables["hidden"][0])
  retain = _error(route_parameters(params, masks["retain"]), batch, 1)
  ablated = _error(sgtm.view(params, expansion, "retain"), batch, 1)
  return forget + jnp.where(way.sgtm > 0, ablated, retain) + way.coherence * ablated
