"""Several seeds as one: means and intervals against scipy, worst cases seed by seed."""

import math

import numpy as np
import pytest
from scipy import stats

from tests.frontier import made_up
from tests.frontier.made_up import curve, model, run
from undo_jax.frontier import report, statistics
from undo_jax.frontier import results as results_lib

STEPS = (0, 20, 100)
SEEDS = (1, 2, 3)
NAMES = ("base", "data_filtering", "max_ent", "undo_alpha_0.5")


def drawn(seeds=SEEDS, attacks=("relearn", "lora")):
  """Returns results with scores drawn for each seed, of attacks at two rates."""

  def under(rng):
    forget_RxS, retain_RxS = rng.random((2, 2, len(STEPS)))
    return made_up.relearning(
      forget_RxS.tolist(), steps=STEPS, retain_RxS=retain_RxS.tolist()
    )

  def of_seed(seed, index):
    rng = np.random.default_rng((seed, index))
    return run(
      {name: under(rng) for name in attacks},
      seed=seed,
      retain=rng.random(),
      forget=rng.random(),
      fraction=rng.random(),
      updates=int(rng.integers(1000)),
    )

  models = {
    name: model([of_seed(seed, index) for seed in seeds], label=name)
    for index, name in enumerate(NAMES)
  }
  adversaries = {name: made_up.adversary(name) for name in attacks}
  return made_up.results(models, attacks=adversaries)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_mean_and_interval_are_those_of_student(count):
  values = np.random.default_rng(count).normal(3, 2, count)
  got = statistics.mean(values.tolist())
  low, high = stats.t.interval(
    0.95, count - 1, loc=values.mean(), scale=stats.sem(values)
  )
  assert got.value == pytest.approx(values.mean(), rel=1e-12)
  assert got.value - got.half_width == pytest.approx(low, rel=1e-12)
  assert got.value + got.half_width == pytest.approx(high, rel=1e-12)
  assert got.by_seed == tuple(values)


def test_the_interval_of_two_seeds_in_closed_form():
  # One degree of freedom: tan(0.475 pi) standard errors, each half the difference.
  got = statistics.mean([0.25, 0.75])
  assert got.value == 0.5
  assert got.half_width == pytest.approx(math.tan(0.475 * math.pi) * 0.25, rel=1e-12)


def test_one_seed_is_itself_without_an_interval():
  value = 0.1 + 0.2
  assert statistics.mean([value]) == statistics.Mean(value, None, (value,))


def test_there_is_no_mean_where_a_seed_has_no_score():
  assert statistics.mean([]) is None
  assert statistics.mean([None]) is None
  assert statistics.mean([0.1, None, 0.2]) is None


def test_the_worst_case_is_each_seeds_own_and_the_mean_comes_after():
  results = drawn()
  for name, of_model in results.models.items():
    for step, budget in enumerate(STEPS):
      under = [
        max(one.attacks.values(), key=lambda u, s=step: u.worst_forget[s])
        for one in of_model.runs
      ]
      worst = statistics.worst_forget(results, name, budget)
      assert worst.by_seed == tuple(u.worst_forget[step] for u in under)
      assert worst.value == pytest.approx(np.mean(worst.by_seed), rel=1e-12)
      retain = statistics.retain_under(results, name, budget)
      assert retain.by_seed == tuple(u.retain[step] for u in under)
    by_seed = [
      [one.attacks["lora"].worst_forget[step] for one in of_model.runs]
      for step in range(len(STEPS))
    ]
    steps, scores = statistics.curve(results, name, ("lora",))
    assert steps == list(STEPS)
    assert [list(score.by_seed) for score in scores] == by_seed


def test_the_curve_of_several_attacks_is_their_envelope():
  attacks = {
    "fast": curve([0.1, 0.4, 0.5], (0, 10, 20)),
    "slow": curve([0.2, 0.3, 0.9], (0, 15, 40)),
  }
  adversaries = {name: made_up.adversary(name) for name in attacks}
  results = made_up.results({"base": model([run(attacks)])}, attacks=adversaries)
  steps, scores = statistics.curve(results, "base", ("fast", "slow"))
  assert steps == [0, 10, 15, 20, 40]
  assert [score.value for score in scores] == [0.2, 0.4, 0.4, 0.5, 0.9]


def test_robustness_is_that_of_each_seed_among_its_own_references():
  results = drawn()
  got = statistics.robustness_after(results, "undo_alpha_0.5", 20)
  ours, unlearned, filtered = (
    np.array(statistics.worst_forget(results, name, 20).by_seed)
    for name in ("undo_alpha_0.5", "max_ent", "data_filtering")
  )
  ratios = (unlearned - ours) / (unlearned - filtered)
  np.testing.assert_allclose(got.by_seed, ratios, rtol=1e-12)
  assert got.value == pytest.approx(ratios.mean(), rel=1e-12)
  assert statistics.robustness_after(results, "max_ent", 20).by_seed == (0, 0, 0)
  assert statistics.robustness_after(results, "data_filtering", 20).by_seed == (1, 1, 1)


def test_there_is_no_robustness_without_references():
  for missing in ("max_ent", "data_filtering"):
    results = drawn()
    models = {n: m for n, m in results.models.items() if n != missing}
    rest = made_up.results(models, attacks=results.attacks)
    assert statistics.robustness_after(rest, "undo_alpha_0.5", 20) is None


def test_recovery_is_by_the_fastest_attack_of_each_seed():
  def of(*attacks_by_seed):
    runs = [
      run({n: curve(s, STEPS) for n, s in zip("ab", attacks, strict=True)}, seed=seed)
      for seed, attacks in enumerate(attacks_by_seed)
    ]
    base = [run({}, seed=seed, forget=0.8) for seed in range(len(runs))]
    adversaries = {name: made_up.adversary(name) for name in "ab"}
    models = {"base": model(base), "rmu": model(runs)}
    return made_up.results(models, attacks=adversaries)

  results = of(
    ([0.0, 0.1, 0.5], [0.0, 0.4, 0.4]),
    ([0.0, 0.1, 0.5], [0.0, 0.1, 0.3]),
    ([0.0, 0.1, 0.3], [0.0, 0.1, 0.3]),
  )
  assert statistics.recovery(results, "rmu") == [20, 100, None]
  assert statistics.recovery(results, "base") == []  # It was not attacked.
  assert "<td>100</td>" in report.page(results)  # The median.


def test_the_report_shows_mean_and_half_width(tmp_path):
  results = drawn(attacks=("relearn",))
  paths = report.write(results, tmp_path)
  text = paths[-1].read_text()
  assert "mean of seeds 1, 2, 3" in text
  scores = [one.before.retain for one in results.models["max_ent"].runs]
  half = stats.t.ppf(0.975, 2) * stats.sem(scores)
  shown = f"{np.mean(scores):.3f} ± {half:.3f}"
  assert shown in text and shown in report.text_table(results)
  assert "mean of 1, 2, 3" in text  # In the hover of a chart.
  one = drawn(seeds=(1,))
  assert "±" not in report.page(one) and "±" not in report.text_table(one)


def test_merged_workdirs_are_the_run_of_all_seeds():
  together = drawn()
  apart = {f"run{seed}": drawn(seeds=(seed,)) for seed in (3, 1, 2)}
  assert results_lib.merge(apart) == together
