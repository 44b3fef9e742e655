"""Which member of a family a model is compared with, and by how much it wins."""

import dataclasses

import pytest

from tests.frontier import made_up
from tests.frontier.made_up import curve, run
from undo_jax.frontier import rivals

STEPS = (0, 10, 20)
COST = 10**6


def model(compute, *worst_by_seed, **more):
  return made_up.model(
    [
      run({"relearn": curve(worst_S, STEPS)}, seed=seed, flops=round(compute * COST))
      for seed, worst_S in enumerate(worst_by_seed)
    ],
    **more,
  )


def results(higher_is="more capable", rival="undo", **changes):
  models = {
    "base": model(0.0, (1.0, 1.0, 1.0)),
    "data_filtering": model(1.0, (0.0, 0.0, 0.0)),
    "given": model(0.0, (1.0, 1.0, 1.0)),
    "undo_0.3": model(0.50, (0.0, 0.2, 0.4), family="undo"),
    "undo_0.5": model(0.51, (0.0, 0.3, 0.3), family="undo"),
    "undo_0.7": model(1.00, (0.0, 0.1, 0.1), family="undo"),
    "routed": model(0.96, (0.0, 0.2, 0.2)),
    "sgtm": model(0.4, (0.0, 0.2, 0.2)),
    "routed_undo_0.3": model(0.50, (0.0, 0.25, 0.2), family="routed_undo"),
  }
  return made_up.results(
    models | changes,
    metrics=dict.fromkeys(("retain", "forget"), made_up.metric(higher_is)),
    report=made_up.report(rival=rival),
  )


def test_the_rival_is_the_best_that_costs_no_more():
  made = results()
  names = rivals.challengers(made)
  assert names == ["routed", "sgtm", "routed_undo_0.3"]
  rival = {(n, b): rivals.rival(made, n, b) for n in names for b in (10, 20)}
  assert rival == {
    ("routed", 10): "undo_0.7",  # 1.00 is within a twentieth of 0.96.
    ("routed", 20): "undo_0.7",
    ("sgtm", 10): None,
    ("sgtm", 20): None,
    ("routed_undo_0.3", 10): "undo_0.3",
    ("routed_undo_0.3", 20): "undo_0.5",
  }
  falling = results("less capable")  # A high score is the robust one.
  assert rivals.rival(falling, "routed", 20) == "undo_0.3"


def test_a_rival_may_be_a_single_model_or_none():
  single = results(rival="sgtm")
  assert rivals.family(single) == ["sgtm"]
  assert rivals.challengers(single) == [
    "undo_0.3",
    "undo_0.5",
    "undo_0.7",
    "routed",
    "routed_undo_0.3",
  ]
  assert {rivals.rival(single, n, 20) for n in rivals.challengers(single)} == {"sgtm"}
  for rival in (None, "absent"):
    assert rivals.challengers(results(rival=rival)) == []


def test_margins_are_those_of_each_seed():
  names = ("routed", "undo_0.7", 20)
  changes = {
    "routed": model(1.0, (0.0, 0.2, 0.2), (0.0, 0.1, 0.6)),
    "undo_0.7": model(1.0, (0.0, 0.1, 0.3), (0.0, 0.3, 0.4), family="undo"),
  }
  made = results(**changes)
  assert rivals.margins(made, *names) == pytest.approx([0.1, -0.2])
  assert rivals.margins(made, *names[:2], 10) == pytest.approx([-0.1, 0.2])
  falling = results("less capable", **changes)
  assert rivals.margins(falling, *names) == pytest.approx([-0.1, 0.2])
  assert rivals.margins(results(), *names) == pytest.approx([-0.1])


def test_a_rival_was_attacked():
  made = results()
  alone = made_up.changed_run(made, "undo_0.7", attacks={})
  assert rivals.rival(alone, "routed", 20) == "undo_0.5"
  assert rivals.margins(alone, "routed", "undo_0.7", 20) == []


def test_the_worst_case_is_over_the_attacks_that_count():
  made = results()
  (one,) = made.models["undo_0.7"].runs
  both = {**one.attacks, "lora": curve((0.0, 0.9, 0.9), STEPS)}
  made = made_up.changed_run(made, "undo_0.7", attacks=both)
  attacks = {name: made_up.adversary() for name in both}
  made = dataclasses.replace(made, attacks=attacks)
  assert rivals.rival(made, "routed", 20) == "undo_0.5"
  named = made_up.report(rival="undo", worst_over=("relearn",))
  assert rivals.rival(dataclasses.replace(made, report=named), "routed", 20) == (
    "undo_0.7"
  )
