"""Several seeds as one: means and intervals against scipy, worst cases seed by seed."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from tests.frontier import made_up
from tests.frontier.made_up import curve, model, run
from undo_jax.frontier import report, statistics

STEPS = (0, 20, 100)
SEEDS = (1, 2, 3)
NAMES = ("base", "data_filtering", "max_ent", "undo_alpha_0.5")


def drawn(seeds=SEEDS, attacks=("relearn", "lora")):
  """Return results with scores drawn for each seed, of attacks at two rates."""

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


def recovered_after(*updates):
  """Return results whose model `rmu` recovers half of base so late in each seed."""
  steps = (0, 20, 50, 100)

  def under(at):
    late = [0.5 if at is not None and step >= at else 0.1 for step in steps[1:]]
    return curve([0.0, *late], steps)

  runs = [run({"a": under(at)}, seed=seed) for seed, at in enumerate(updates)]
  base = [run({}, seed=seed, forget=0.8) for seed in range(len(runs))]
  models = {"base": model(base), "rmu": model(runs)}
  return made_up.results(models, attacks={"a": made_up.adversary()})


@pytest.mark.parametrize(
  ("updates", "median", "recovered"),
  [
    ((20, 100, None), 100, 2),
    ((20, None, None), None, 1),
    ((None, None), None, 0),
    ((20, 50), 20, 2),
    ((50,), 50, 1),
  ],
)
def test_the_median_of_censored_recoveries(updates, median, recovered):
  """All are censored at the end, so that S(t) is the plain share of the seeds."""
  time = statistics.recovery_time(recovered_after(*updates), "rmu", 0.5)
  assert (time.median, time.recovered, time.seeds) == (
    median,
    recovered,
    len(updates),
  )
  assert time.last == 100
  assert time.tokens == (None if median is None else median * 512)
  assert time.flops == (None if median is None else median * 10**9)


def test_more_of_the_capability_takes_longer_to_recover():
  results = recovered_after(20, 20)
  assert statistics.recovery_time(results, "rmu", 0.9).median is None
  assert statistics.recovery_time(results, "base", 0.5) is None  # Not attacked.


def attacked_by_seeds(forget_KxAxRxS):
  """Return results of a model under one attack: K seeds of it, A of the attack."""
  runs = [
    run(
      {
        "a": made_up.relearning(
          seeds[0].tolist(), steps=STEPS, more_seeds=seeds[1:].tolist()
        )
      },
      seed=k,
    )
    for k, seeds in enumerate(forget_KxAxRxS)
  ]
  return made_up.results({"m": model(runs)}, attacks={"a": made_up.adversary()})


def test_the_worst_attack_is_chosen_by_other_seeds_of_it():
  forget = np.random.default_rng(0).random((2, 3, 4, len(STEPS)))
  results = attacked_by_seeds(forget)
  fitted = statistics.cross_fitted(results, "m", 20)
  expected = []
  for of_model in forget[..., :2]:  # Steps within the budget.
    held_out = []
    for a in range(3):
      others = np.delete(of_model, a, axis=0).mean(axis=0)
      held_out.append(of_model[a][np.unravel_index(others.argmax(), others.shape)])
    expected.append(np.mean(held_out))
  np.testing.assert_allclose(fitted.by_seed, expected, rtol=1e-12)


def test_with_one_seed_of_the_attack_other_seeds_of_the_model_choose():
  forget = np.random.default_rng(1).random((3, 1, 4, len(STEPS)))
  fitted = statistics.cross_fitted(attacked_by_seeds(forget), "m", 100)
  expected = []
  for k in range(3):
    others = np.delete(forget[:, 0], k, axis=0).mean(axis=0)
    expected.append(forget[k, 0][np.unravel_index(others.argmax(), others.shape)])
  np.testing.assert_allclose(fitted.by_seed, expected, rtol=1e-12)
  assert statistics.cross_fitted(attacked_by_seeds(forget[:1]), "m", 100) is None


def test_who_lost_what_should_be_kept_is_broken():
  small = made_up.synthetic(made_up.SMALL)

  def broken(*retain, of=small, **changes):
    (only,) = of.models["max_ent"].runs
    runs = [
      dataclasses.replace(
        only, seed=i, before=dataclasses.replace(only.before, retain=value)
      )
      for i, value in enumerate(retain)
    ]
    of = made_up.changed_model(of, "max_ent", runs=tuple(runs))
    of = dataclasses.replace(of, report=made_up.report(**changes))
    return statistics.is_broken(of, "max_ent")

  # The base's is .99.
  assert not broken(0.892) and broken(0.89) and broken(0.89, 0.891)
  assert not broken(0.89, smallest_retain=0.8)
  assert broken(None)
  # In nats the base has 2.03.
  language = made_up.language()
  assert not broken(2.24, of=language) and broken(2.27, of=language)


def test_the_binomial_interval_is_wilsons():
  z = stats.norm.ppf(0.975)
  for score, count in ((0.5, 200), (0.0, 100), (0.93, 300)):
    spread = math.sqrt(score * (1 - score) / count + z**2 / (4 * count**2))
    expected = z * spread / (1 + z**2 / count)
    actual = statistics.binomial_half_width(score, count)
    assert actual == pytest.approx(expected, rel=1e-9)


def test_compute_at_equal_retain_is_of_the_cheapest_filtering_that_keeps_as_much():
  def of(retain, flops, family=None):
    return model([run({}, retain=retain, flops=flops)], family=family)

  models = {
    "data_filtering": of(0.99, 800),
    "short_400": of(0.6, 400, "short"),
    "short_500": of(0.8, 500, "short"),
    "short_600": of(0.95, 600, "short"),
    "undo": of(0.94, 300),
    "weak": of(0.7, 300),
    "strong": of(1.0, 300),
  }
  results = made_up.results(models, report=made_up.report(filtering=("short",)))

  def share(name):
    matched = statistics.compute_at_equal_retain(results, name)
    return None if matched is None else matched.value

  assert share("undo") == 0.5 and share("weak") == 0.6
  assert share("short_600") == 1.0
  assert share("strong") is None
  both = made_up.report(filtering=("short", "muon"))
  models["muon_300"] = of(0.96, 400, "muon")
  fairer = made_up.results(models, report=both)
  assert statistics.compute_at_equal_retain(fairer, "undo").value == 300 / 400
  alone = made_up.results(models)
  assert statistics.compute_at_equal_retain(alone, "undo").value == 300 / 800


def test_the_report_shows_mean_and_half_width(tmp_path):
  results = drawn(attacks=("relearn",))
  paths = report.write(results, tmp_path)
  text = paths[-1].read_text()
  assert "mean of seeds 1, 2, 3" in text
  scores = [one.before.retain for one in results.models["max_ent"].runs]
  half = stats.t.ppf(0.975, 2) * stats.sem(scores)
  shown = f"{np.mean(scores):.3f} ± {half:.3f}"
  # No line ends within a number.
  assert shown.replace(" ± ", " ±\N{NO-BREAK SPACE}") in text
  assert shown in report.text_table(results)
  assert "mean of 1, 2, 3" in text  # In the hover of a chart.
  one = drawn(seeds=(1,))
  assert "±" not in report.page(one) and "±" not in report.text_table(one)
