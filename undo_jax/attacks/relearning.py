"""The relearning adversary: finetuning on forget data at many learning rates.

The whole grid is one population: one compiled program scans over updates and
evaluations, vmapped over learning rates.
"""

from collections.abc import Callable
from typing import Any

import jax

from undo_jax.training import population
from undo_jax.training.state import TrainState
from undo_jax.training.step import Step, scan_steps
from undo_jax.types import Params

Evaluate = Callable[[Params, Any], dict[str, jax.Array]]
Program = Callable[
  [TrainState, Any, Any, jax.Array], tuple[TrainState, dict[str, jax.Array]]
]


def make_program(step: Step, evaluate: Evaluate) -> Program:
  """Returns the attack as a pure function of a population.

  Args:
    step: the step of one member (cross-entropy on forget data).
    evaluate: `(params, problems) -> scores` of one member.

  Returns:
    `(population, problems, batches, key) -> (population, scores)`: batches have
    the leading axes [E, S] (S updates between each of E evaluations), all members
    see the same ones, and scores are [E, R] each, taken after the updates.
  """
  train = scan_steps(population.over_replicas(step))
  score = jax.vmap(evaluate, in_axes=(0, None), spmd_axis_name="replica")

  def program(state, problems, batches, key):
    def one_evaluation(state, batches_S):
      state, _ = train(state, (), batches_S, key)
      return state, score(state.params, problems)

    return jax.lax.scan(one_evaluation, state, batches)

  return program
