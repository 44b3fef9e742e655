"""Robustness against compute: a panel a budget."""

import pytest

from tests.frontier.made_up import synthetic
from undo_jax.frontier.figures import robustness_compute


@pytest.mark.parametrize(
  ("last_step", "panels"), [(10, 1), (20, 1), (50, 2), (100, 2), (500, 3)]
)
def test_panels_are_the_evaluated_budgets(last_step, panels):
  results = synthetic(("base", "data_filtering", "max_ent"), last_step)
  titles = [
    a.get_title(loc="left") + a.get_title()
    for a in robustness_compute.draw(results).axes
  ]
  assert len(titles) == panels
  assert titles[-1].endswith(f"after all {last_step} updates")
