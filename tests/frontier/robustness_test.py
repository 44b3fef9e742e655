"""Closed-form cases of the robustness functions, in both metric directions."""

from collections.abc import Sequence
import math
from typing import Any

import numpy as np
import pytest

from undo_jax.frontier import robustness as rb

RATES = (1e-4, 1e-3, 1e-2)


def relearn_entry(
  scores_RxS: np.ndarray | list[list[float]],
  worst_rows: Sequence[int],
  rates: Sequence[float] = RATES,
) -> dict[str, Any]:
  scores_RxS = np.asarray(scores_RxS, dtype=float)
  columns = range(scores_RxS.shape[1])
  return {
    "learning_rates": list(rates),
    "steps": [10 * s for s in columns],
    "worst_forget": [
      float(scores_RxS[r, s]) for r, s in zip(worst_rows, columns, strict=True)
    ],
    "worst_learning_rate": [rates[r] for r in worst_rows],
    "forget_by_learning_rate": scores_RxS.tolist(),
  }


def curve(
  scores: Sequence[float], steps: Sequence[int] = (0, 10, 20, 50)
) -> dict[str, Any]:
  return {"steps": list(steps), "worst_forget": list(scores)}


@pytest.mark.parametrize(
  ("higher", "worst", "rows"),
  [(True, [0.5, 0.9, 0.3], [1, 0, 0]), (False, [0.1, 0.2, 0.1], [0, 1, 1])],
)
def test_worst_case_follows_the_direction(higher, worst, rows):
  scores_RxS = [[0.1, 0.9, 0.3], [0.5, 0.2, 0.1]]
  worst_S, argworst_S = rb.worst_case(scores_RxS, higher_is_worse=higher)
  np.testing.assert_array_equal(worst_S, worst)
  np.testing.assert_array_equal(argworst_S, rows)


def test_worst_case_gives_ties_to_the_first_rate():
  _, argworst_S = rb.worst_case([[0.2, 0.4], [0.2, 0.4]], higher_is_worse=True)
  np.testing.assert_array_equal(argworst_S, [0, 0])


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("diverged", [math.nan, math.inf, -math.inf])
def test_diverged_run_is_never_the_worst(higher, diverged):
  worst_S, argworst_S = rb.worst_case([[diverged], [0.3]], higher_is_worse=higher)
  assert worst_S[0] == 0.3 and argworst_S[0] == 1


def test_worst_case_refuses_steps_without_a_score_and_wrong_shapes():
  with pytest.raises(ValueError, match="diverged"):
    rb.worst_case([[0.1, math.nan], [0.2, math.nan]], higher_is_worse=True)
  for wrong in ([0.1, 0.2], np.zeros((0, 3))):
    with pytest.raises(ValueError, match="matrix"):
      rb.worst_case(wrong, higher_is_worse=True)


@pytest.mark.parametrize(("unlearned", "filtered"), [(0.93, 0.11), (2.0, 5.0)])
@pytest.mark.parametrize("share", [-0.5, 0.0, 0.25, 1.0, 1.5])
def test_robustness_is_the_share_of_the_way_to_data_filtering(
  unlearned, filtered, share
):
  model = unlearned + share * (filtered - unlearned)
  got = rb.robustness(model, unlearned_score=unlearned, filtered_score=filtered)
  assert math.isclose(got, share, abs_tol=1e-12)


def test_robustness_is_none_where_the_references_coincide():
  references = {"unlearned_score": 0.5, "filtered_score": 0.5 + 5e-10}
  assert rb.robustness(0.4, **references) is None
  references["filtered_score"] = 0.5 + 2e-9
  assert rb.robustness(0.4, **references) is not None


@pytest.mark.parametrize(
  ("budget", "score"), [(0, 0.1), (9, 0.1), (10, 0.2), (49, 0.3), (50, 0.4), (999, 0.4)]
)
def test_score_at_reads_the_last_step_within_the_budget(budget, score):
  assert rb.score_at(curve([0.1, 0.2, 0.3, 0.4]), budget) == score


def test_score_at_refuses_a_budget_before_the_first_step():
  with pytest.raises(ValueError, match="within 4 updates"):
    rb.score_at(curve([0.1, 0.2], steps=(5, 10)), 4)


@pytest.mark.parametrize(
  ("rows", "at", "steps"),
  [
    ([2, 0, 0, 1], "smallest", 2),
    ([0, 1, 1, 2], "inside", 2),
    ([0, 2, 1, 2], "largest", 2),
    ([2, 0, 1, 2], "smallest", 1),  # Equal counts go to the smaller rate.
    ([2, 2, 1, 1], "inside", 2),  # Step 0 does not count.
  ],
)
def test_edge_of_grid_locates_the_most_common_worst_rate(rows, at, steps):
  scores_RxS = np.arange(12.0).reshape(3, 4) / 100
  edge = rb.edge_of_grid(relearn_entry(scores_RxS, rows))
  assert (edge.at, edge.steps, edge.decided_steps) == (at, steps, 3)
  assert edge.by_step == tuple(RATES[row] for row in rows[1:])
  assert edge.learning_rate == RATES[["smallest", "inside", "largest"].index(at)]


def test_edge_of_grid_skips_ties():
  scores_RxS = [[0, 0, 0.1, 0.1], [0, 0, 0.1, 0.2], [0, 0, 0.0, 0.1]]
  edge = rb.edge_of_grid(relearn_entry(scores_RxS, [0, 0, 0, 1]))
  assert edge == rb.GridEdge("inside", 1e-3, 1, 1, (None, None, 1e-3))


def test_edge_of_grid_is_undecided_if_all_steps_tie():
  edge = rb.edge_of_grid(relearn_entry(np.zeros((3, 3)), [0, 0, 0]))
  assert edge == rb.GridEdge("undecided", None, 0, 0, (None, None))


def test_edge_of_grid_does_not_call_a_single_rate_bracketed():
  edge = rb.edge_of_grid(relearn_entry([[0.0, 0.1]], [0, 0], rates=[1e-3]))
  assert edge.at == "only"


def test_edge_of_grid_sorts_the_grid_and_forgives_float32():
  relearn = relearn_entry([[0.1] * 3, [0.2] * 3], [1] * 3, rates=[1e-2, 1e-4])
  relearn["worst_learning_rate"] = [float(np.float32(1e-4))] * 3
  edge = rb.edge_of_grid(relearn)
  assert (edge.at, edge.learning_rate) == ("smallest", 1e-4)


def test_edge_of_grid_refuses_a_rate_outside_the_grid():
  relearn = relearn_entry([[0.1] * 3, [0.2] * 3], [1] * 3, rates=[1e-2, 1e-4])
  relearn["worst_learning_rate"] = [1e-3] * 3
  with pytest.raises(ValueError, match="not in the grid"):
    rb.edge_of_grid(relearn)


@pytest.mark.parametrize(
  ("base", "floor", "fraction", "step"),
  [
    (0.8, 0.0, 0.5, 20),  # Reaching the threshold is enough.
    (0.82, 0.0, 0.5, 50),
    (0.8, 0.0, 0.0, 0),
    (1.0, 0.0, 0.9, None),
    (0.6, 0.2, 0.5, 20),
  ],
)
def test_slowdown_of_an_accuracy(base, floor, fraction, step):
  relearn = curve([0.0, 0.3, 0.4, 0.6])
  options = {"base_score": base, "floor": floor, "fraction": fraction}
  assert rb.slowdown(relearn, **options) == step


def test_slowdown_of_a_cross_entropy_is_reached_from_above():
  relearn = curve([7.0, 5.0, 4.0, 3.4])
  assert rb.slowdown(relearn, base_score=2.0, floor=5.0) == 50
  assert rb.slowdown(relearn, base_score=2.0, floor=5.0, fraction=0.8) is None


def test_slowdown_defaults_to_half_of_an_accuracy():
  assert rb.slowdown(curve([0.0, 0.3, 0.4, 0.6]), base_score=0.6) == 10


def test_slowdown_refuses_a_base_model_without_the_capability():
  with pytest.raises(ValueError, match="equals the floor"):
    rb.slowdown(curve([0.1] * 4), base_score=0.0)


def test_direction_is_read_from_the_metric():
  assert rb.higher_is_worse({"higher_is": "more capable"})
  assert not rb.higher_is_worse({"higher_is": "less capable"})
  with pytest.raises(ValueError, match="'better'"):
    rb.higher_is_worse({"higher_is": "better"})


def test_unlearned_reference_prefers_the_first_of_the_list():
  assert rb.unlearned_reference(["rmu", "base", "grad_diff"]) == "grad_diff"
  with pytest.raises(ValueError, match="max_ent"):
    rb.unlearned_reference(["base", "undo_alpha_0.3"])


@pytest.mark.parametrize(
  ("steps", "expected"),
  [
    ([[0, 10], [0, 10]], (10,)),
    ([[0, 10, 20], [0, 10, 20]], (20,)),
    ([[0, 20, 100, 500], [0, 20, 100, 500]], (20, 100, 500)),
    ([[0, 20, 100, 500], [0, 20, 50, 100]], (20, 100)),
    ([[0, 15, 30, 200], [0, 15, 30, 200]], (200,)),  # 20 was not evaluated.
  ],
)
def test_budgets_are_steps_that_every_model_was_evaluated_at(steps, expected):
  models = {f"model {i}": {"relearn": {"steps": s}} for i, s in enumerate(steps)}
  assert rb.budgets({"models": models}) == expected


def test_budgets_refuse_models_without_a_common_step():
  models = {"a": {"relearn": {"steps": [0, 10]}}, "b": {"relearn": {"steps": [0, 15]}}}
  with pytest.raises(ValueError, match="share no"):
    rb.budgets({"models": models})
