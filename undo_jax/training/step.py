"""The one step: every stage is this function with another objective."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from undo_jax.training.gradients import GradientFunction, loss_and_gradients
from undo_jax.training.state import TrainState
from undo_jax.utils.types import Batch, Frozen, Objective, Params

Step = Callable[
  [TrainState, Frozen, Batch, jax.Array], tuple[TrainState, dict[str, jax.Array]]
]

# The same over batches with a leading axis, of which the last argument says how many.
Steps = Callable[
  [TrainState, Frozen, Batch, jax.Array, int], tuple[TrainState, dict[str, jax.Array]]
]


def make_step(
  objective: Objective,
  optimizer: optax.GradientTransformation,
  *,
  num_microbatches: int = 1,
  gradients: GradientFunction = loss_and_gradients,
  num_steps: int | None = None,
  carried: Callable[[Any, Params], dict[str, Params]] | None = None,
) -> Step:
  """Return the pure step `(state, frozen, batch, key) -> (state, metrics)`.

  Args:
    objective: what is minimized; see types.Objective.
    optimizer: an optax chain over the state's parameters; with gradients by source,
      one that begins with routing.transforms.route_sources.
    num_microbatches: microbatches whose gradients are summed in one update.
    gradients: how they are taken; see gradients.by_source and
      gradients.sharpness_aware for other ways.
    num_steps: all updates of the stage, for an objective that reads its progress
      state.step / num_steps from the frozen tree; None: it does not.
    carried: what an objective reads of the optimizer's state, by keys of the frozen
      tree: a function of that state and the parameters; None: nothing.

  Returns:
    A function of the state, the frozen tree, a batch with leading axis B and the
    stage's PRNG key (folded with the step). Its metrics are float32 scalars:
    `loss` and the objective's own (means over the batch, before the update) and
    the global norm of the gradients (of all sources), `gradient_norm`.
  """

  def step(state, frozen, batch, key):
    if num_steps is not None:
      frozen = frozen | {"progress": state.step / num_steps}
    if carried is not None:
      frozen = frozen | carried(state.opt_state, state.params)
    loss, grads, metrics = gradients(
      objective,
      state.params,
      frozen,
      batch,
      jax.random.fold_in(key, state.step),
      num_microbatches=num_microbatches,
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    scalars = {name: metric.mean() for name, metric in metrics.items()}
    scalars |= {"loss": loss, "gradient_norm": optax.tree.norm(grads)}
    return TrainState(state.step + 1, params, opt_state), scalars

  return step


def scan_steps(step: Step) -> Step:
  """Return `step` over a leading axis of batches, as one `lax.scan`.

  `(state, frozen, batches[S, B, ...], key) -> (state, metrics[S])`.
  """

  def steps(state, frozen, batches, key):
    return jax.lax.scan(lambda s, b: step(s, frozen, b, key), state, batches)

  return steps


def repeat(step: Step) -> Steps:
  """Return `step` over the first batches of a leading axis, as one loop.

  `(state, frozen, batches[S, B, ...], key, count) -> (state, metrics[S])`, where
  metrics beyond `count` <= S are zero. It is one program for all counts, so that an
  update is the same whatever others are computed with it.
  """

  def steps(state, frozen, batches, key, count):
    def batch_at(index):
      return jax.tree.map(lambda x: x[index], batches)

    _, shapes = jax.eval_shape(step, state, frozen, batch_at(0), key)
    (most,) = {len(leaf) for leaf in jax.tree.leaves(batches)}
    metrics = {name: jnp.zeros(most, leaf.dtype) for name, leaf in shapes.items()}

    def update(index, carry):
      state, metrics = carry
      state, measured = step(state, frozen, batch_at(index), key)
      return state, {
        name: x.at[index].set(measured[name]) for name, x in metrics.items()
      }

    return jax.lax.fori_loop(0, count, update, (state, metrics))

  return steps
