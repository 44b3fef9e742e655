"""Closed-form cases of the robustness functions, in both metric directions."""

from collections.abc import Sequence
import dataclasses
import math

import numpy as np
import pytest

from tests.frontier import made_up
from tests.frontier.made_up import curve
from undo_jax.frontier import robustness as rb
from undo_jax.frontier.results import Relearning

RATES = (1e-4, 1e-3, 1e-2)


def relearned(
  scores_RxS: np.ndarray | list[list[float]], rates: Sequence[float] = RATES
) -> Relearning:
  """Return an attack that was evaluated after 0, 10, 20, ... updates."""
  scores_RxS = np.asarray(scores_RxS, dtype=float)
  steps = [10 * step for step in range(scores_RxS.shape[1])]
  return made_up.relearning(scores_RxS.tolist(), steps=steps, rates=rates)


def edge_of(scores_RxS, rates: Sequence[float] = RATES) -> rb.GridEdge:
  return rb.edge_of_grid(relearned(scores_RxS, rates), higher_is_worse=True)


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
  scores_RxS = np.where(np.arange(3)[:, None] == np.array(rows), 0.5, 0.1)
  edge = edge_of(scores_RxS)
  assert (edge.at, edge.steps, edge.decided_steps) == (at, steps, 3)
  assert edge.by_step == tuple(RATES[row] for row in rows[1:])
  assert edge.learning_rate == RATES[["smallest", "inside", "largest"].index(at)]


def test_edge_of_grid_skips_ties():
  scores_RxS = [[0, 0, 0.1, 0.1], [0, 0, 0.1, 0.2], [0, 0, 0.0, 0.1]]
  edge = edge_of(scores_RxS)
  assert edge == rb.GridEdge("inside", 1e-3, 1, 1, (None, None, 1e-3))


def test_edge_of_grid_is_undecided_if_all_steps_tie():
  edge = edge_of(np.zeros((3, 3)))
  assert edge == rb.GridEdge("undecided", None, 0, 0, (None, None))


def test_edge_of_grid_does_not_call_a_single_rate_bracketed():
  edge = edge_of([[0.0, 0.1]], rates=[1e-3])
  assert edge.at == "only"


def test_edge_of_grid_sorts_the_grid():
  edge = edge_of([[0.1] * 3, [0.2] * 3], rates=[1e-2, 1e-4])
  assert (edge.at, edge.learning_rate) == ("smallest", 1e-4)


def test_edge_of_grid_is_decided_by_the_mean_over_the_attacks_seeds():
  one, other = [[0.5, 0.6], [0.5, 0.5]], [[0.5, 0.1], [0.5, 0.5]]
  under = made_up.relearning(one, steps=(0, 10), rates=RATES, more_seeds=[other])
  edge = rb.edge_of_grid(under, higher_is_worse=True)
  assert edge.by_step == (RATES[1],)  # .50 against .35, though .60 was the most.
  assert under.worst_forget == (0.5, 0.6)


@pytest.mark.parametrize("higher", [True, False])
def test_an_attacker_may_stop_early(higher):
  scores_NxS = np.array([[0.1, 0.6, 0.2, 0.5], [0.0, 0.4, math.nan, 0.7]])
  sign = 1 if higher else -1
  worst = rb.worst_within(sign * scores_NxS, higher_is_worse=higher)
  np.testing.assert_array_equal(sign * worst.score_S, [0.1, 0.6, 0.6, 0.7])
  np.testing.assert_array_equal(worst.member_S, [0, 0, 0, 1])
  np.testing.assert_array_equal(worst.step_S, [0, 1, 1, 3])


@pytest.mark.parametrize("higher", [True, False])
def test_cross_fitting_by_brute_force(higher):
  scores_NxM = np.random.default_rng(0).normal(size=(4, 7))
  scores_NxM[1, 3] = math.nan
  pick = np.argmax if higher else np.argmin
  expected = []
  for n in range(4):
    others = np.delete(np.delete(scores_NxM, n, axis=0), 3, axis=1)
    expected.append(np.delete(scores_NxM[n], 3)[pick(others.mean(axis=0))])
  actual = rb.cross_fitted(scores_NxM, higher_is_worse=higher)
  np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_cross_fitting_has_no_winners_curse():
  """Ten equal choices: the largest mean of five is too large, the held-out is not."""
  rng = np.random.default_rng(0)
  draws = rng.normal(scale=0.05, size=(2000, 5, 10))
  largest = draws.mean(axis=1).max(axis=1)
  held_out = [np.mean(rb.cross_fitted(d, higher_is_worse=True)) for d in draws]
  error = 4 * np.std(held_out) / math.sqrt(2000)
  assert abs(np.mean(held_out)) < error
  # E max of 10 normals is 1.5388 deviations.
  np.testing.assert_allclose(largest.mean(), 1.5388 * 0.05 / math.sqrt(5), rtol=0.03)


def test_cross_fitting_needs_repetitions_and_a_choice():
  with pytest.raises(ValueError, match="one repetition alone"):
    rb.cross_fitted(np.zeros((1, 3)), higher_is_worse=True)
  with pytest.raises(ValueError, match="every choice diverged"):
    rb.cross_fitted(np.array([[math.nan, 0.1], [0.2, math.nan]]), higher_is_worse=True)


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
  under = curve([0.0, 0.3, 0.4, 0.6])
  options = {"base_score": base, "floor": floor, "fraction": fraction}
  assert rb.slowdown(under, **options) == step


def test_slowdown_of_a_cross_entropy_is_reached_from_above():
  under = curve([7.0, 5.0, 4.0, 3.4], higher_is_worse=False)
  assert rb.slowdown(under, base_score=2.0, floor=5.0) == 50
  assert rb.slowdown(under, base_score=2.0, floor=5.0, fraction=0.8) is None


def test_slowdown_defaults_to_half_of_an_accuracy():
  assert rb.slowdown(curve([0.0, 0.3, 0.4, 0.6]), base_score=0.6) == 10


def test_slowdown_refuses_a_base_model_without_the_capability():
  with pytest.raises(ValueError, match="equals the floor"):
    rb.slowdown(curve([0.1] * 4), base_score=0.0)


LONG, SHORT = (0, 20, 100, 500), (0, 20, 50, 100)


def of_steps(*steps_of_models, **changes):
  """Return results of models that were attacked for so many steps."""
  models = {
    f"model {i}": made_up.model(
      [made_up.run({n: curve([0.1] * len(s), s) for n, s in by_attack.items()})]
    )
    for i, by_attack in enumerate(steps_of_models)
  }
  return made_up.results(models, **changes)


@pytest.mark.parametrize(
  ("steps", "expected"),
  [
    ([[0, 10], [0, 10]], (10,)),
    ([[0, 10, 20], [0, 10, 20]], (20,)),
    ([LONG, LONG], (20, 100, 500)),
    ([LONG, SHORT], (20, 100)),
    ([[0, 15, 30, 200], [0, 15, 30, 200]], (200,)),  # 20 was not evaluated.
  ],
)
def test_budgets_are_steps_that_every_model_was_evaluated_at(steps, expected):
  assert rb.budgets(of_steps(*({"relearn": s} for s in steps))) == expected


def test_budgets_refuse_models_without_a_common_step():
  with pytest.raises(ValueError, match="share no"):
    rb.budgets(of_steps({"relearn": [0, 10]}, {"relearn": [0, 15]}))


def test_budgets_are_those_of_the_attacks_that_count():
  attacks = {name: made_up.adversary() for name in ("relearn", "lora")}
  both = {"relearn": (0, 20, 40), "lora": (0, 15, 100)}

  def budgets(*steps, **more):
    return rb.budgets(of_steps(*steps, attacks=attacks, report=made_up.report(**more)))

  # A step of any attack will do, and a model that was not attacked says nothing.
  assert budgets(both, both, {}) == (20, 100)
  assert budgets(both, {"relearn": (0, 20, 40)}) == (20, 40)
  assert budgets(both, both, worst_over=("lora",)) == (100,)
  assert budgets(both, both, budgets=(15, 40, 60)) == (15, 40, 100)
  assert budgets({}, {}) == ()


def test_the_worst_case_is_over_all_attacks_unless_some_are_named():
  attacks = {name: made_up.adversary() for name in ("a", "b")}
  assert rb.counted(of_steps({}, attacks=attacks)) == ("a", "b")
  named = of_steps({}, attacks=attacks, report=made_up.report(worst_over=("b",)))
  assert rb.counted(named) == ("b",)


@pytest.mark.parametrize(
  ("budget", "higher", "lower"),
  [
    (0, "slow", "fast"),
    (9, "slow", "fast"),
    (10, "fast", "slow"),
    (50, "slow", "fast"),  # The short one stands at its last step.
  ],
)
def test_the_strongest_attack_is_that_of_the_worst_score_within_the_budget(
  budget, higher, lower
):
  run = made_up.run(
    {
      "fast": curve([0.1, 0.5], (0, 10)),
      "slow": curve([0.2, 0.3, 0.6], (0, 7, 50)),
      "not counted": curve([0.0, 1.0], (0, 10)),
    }
  )
  for worse, name in ((True, higher), (False, lower)):
    got = rb.strongest(run, ("fast", "slow", "none"), budget, higher_is_worse=worse)
    assert got is run.attacks[name]


def test_of_attacks_that_are_equally_strong_the_first_is_taken():
  run = made_up.run({name: curve([0.1, 0.2], (0, 10)) for name in ("a", "b")})
  for names in (("a", "b"), ("b", "a")):
    got = rb.strongest(run, names, 10, higher_is_worse=True)
    assert got is run.attacks[names[0]]
  assert rb.strongest(run, ("c",), 10, higher_is_worse=True) is None


def test_a_diverged_rate_is_named_and_is_not_tied():
  forget = [[0.1, 0.2, None, None], [0.1, 0.3, 0.2, 0.2], [0.1, 0.1, 0.2, 0.2]]
  retain = [[0.9] * 4, [0.9, 0.9, 0.9, None], [0.9] * 4]
  under = made_up.relearning(forget, rates=RATES, retain_RxS=retain)
  assert rb.diverged(under) == [RATES[0], RATES[1]]
  edge = rb.edge_of_grid(under, higher_is_worse=True)
  assert edge.by_step == (RATES[1], None, None)
  assert under.forget_at_step == (0.1, 0.3, 0.2, 0.2)
  assert under.worst_forget == (0.1, 0.3, 0.3, 0.3)
  fine = made_up.relearning([[0.1] * 4] * 2, rates=RATES)
  assert rb.diverged(fine) == []


def test_an_edit_is_within_every_budget_and_takes_no_updates():
  plain = made_up.synthetic(made_up.SMALL, 100)
  results = made_up.with_edit(plain, {"undo_alpha_0.3": (0.1, 0.2, 0.85)})
  assert rb.budgets(results) == rb.budgets(plain) == (20, 100)
  (run,) = results.models["undo_alpha_0.3"].runs
  edit, relearn = run.attacks["pruning"], run.attacks["relearn"]
  assert edit.is_edit and not relearn.is_edit
  assert rb.score_at(edit, 20) == rb.score_at(edit, 100) == 0.85
  # After 20 updates relearning has less than that, after 100 more.
  assert rb.score_at(relearn, 20) < 0.85 < rb.score_at(relearn, 100)
  for budget, worst in ((20, edit), (100, relearn)):
    strongest = rb.strongest(run, rb.counted(results), budget, higher_is_worse=True)
    assert strongest is worst
  assert rb.slowdown(edit, base_score=0.97) == 0
  assert rb.slowdown(edit, base_score=0.97, fraction=0.9) is None


@pytest.mark.parametrize(
  ("scores", "at", "worst"),
  [
    ((0.1, 0.2, 0.3), "largest", 0.5),
    ((0.3, 0.2, 0.1), "smallest", 0.1),
    ((0.1, 0.3, 0.2), "inside", 0.3),
    ((0.3, 0.3, 0.2), "undecided", None),
  ],
)
def test_the_strengths_of_an_edit_have_an_edge_as_learning_rates_do(scores, at, worst):
  under = made_up.relearning([[s] for s in scores], steps=(0,), rates=(0.1, 0.3, 0.5))
  edge = rb.edge_of_grid(under, higher_is_worse=True)
  assert (edge.at, edge.learning_rate, edge.by_step) == (at, worst, (worst,))


def test_models_that_were_only_edited_are_compared_without_updates():
  plain = of_steps({}, attacks={})
  results = made_up.with_edit(plain, {"model 0": (0.1, 0.2, 0.3)})
  assert rb.budgets(results) == (0,)
  more = of_steps({"relearn": (0, 20)}, {})
  more = made_up.with_edit(more, {"model 1": (0.1, 0.2, 0.3)})
  assert rb.budgets(more) == (20,)


def test_who_has_the_base_counts_only_where_named_or_alone():
  plain = made_up.synthetic(made_up.SMALL, 20)
  scores = {"max_ent": (0.5, 0.7, 0.9)}
  results = made_up.with_edit(plain, scores, label="to the base", has_base=True)
  assert rb.counted(results) == ("relearn",)
  both = made_up.with_edit(results, scores)
  assert rb.counted(both) == ("relearn", "pruning")
  named = made_up.report(worst_over=("to the base",))
  assert rb.counted(dataclasses.replace(both, report=named)) == ("to the base",)
  alone = {"to the base": results.attacks["to the base"]}
  assert rb.counted(dataclasses.replace(results, attacks=alone)) == ("to the base",)


def test_diagnostics_count_nowhere_even_alone():
  plain = made_up.synthetic(made_up.SMALL, 20)
  scores = {"max_ent": (0.5, 0.7, 0.9)}
  results = made_up.with_edit(plain, scores, label="lens", is_reading=True)
  assert rb.counted(results) == ("relearn",)
  assert rb.budgets(results) == rb.budgets(plain)
  alone = dataclasses.replace(results, attacks={"lens": results.attacks["lens"]})
  assert rb.counted(alone) == ()
  both = made_up.with_edit(alone, scores, label="to the base", has_base=True)
  assert rb.counted(both) == ("to the base",)


def test_an_edit_of_one_seed_is_the_same_under_every_seed_of_others():
  first, *more = np.random.default_rng(0).random((3, 2, 4)).tolist()
  relearn = made_up.relearning(first, more_seeds=more)
  edit = made_up.relearning([[0.1], [0.2]], steps=(0,))
  noise = made_up.relearning([[0.1]], steps=(0,), more_seeds=[[[0.2]]])
  one, other = rb.aligned([relearn, edit])
  np.testing.assert_array_equal(one, [first, *more])
  np.testing.assert_array_equal(other, [[[0.1], [0.2]]] * 3)
  assert [len(x) for x in rb.aligned([relearn, edit, noise])] == [2, 2, 2]
  assert [len(x) for x in rb.aligned([edit])] == [1]
