"""Where filtering's robustness is met, against the definition over all models."""

import numpy as np
import pytest
from scipy import stats

from tests.frontier import made_up
from undo_jax.frontier import crossing, report


def drawn(seed, *, num_seeds=3):
  """Return random models around data filtering."""
  rng = np.random.default_rng(seed)
  models = {}
  for name in ("data_filtering", "a", "b", "c", "d", "e"):
    forget, retain = rng.uniform(0.1, 0.4), rng.uniform(0.9, 1.0)
    runs = []
    for s in range(num_seeds):
      top = float(np.clip(forget + rng.normal(0, 0.05), 0, 1))
      half = top / 2
      runs.append(
        made_up.run(
          {"relearn": made_up.curve([0.0, half, half, top], steps=(0, 10, 20, 100))},
          seed=s,
          retain=retain + rng.normal(0, 0.01),
          flops=int(rng.uniform(0.1, 2) * 1e15),
        )
      )
    models[name] = made_up.model(runs)
  return made_up.results(models)


def cheapest(results, step, *, keeps):
  """Return the cheapest model by the definition, from the runs alone."""
  filtered = results.models["data_filtering"].runs
  bound = np.mean([run.before.retain for run in filtered])
  costs = []
  for name, model in results.models.items():
    if name == "data_filtering":
      continue
    ahead = np.array(
      [
        theirs.attacks["relearn"].worst_forget[step]
        - mine.attacks["relearn"].worst_forget[step]
        for mine, theirs in zip(model.runs, filtered, strict=True)
      ]
    )
    retain = np.array([run.before.retain for run in model.runs])
    upper = [
      stats.t.interval(0.95, 2, x.mean(), stats.sem(x))[1] for x in (ahead, retain)
    ]
    if upper[0] >= 0 and (not keeps or upper[1] >= bound):
      costs.append((np.mean([run.compute.flops for run in model.runs]), name))
  return min(costs)[1] if costs else None


@pytest.mark.parametrize("seed", range(12))
def test_the_cheapest_that_meets_filtering_is_found_by_trying_all(seed):
  results = drawn(seed)
  crossings = {
    (each.budget, each.keeps): each.model for each in crossing.crossings(results)
  }
  steps = {10: 1, 20: 2, 100: 3}
  assert {budget for budget, _ in crossings} <= {20, 100}
  for (budget, keeps), model in crossings.items():
    assert model == cheapest(results, steps[budget], keeps=keeps)


def test_one_seed_has_no_interval_and_none_may_meet():
  results = drawn(0, num_seeds=1)
  for each in crossing.crossings(results):
    if each.model:
      assert each.ahead.half_width is None and each.ahead.value >= 0
  weak = {
    "data_filtering": results.models["data_filtering"],
    "weak": made_up.model(
      [made_up.run({"relearn": made_up.curve([0, 1, 1, 1], steps=(0, 10, 20, 100))})]
    ),
  }
  assert {each.model for each in crossing.crossings(made_up.results(weak))} == {None}
  assert crossing.table(made_up.results(weak)) is None


def test_the_page_has_the_table():
  results = drawn(3)
  table = crossing.table(results)
  page = report.page(results)
  assert "not known to be less robust than data filtering" in page
  for row in table.rows:
    assert len(row.cells) == len(table.head) - 1


def test_without_filtering_there_is_no_crossing():
  results = drawn(1)
  models = {name: m for name, m in results.models.items() if name != "data_filtering"}
  assert crossing.crossings(made_up.results(models)) == []
