"""Which UNDO model a routed one is compared with, and by how much it wins."""

import pytest

from undo_jax.frontier import rivals

STEPS = [0, 10, 20]


def model(compute, *worst_by_seed, **more):
  mean = [
    sum(column) / len(worst_by_seed) for column in zip(*worst_by_seed, strict=True)
  ]
  found = {
    "relearn": {"steps": STEPS, "worst_forget": mean},
    "compute": {"fraction_of_data_filtering": compute},
  }
  if len(worst_by_seed) > 1:
    found["by_seed"] = {"worst_forget": list(worst_by_seed)}
  return found | more


def results(higher_is="more capable"):
  models = {
    "base": model(0.0, (1.0, 1.0, 1.0)),
    "undo_alpha_0.3": model(0.50, (0.0, 0.2, 0.4)),
    "undo_alpha_0.5": model(0.51, (0.0, 0.3, 0.3)),
    "undo_alpha_0.7": model(1.00, (0.0, 0.1, 0.1)),
    "routed": model(0.96, (0.0, 0.2, 0.2), ablation={}),
    "sgtm": model(0.4, (0.0, 0.2, 0.2), ablation={}),
    "routed_undo_alpha_0.3": model(0.50, (0.0, 0.25, 0.2)),
  }
  metrics = {"forget": {"higher_is": higher_is}}
  return {"models": models, "metrics": metrics}


def test_the_rival_is_the_best_that_costs_no_more():
  found = results()
  names = rivals.routed(found)
  assert names == ["routed", "sgtm", "routed_undo_alpha_0.3"]
  rival = {(n, b): rivals.rival(found, n, b) for n in names for b in (10, 20)}
  assert rival == {
    ("routed", 10): "undo_alpha_0.7",  # 1.00 is within a twentieth of 0.96.
    ("routed", 20): "undo_alpha_0.7",
    ("sgtm", 10): None,
    ("sgtm", 20): None,
    ("routed_undo_alpha_0.3", 10): "undo_alpha_0.3",
    ("routed_undo_alpha_0.3", 20): "undo_alpha_0.5",
  }
  falling = results("less capable")  # A high score is the robust one.
  assert rivals.rival(falling, "routed", 20) == "undo_alpha_0.3"


def test_margins_are_those_of_each_seed():
  found = results()
  found["models"]["routed"] = model(1.0, (0.0, 0.2, 0.2), (0.0, 0.1, 0.6))
  found["models"]["undo_alpha_0.7"] = model(1.0, (0.0, 0.1, 0.3), (0.0, 0.3, 0.4))
  names = ("routed", "undo_alpha_0.7", 20)
  assert rivals.margins(found, *names) == pytest.approx([0.1, -0.2])
  assert rivals.margins(found, *names[:2], 10) == pytest.approx([-0.1, 0.2])
  found["metrics"]["forget"]["higher_is"] = "less capable"
  assert rivals.margins(found, *names) == pytest.approx([-0.1, 0.2])
  one = rivals.margins(results(), *names)
  assert one == pytest.approx([-0.1])
