"""Retain against forget: a panel before the attack and one a budget."""

import pytest

from tests.frontier.made_up import SMALL, synthetic
from undo_jax.frontier.figures import retain_forget


@pytest.mark.parametrize(
  ("last_step", "panels"), [(10, 1), (20, 1), (50, 2), (100, 2), (500, 3)]
)
def test_a_panel_before_the_attack_stands_before_those_of_the_budgets(
  last_step, panels
):
  results = synthetic(("base", "data_filtering", "max_ent"), last_step)
  titles = [axes.get_title() for axes in retain_forget.draw(results).axes]
  assert titles[0] == "before the attack" and len(titles) == panels + 1
  assert titles[-1].endswith(f"after all {last_step} updates")


def test_points_are_retain_scores_against_worst_forget_scores():
  results = synthetic(SMALL, 20)
  before, after = retain_forget.draw(results).axes
  (run,) = results.models["max_ent"].runs
  under = run.attacks["relearn"]
  for axes, point in (
    (before, (run.before.retain, run.before.forget)),
    (after, (under.retain[-1], under.worst_forget[-1])),
  ):
    shown = {
      (float(x), float(y)) for line in axes.get_lines() for x, y in line.get_xydata()
    }
    shown |= {
      tuple(map(float, at)) for dots in axes.collections for at in dots.get_offsets()
    }
    assert point in shown
