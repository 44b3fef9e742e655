"""Retain against forget: a panel before the attack and one a budget."""

import dataclasses
import xml.etree.ElementTree as ET

import pytest

from tests.frontier import made_up
from tests.frontier.figures import parts
from tests.frontier.made_up import SMALL, synthetic
from undo_jax.frontier import figures
from undo_jax.frontier.figures import retain_forget


@pytest.mark.parametrize(
  ("last_step", "panels"), [(10, 1), (20, 1), (50, 2), (100, 2), (500, 3)]
)
def test_a_panel_before_the_attack_stands_before_those_of_the_budgets(
  last_step, panels
):
  results = synthetic(("base", "data_filtering", "max_ent"), last_step)
  titles = [parts.title(view) for view in parts.drawn(retain_forget, results)]
  assert titles[0] == "before the attack" and len(titles) == panels + 1
  assert titles[-1].endswith(f"after all {last_step} updates")


def test_points_are_retain_scores_against_worst_forget_scores():
  results = synthetic(SMALL, 20)
  before, after = parts.drawn(retain_forget, results)
  (run,) = results.models["max_ent"].runs
  under = run.attacks["relearn"]
  start, end = (
    (run.before.retain, run.before.forget),
    (under.retain[-1], under.worst_forget[-1]),
  )
  for view, point in ((before, start), (after, end)):
    shown = {row["model"]: (row["x"], row["y"]) for row in parts.rows(view)}
    assert shown["MaxEnt"] == pytest.approx(point, rel=1e-5)
  trail = [r for r in parts.rows(after, "line", 0) if r["model"] == "MaxEnt"]
  assert [(row["x"], row["y"]) for row in trail] == [
    pytest.approx(start, rel=1e-5),
    pytest.approx(end, rel=1e-5),
  ]


def test_every_seed_is_a_dot_that_leads_to_its_config():
  results = synthetic(SMALL, 20, seeds=(3, 4))
  _, after = parts.drawn(retain_forget, results)
  dots = parts.rows(after, "point")
  assert [dot["seed"] for dot in dots] == ["3", "4"] * len(SMALL)
  for dot, run in zip(dots, results.models["base"].runs, strict=False):
    under = run.attacks["relearn"]
    assert (dot["x"], dot["y"]) == pytest.approx(
      (under.retain[-1], under.worst_forget[-1]), rel=1e-5
    )
    assert dot["config"] == "made-up/config.json"


def test_a_seed_and_an_interval_beyond_the_axis_leave_panels_their_width():
  chosen = made_up.report(figures=("retain_forget",))
  results = synthetic(SMALL, 20, seeds=(0, 1), report=chosen)
  (run, _) = results.models["max_ent"].runs
  before = dataclasses.replace(run.before, retain=0.4)  # The axis is of the means.
  results = made_up.changed_run(results, "max_ent", before=before)
  (drawing,) = figures.draw_all(results).values()
  width = float(ET.fromstring(drawing.file).attrib["width"])
  assert 1000 < width < 1060
