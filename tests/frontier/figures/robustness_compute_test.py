"""Robustness against compute: points, intervals, and what all seeds attain."""

import dataclasses
import itertools
import math

import pytest

from tests.frontier.crowd import crowded
from tests.frontier.figures import parts
from tests.frontier.made_up import (
  ARITHMETIC,
  changed_model,
  changed_run,
  synthetic,
)
from undo_jax.frontier import statistics
from undo_jax.frontier.figures import robustness_compute
from undo_jax.frontier.figures.render import NARROW


@pytest.mark.parametrize(
  ("last_step", "panels"), [(10, 1), (20, 1), (50, 2), (100, 2), (500, 3)]
)
def test_panels_are_the_evaluated_budgets(last_step, panels):
  results = synthetic(("base", "data_filtering", "max_ent"), last_step)
  drawn = parts.drawn(robustness_compute, results)
  assert len(drawn) == panels
  assert parts.title(drawn[-1]).endswith(f"after all {last_step} updates")
  assert robustness_compute.draw(results, NARROW)["vconcat"][1]["columns"] == 1


def test_points_are_the_means_and_bars_their_intervals():
  results = synthetic(seeds=(0, 1, 2))
  for panel, budget in zip(
    parts.drawn(robustness_compute, results), (20, 100, 500), strict=True
  ):
    points = {row["model"]: row for row in parts.rows(panel)}
    assert len(points) == len(ARITHMETIC) - 1  # Nothing was removed from the base.
    for name, model in results.models.items():
      if name == "base":
        continue
      point = points[model.label]
      robust = statistics.robustness_after(results, name, budget)
      cost = statistics.compute(results, name)
      for axis, mean in (("x", cost), ("y", robust)):
        for field, value in (
          (axis, mean.value),
          (f"{axis}_low", mean.value - mean.half_width),
          (f"{axis}_high", mean.value + mean.half_width),
        ):
          assert math.isclose(point[field], value, rel_tol=1e-5, abs_tol=1e-9)
    seeds = parts.rows(panel, "point")
    assert len(seeds) == 3 * len(points)
    chosen = [row["y"] for row in seeds if row["model"] == "UNDO α = 0.5"]
    robust = statistics.robustness_after(results, "undo_alpha_0.5", budget)
    assert chosen == pytest.approx(robust.by_seed, rel=1e-5)


def test_the_step_line_is_what_the_worst_seed_attains():
  results = synthetic(seeds=(0, 1, 2))
  panel = parts.drawn(robustness_compute, results)[0]
  bold = parts.rows(panel, "line", 1)
  names = [name for name in ARITHMETIC if name != "base"]
  robust = {n: statistics.robustness_after(results, n, 20).by_seed for n in names}
  cost = {n: statistics.compute(results, n).by_seed for n in names}

  def attained(limit):
    return min(
      max((robust[n][s] for n in names if cost[n][s] <= limit), default=-math.inf)
      for s in range(3)
    )

  for corner in bold:
    assert math.isclose(corner["y"], attained(corner["x"]), rel_tol=1e-5)
  for before, after in zip(bold, bold[1:-1], strict=False):
    assert math.isclose(attained(after["x"] * 0.999), before["y"], rel_tol=1e-5)
  faint = parts.rows(panel, "line", 0)
  assert {row["seed"] for row in faint} == {0, 1, 2}


def test_values_out_of_the_axis_are_arrows():
  results = synthetic(("base", "data_filtering", "max_ent", "undo_alpha_0.3"))
  roles = results.references
  assert roles.unlearned == "max_ent"
  panel = parts.drawn(robustness_compute, results)[0]
  arrows = {row["model"]: row["arrow"] for row in parts.rows(panel)}
  assert set(arrows.values()) == {""}
  swapped = dataclasses.replace(roles, filtered="undo_alpha_0.3")
  results = dataclasses.replace(results, references=swapped)
  panel = parts.drawn(robustness_compute, results)[0]
  arrows = {row["model"]: row["arrow"] for row in parts.rows(panel)}
  assert arrows["data filtering"] == "↑" and arrows["MaxEnt"] == ""


def test_costs_that_differ_by_orders_are_on_a_logarithmic_axis():
  def scale(names, **roles):
    references = dataclasses.replace(synthetic(names, 20).references, **roles)
    results = dataclasses.replace(synthetic(names, 20), references=references)
    panel = parts.drawn(robustness_compute, results)[0]
    return panel["layer"][1]["encoding"]["x"]["scale"]

  assert scale(("base", "data_filtering", "max_ent"))["type"] == "log"
  names = ("base", "data_filtering", "undo_alpha_0.5")
  linear = scale(names, unlearned="undo_alpha_0.5")
  assert linear["type"] == "linear" and linear["domain"][0] == 0


def test_values_beside_points_cover_no_others():
  (panel, *_) = parts.drawn(robustness_compute, crowded(seeds=(0,)))
  shown = [row for row in parts.rows(panel) if row["text"]]
  assert 3 < len(shown) < 30
  (low, high), width = (
    panel["layer"][1]["encoding"]["x"]["scale"]["domain"],
    panel["width"],
  )
  places = [
    (
      width * math.log(row["x"] / low) / math.log(high / low),
      panel["height"] * row["y"] / 1.4,
    )
    for row in shown
  ]
  for one, other in itertools.combinations(places, 2):
    assert abs(one[0] - other[0]) > 25 or abs(one[1] - other[1]) > 12


def test_broken_models_are_hollow_and_on_no_front():
  results = synthetic()
  (run,) = results.models["undo_alpha_0.7"].runs
  before = dataclasses.replace(run.before, retain=0.3)
  results = changed_run(results, "undo_alpha_0.7", before=before)
  panel = parts.drawn(robustness_compute, results)[0]
  points = {row["model"]: row for row in parts.rows(panel)}
  broken, whole = points["UNDO α = 0.7"], points["UNDO α = 0.5"]
  assert broken["fill"] == "var(--paper)" != broken["rim"] == broken["color"]
  assert whole["fill"] == whole["color"] and whole["rim"] == "var(--paper)"
  corners = {(row["x"], row["y"]) for row in parts.rows(panel, "line", 1)}
  assert (whole["x"], whole["y"]) in corners
  assert (broken["x"], broken["y"]) not in corners


def test_models_of_other_seeds_stand_beside_each_other():
  results = synthetic(seeds=(0, 1, 2))
  for name in ("undo_alpha_0.5", "rmu"):
    runs = results.models[name].runs[1:]
    results = changed_model(results, name, runs=runs)
  panel = parts.drawn(robustness_compute, results)[0]
  seeds = [row["seed"] for row in parts.rows(panel, "point") if row["model"] == "RMU"]
  assert seeds == ["1", "2"]
  assert {row["seed"] for row in parts.rows(panel, "line", 0)} == {0, 1}
  # Without a seed in common each model counts by its own worst.
  kept = results.models["rmu"].runs[:1]
  results = changed_model(results, "rmu", runs=kept)
  kept = results.models["undo_alpha_0.5"].runs[1:]
  results = changed_model(results, "undo_alpha_0.5", runs=kept)
  panel = parts.drawn(robustness_compute, results)[0]
  assert parts.rows(panel, "line", 0) == []
  names = [name for name in results.models if name != "base"]
  worst = {
    n: (
      max(run.compute.fraction_of_filtered for run in results.models[n].runs),
      min(statistics.robustness_after(results, n, 20).by_seed),
    )
    for n in names
  }
  for corner in parts.rows(panel, "line", 1):
    attained = max(y for x, y in worst.values() if x <= corner["x"] * (1 + 1e-9))
    assert math.isclose(corner["y"], attained, rel_tol=1e-5)
