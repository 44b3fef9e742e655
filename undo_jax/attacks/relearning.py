"""The relearning adversary: finetuning on forget data at many learning rates.

The grid is a population: one compiled program scans over updates and evaluations,
vmapped over learning rates, of all or of a group of them. Members are whole models, or
adapters over one frozen model (see lora.py).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from undo_jax.training import population
from undo_jax.training.state import TrainState
from undo_jax.training.step import Step, scan_steps
from undo_jax.utils.types import Frozen, Params, Problems

Scores = dict[str, jax.Array]
Evaluate = Callable[[Params, Problems], Scores]
Weights = Callable[[Params, Frozen], Params]
Program = Callable[[TrainState, Frozen, Any, Any, jax.Array], tuple[TrainState, Scores]]
# The same for several models at once, an element of each tuple a model.
ProgramOfModels = Callable[..., tuple[tuple[TrainState, ...], tuple[Scores, ...]]]


def make_program(
  step: Step,
  evaluate: Evaluate,
  *,
  weights: Weights = lambda params, frozen: params,
) -> Program:
  """Return the attack as a pure function of a population.

  Args:
    step: the step of one member (cross-entropy on forget data).
    evaluate: `(params, problems) -> scores` of one model.
    weights: `(params, frozen) -> params`, the model a member stands for; the
      member's own parameters unless given.

  Returns:
    `(population, frozen, problems, batches, key) -> (population, scores)`: the
    frozen tree is the step's, one for all members; batches have the leading axes
    [E, S] (S updates between each of E evaluations), all members see the same
    ones, and scores are [E, R] each, taken after the updates.
  """
  train = scan_steps(population.over_replicas(step))

  def score_one(params, frozen, problems):
    return evaluate(weights(params, frozen), problems)

  score = population.over_replicas(score_one)

  def program(state, frozen, problems, batches, key):
    def one_evaluation(state, batches_S):
      state, _ = train(state, frozen, batches_S, key)
      return state, score(state.params, frozen, problems)

    return jax.lax.scan(one_evaluation, state, batches)

  return program


def projected(step: Step, project: Callable[[Params, Frozen], Params]) -> Step:
  """Return a step that ends in a projection of what is trained; see attack.Members."""

  def projecting(state, frozen, batch, key):
    state, metrics = step(state, frozen, batch, key)
    return state._replace(params=project(state.params, frozen)), metrics

  return projecting


def over_models(program: population.Program) -> ProgramOfModels:
  """Return the attack on several models as one program; on one it is `program`.

  Args:
    program: of one model, see make_program and population.of_group.

  Returns:
    `(populations, frozen trees, problems, ...) -> (populations, scores)`: what each
    model has of its own is an element of a tuple; all see the rest, such as batches.
  """

  def together(states, frozen, *shared):
    if len(states) == 1:
      state, scores = program(states[0], frozen[0], *shared)
      return (state,), (scores,)
    each = jax.vmap(program, in_axes=(0, 0, *(None for _ in shared)))
    results = each(_stacked(states), _stacked(frozen), *shared)
    state, scores = (_parts(tree, len(states)) for tree in results)
    return state, scores

  return together


def _stacked(trees):
  """Return one tree of several, with a leading axis of them."""
  return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def _parts(tree, size: int) -> tuple[Any, ...]:
  """Return the trees along a leading axis."""
  return tuple(jax.tree.map(lambda x, i=i: x[i], tree) for i in range(size))
