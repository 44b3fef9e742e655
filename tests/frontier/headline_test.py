"""The headline against the numbers that it is made from."""

import dataclasses
import math
import re

from tests.frontier import made_up
from tests.frontier.crowd import crowded
from tests.frontier.made_up import ARITHMETIC, SMALL, language, synthetic
from undo_jax.frontier import report, statistics
from undo_jax.frontier.headline import headline
from undo_jax.plan.config import References


def unwrapped(page):
  return re.sub("[ \n]+", " ", page)


def test_leaders_are_the_models_that_no_cheaper_one_beats():
  results = synthetic(seeds=(0, 1, 2))
  said = headline(results)
  assert said.when == "after 100 updates"
  names = [n for n in ARITHMETIC if n not in ("base", "data_filtering")]
  robust = {n: statistics.robustness_after(results, n, 100).value for n in names}
  cost = {n: ARITHMETIC[n][3] for n in names}
  unbeaten = [
    n
    for n in names
    if not any(cost[m] <= cost[n] and robust[m] >= robust[n] and m != n for m in names)
  ]
  assert [each.name for each in said.leaders] == sorted(unbeaten, key=cost.get)
  best = said.leaders[-1]
  mean = statistics.robustness_after(results, best.name, 100)
  assert best.robustness == f"{mean.value:.2f} ± {mean.half_width:.2f}"
  assert best.cost == "109 %" and said.least == f"{min(mean.by_seed):.2f}"


def test_the_next_is_told_apart_where_the_intervals_are():
  results = synthetic(seeds=(0, 1, 2))
  said = headline(results)
  first, second = (
    statistics.robustness_after(results, name, 100)
    for name in ("unlearn_and_distill", "undo_alpha_0.7")
  )
  assert said.rival == "UNDO α = 0.7"
  apart = first.value - first.half_width > second.value + second.half_width
  assert said.overlaps == (not apart)
  names = ("base", "data_filtering", "max_ent", "undo_alpha_0.3", "undo_alpha_0.7")
  assert not headline(synthetic(names, seeds=(0, 1, 2))).overlaps


def test_one_seed_is_said_to_have_no_interval():
  results = synthetic(SMALL)
  assert headline(results).least is None
  page = unwrapped(report.page(results))
  assert "One seed was run, so no number here has an interval." in page
  assert "UNDO α = 0.3</strong> resists best: <strong>robustness 0.04" in page
  several = report.page(synthetic(SMALL, seeds=(0, 1)))
  assert "One seed" not in several and "Even its worst seed has" in several


def test_without_references_the_worst_score_decides():
  results = dataclasses.replace(
    synthetic(), references=References(base="base", filtered=None, unlearned=None)
  )
  said = headline(results)
  worst = {
    n: m.runs[0].attacks["relearn"].worst_forget[10]
    for n, m in results.models.items()
    if n != "base"
  }
  best = min(worst, key=worst.get)
  assert said.leaders[-1].name == best and said.leaders[-1].robustness is None
  assert said.leaders[-1].worst == f"{worst[best]:.2f}"
  assert said.leaders[-1].cost.endswith("FLOPs")
  page = unwrapped(report.page(results))
  assert f"<strong>worst forget score {worst[best]:.2f}</strong>" in page


def test_of_a_cross_entropy_the_highest_resists_best():
  roles = References(base="base", filtered=None, unlearned=None)
  results = dataclasses.replace(language(), references=roles)
  best = headline(results).leaders[-1].name
  worst = {
    n: m.runs[0].attacks["relearn"].worst_forget[10]
    for n, m in results.models.items()
    if n != "base"
  }
  assert best == max(worst, key=worst.get)


def test_nothing_is_said_of_what_was_not_attacked():
  results = synthetic(SMALL, attacks={})
  for name in SMALL:
    results = made_up.changed_run(results, name, attacks={})
  assert headline(results) is None
  assert "resists best" not in report.page(results)
  assert headline(synthetic(("base", "data_filtering"), 20)) is None


def test_of_a_long_front_the_first_the_last_and_the_steepest_are_named():
  results = crowded()
  said = headline(results)
  assert len(said.leaders) <= 8
  robust = [float(each.robustness.split(" ")[0]) for each in said.leaders]
  assert robust == sorted(robust)
  every = [
    statistics.robustness_after(results, n, 100)
    for n in results.models
    if n not in ("base", "data_filtering")
  ]
  assert math.isclose(robust[-1], max(m.value for m in every), abs_tol=0.005)


def test_broken_models_take_no_part_and_are_counted():
  results = synthetic()
  (run,) = results.models["unlearn_and_distill"].runs
  before = dataclasses.replace(run.before, retain=0.3)
  results = made_up.changed_run(results, "unlearn_and_distill", before=before)
  said = headline(results)
  assert said.leaders[-1].name == "undo_alpha_0.7" and said.broken == 1
  page = unwrapped(report.page(results))
  assert "One model lost too much of what it should keep" in page
  assert headline(synthetic()).broken == 0
