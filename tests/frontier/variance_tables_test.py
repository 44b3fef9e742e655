"""What the spread comes from and what to buy, on tables that add up exactly."""

import html
import itertools
import math

import numpy as np
import pytest

from tests.frontier import made_up
from undo_jax.frontier import report, variance, variance_tables

NOISE, ORDER, ATTACK = (0.0, 0.1, 0.3), (0.0, 0.2, 0.1), (0.0, 0.02, 0.05)
STEPS, TRAINED = (0, 10, 20), 3 * 10**11
PER_ATTACK = 1 * 20 * 10**9  # One learning rate, 20 updates of 1e9 FLOPs.


@pytest.fixture(scope="module")
def results():
  """Return a family whose score is 0.2 and a shift of each of three seeds."""
  models = {}
  for (i, a), (j, b) in itertools.product(enumerate(NOISE), enumerate(ORDER)):
    first, *more = [[[0.0, 0.0, 0.2 + a + b + c]] for c in ATTACK]
    under = made_up.relearning(first, steps=STEPS, rates=(1e-3,), more_seeds=more)
    swept = {"noise.alpha": 0.6, "streams.noise": i, "streams.distill_data": j}
    models[f"undo_{i}_{j}"] = made_up.model(
      [made_up.run({"relearn": under}, flops=TRAINED)],
      label=f"UNDO α = 0.6 noise = {i} distill_data = {j}",
      family="undo",
      swept=swept,
    )
  return made_up.results(models, report=made_up.report(budgets=(20,)))


VARIANCES = [np.var(shifts, ddof=1) for shifts in (NOISE, ORDER, ATTACK)]


def test_effects_of_a_sum_are_the_variances_of_its_terms(results):
  ((label, table),) = variance_tables.components(results)
  assert label == "UNDO α = 0.6"
  names = ("noise", "order of distillation", "the attacker's seed")
  assert [row.label for row in table.rows] == list(names)
  for row, value in zip(table.rows, VARIANCES, strict=True):
    levels, first, _, share, total, _, total_share = row.cells
    # In hundredths, which the largest is a few of.
    assert (levels, first, total) == ("3", f"{100 * value:.2f}", f"{100 * value:.2f}")
    assert share == total_share == f"{value / sum(VARIANCES):.0%}"
  assert table.head[2] == "first order, variance, in 10⁻²"
  page = report.page(results)
  for text in (*names, "components of variance", "which seeds to run next"):
    assert text in html.unescape(page)
  # One row of deviations for the whole family, none for each of its members.
  shown = variance_tables.spread(results)
  assert shown is not None and [row.label for row in shown.rows] == [label]
  assert shown.rows[0].cells[:3] == tuple(f"{math.sqrt(v):.3f}" for v in VARIANCES)


def test_what_is_bought_is_the_cheapest_of_all_tables(results):
  ((_, table),) = variance_tables.to_buy(results)
  now = math.sqrt(sum(value / 3 for value in VARIANCES))
  assert table.rows[0].cells == (f"{now:.4f}", "3", "3", "3", "0", "0")
  levels = np.stack(np.meshgrid(*[np.arange(3, 150)] * 3, indexing="ij"), axis=-1)
  error = np.sqrt((np.array(VARIANCES) / levels).sum(axis=-1))
  combined = levels[..., 0] * levels[..., 1]  # A model for each; attacks on each.
  cost = combined * (TRAINED + levels[..., 2] * PER_ATTACK)
  spent = 9 * (TRAINED + 3 * PER_ATTACK)
  for row, part in zip(table.rows[1:], (0.5, 0.25), strict=True):
    enough = np.where(error <= part * now * (1 + 1e-9), cost, np.inf)
    least = enough.min() - spent
    *_, more, times = row.cells
    assert (more, times) == (f"{least:.3g}", f"{least / spent:.1f}")
    bought = tuple(int(n) for n in row.cells[1:4])
    assert enough[tuple(n - 3 for n in bought)] == enough.min()


def test_intervals_of_effects_are_those_of_components_where_nothing_interacts():
  table = np.add.outer(np.array([0.0, 1.0, 4.0, 2.0]), np.array([0.0, 3.0, 1.0]))
  names = ("noise", "attack")
  effects = variance.bootstrap_effects(table, names, seed=3, num_resamples=50)
  parts = variance.bootstrap(table, names, seed=3, num_resamples=50)
  for name in names:
    own = parts[frozenset({name})]
    for end in effects[name]:
      np.testing.assert_allclose((end.low, end.high), (own.low, own.high), atol=1e-9)
    assert own.low < own.high
