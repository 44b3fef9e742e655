"""Scores of a policy: the mean return over all steps, and how episodes end."""

import jax
import numpy as np
import pytest

from experiments.gradient_routing.gridworld import environment as env
from experiments.gradient_routing.gridworld import evaluation, scripted

SIZES = {"num_environments": 4000, "steps": 32, "discount": 0.97}


@pytest.mark.parametrize(
  # What the returns would be over many starts, by a simulation in plain Python.
  "name, expected",
  [("optimal", 0.909), ("blind", 0.777), ("unseen", 0.120)],
)
def test_scripted_returns(name, expected):
  fn = jax.jit(
    lambda key: evaluation.evaluate(scripted.POLICIES[name], key, 0.1, **SIZES)
  )
  scores = jax.device_get(fn(jax.random.key(0)))
  assert abs(scores["return"] - expected) < 0.02
  assert abs(scores["diamond"] + scores["ghost"] - 1) < 1e-6
  if name == "optimal":
    assert scores["ghost"] == 0
  if name == "unseen":
    assert scores["ghost_overseen"] < 0.001 < 0.3 < scores["ghost"]
  # The mean distance of two cells of the grid is 10/3 (1.6 * 25/24 each way).
  if name == "blind":
    assert scores["length"] < 10 / 3


def test_scores_are_counted_over_the_steps_of_the_rollout(monkeypatch):
  done = np.array([[0, 1], [1, 0], [0, 0], [1, 0]], bool)
  reached = np.array([[0, 2], [1, 0], [0, 0], [0, 0]])
  outcome = env.Outcome(done, reached, np.array([[0, 1], [0, 0], [0, 0], [0, 0]], bool))
  steps = evaluation.training.Steps(
    None, None, jax.tree.map(jax.numpy.asarray, outcome)
  )
  monkeypatch.setattr(evaluation.training, "rollout", lambda *_: (None, steps))
  scores = evaluation.evaluate(
    None, jax.random.key(0), 0.5, num_environments=2, steps=4, discount=0.5
  )
  actual = {name: float(score) for name, score in scores.items()}
  # Returns: 0.5, 1, 0, 0 and -1, 0, 0, 0. Ends after 2, 2 and 1 steps.
  assert actual == pytest.approx(
    {
      "return": 0.5 / 8,
      "diamond": 1 / 3,
      "ghost": 1 / 3,
      "ghost_overseen": 1 / 3,
      "length": 5 / 3,
    }
  )
