"""Variance components: the analysis of variance, all pairs, and known effects."""

import itertools

import numpy as np
import pytest
from scipy import stats

from undo_jax.frontier import variance
from undo_jax.utils.errors import ConfigError

NAMES = ("unlearn", "noise", "distill", "attack")
TRUE = {("a",): 2.0, ("b",): 0.5, ("a", "b"): 1.0}


def by_mean_squares(table, names):
  """Return components of a full table by solving the expected mean squares."""
  axes = range(table.ndim)
  sizes = table.shape
  every = [
    set(s) for k in range(len(axes) + 1) for s in itertools.combinations(axes, k)
  ]

  def mean(group):
    return table.mean(axis=tuple(set(axes) - group), keepdims=True)

  parts = {}
  for group in sorted(every[1:], key=len, reverse=True):
    effect = sum((-1) ** (len(group) - len(h)) * mean(h) for h in every if h <= group)
    repeats = np.prod([sizes[a] for a in axes if a not in group])
    freedom = np.prod([sizes[a] - 1 for a in group])
    square = repeats * (effect**2).sum() / freedom
    above = sum(
      value * np.prod([sizes[a] for a in axes if a not in other])
      for other, value in parts.items()
      if group < other
    )
    parts[frozenset(group)] = (square - above) / repeats
  return {frozenset(names[a] for a in group): v for group, v in parts.items()}


def by_pairs(table, names):
  """Return components from a loop over all pairs of values; a last axis replicates."""
  known = np.argwhere(np.isfinite(table))
  halves = {}
  for one, other in itertools.permutations(map(tuple, known), 2):
    agree = frozenset(n for n, a, b in zip(names, one, other, strict=False) if a == b)
    halves.setdefault(agree, []).append((table[one] - table[other]) ** 2 / 2)
  halves = {group: np.mean(values) for group, values in halves.items()}
  halves.setdefault(frozenset(names), 0.0)
  parts = {}
  for size in range(1, len(names) + 1):
    for group in itertools.combinations(names, size):
      parts[frozenset(group)] = -sum(
        (-1) ** (size - k) * halves[frozenset(h)]
        for k in range(size + 1)
        for h in itertools.combinations(group, k)
      )
  return parts, halves[frozenset(names)]


def drawn(rng, count, shape):
  """Return tables of two factors whose effects have the variances TRUE."""
  rows, columns = shape
  return (
    3.0
    + rng.normal(0, TRUE["a",] ** 0.5, (count, rows, 1))
    + rng.normal(0, TRUE["b",] ** 0.5, (count, 1, columns))
    + rng.normal(0, TRUE["a", "b"] ** 0.5, (count, rows, columns))
  )


def agree(got, expected, **tolerance):
  assert got.keys() == expected.keys()
  for group, value in expected.items():
    assert got[group] == pytest.approx(value, **tolerance), group


@pytest.mark.parametrize("shape", [(5,), (3, 4), (3, 4, 2), (2, 5, 3, 4)])
def test_of_a_full_table_the_components_are_the_analysis_of_variance(shape):
  table = np.random.default_rng(0).gamma(1.0, 3.0, shape)
  got = variance.components(table, NAMES[: len(shape)])
  agree(got, by_mean_squares(table, NAMES), rel=1e-9, abs=1e-10)


def test_one_factor_is_the_variance_of_a_sample():
  values = [0.3, 0.9, 0.2, 0.5]
  got = variance.components(values, ["noise"])
  assert got == {frozenset(["noise"]): pytest.approx(np.var(values, ddof=1))}


@pytest.mark.parametrize("replicates", [False, True])
def test_with_missing_values_the_components_are_those_of_all_pairs(replicates):
  rng = np.random.default_rng(1)
  table = rng.normal(size=(3, 4, 3, 2) if replicates else (4, 5, 3))
  table[rng.random(table.shape) < 0.3] = np.nan
  expected, noise = by_pairs(table, NAMES[:3])
  if replicates:
    expected[frozenset([*NAMES[:3], variance.REPLICATE])] = noise
  agree(variance.components(table, NAMES[:3]), expected, rel=1e-9, abs=1e-12)


def test_replicates_of_one_factor_are_those_of_scipy():
  table = np.random.default_rng(2).normal(size=(6, 4)) + np.arange(6)[:, None]
  got = variance.components(table, ["noise"])
  within = got[frozenset(["noise", variance.REPLICATE])]
  assert within == pytest.approx(table.var(axis=1, ddof=1).mean())
  ratio = stats.f_oneway(*table).statistic
  assert got[frozenset(["noise"])] == pytest.approx(within * (ratio - 1) / 4)


def test_the_components_are_unbiased_whichever_cells_are_missing():
  tables = drawn(np.random.default_rng(3), 3000, (4, 3))
  missing = [(0, 0), (0, 1), (1, 2), (3, 0), (3, 1)]
  tables[:, *np.transpose(missing)] = np.nan
  got = [variance.components(table, ["a", "b"]) for table in tables]
  for group, value in TRUE.items():
    estimates = np.array([each[frozenset(group)] for each in got])
    assert abs(estimates.mean() - value) < 4 * stats.sem(estimates)


def test_the_variance_of_the_mean_is_that_of_many_tables():
  means = drawn(np.random.default_rng(4), 20000, (5, 2)).mean(axis=(1, 2))
  parts = {frozenset(group): value for group, value in TRUE.items()}
  got = variance.variance_of_mean(parts, {"a": 5, "b": 2})
  assert abs(means.var() - got) < 4 * got * (2 / len(means)) ** 0.5


def test_a_negative_estimate_is_returned_as_it_is():
  # No main effects: their mean squares are 0, that of the interaction is 4.
  got = variance.components([[1, -1], [-1, 1]], ["a", "b"])
  expected = {frozenset("a"): -2, frozenset("b"): -2, frozenset("ab"): 4}
  assert got == pytest.approx(expected)


def test_order_scale_and_shift_of_a_table():
  table = np.random.default_rng(5).normal(size=(3, 4, 2))
  table[1, 2, 0] = np.nan
  one = variance.components(table, NAMES[:3])
  other = variance.components(table.transpose(2, 0, 1), ("distill", "unlearn", "noise"))
  agree(other, one, rel=1e-9, abs=1e-12)
  scaled = variance.components(1e5 - 3 * table, NAMES[:3])
  agree(scaled, {group: 9 * value for group, value in one.items()}, rel=1e-7)


def test_effects_of_a_sum_and_of_a_product_of_signs():
  # f = s_a + 2 s_b: V_i = T_i. f = s_a s_b: V_i = 0 and T_i = Var(f). Signs are +-1.
  sign = np.array([-1.0, 1.0])
  for table, first, total in (
    (sign[:, None] + 2 * sign, (1, 4), (1, 4)),
    (sign[:, None] * sign, (0, 0), (1, 1)),
  ):
    # The two signs are all levels that there are: V_G are variances of means.
    explained = {
      frozenset(): 0.0,
      frozenset("a"): table.mean(axis=1).var(),
      frozenset("b"): table.mean(axis=0).var(),
      frozenset("ab"): table.var(),
    }
    parts = variance.from_explained(explained)
    assert sum(parts.values()) == pytest.approx(table.var())
    got = variance.effects(parts)
    for name, low, high in zip("ab", first, total, strict=True):
      share = (low / table.var(), high / table.var())
      assert got[name] == variance.Effect(low, high, *share)
    for group, value in explained.items():
      assert variance.explained(parts, group) == pytest.approx(value)
    assert variance.total_effect(parts, "ab") == pytest.approx(table.var())


def test_there_are_no_shares_of_no_variance():
  got = variance.effects(variance.components(np.ones((2, 2)), ["a", "b"]))
  assert got["a"] == variance.Effect(0.0, 0.0, None, None)


def test_pairs_of_draws_estimate_what_is_explained_and_the_total_effect():
  # y = a + a b + b / 2 of standard normal factors: V_a = 1, V_b = 1/4, Var = 9/4.
  rng = np.random.default_rng(6)

  def value(a, b):
    return a + a * b + b / 2

  a, c, b, d, e, f = rng.normal(size=(6, 100_000))
  got = variance.pick_freeze([value(a, b), value(a, d)], [value(c, e), value(c, f)])
  assert abs(got.value - 1.0) < 4 * got.standard_error
  total = variance.jansen(value(a, b), value(c, b))
  assert abs(total.value - 2.0) < 4 * total.standard_error
  half_squares = (value(a, b) - value(c, b)) ** 2 / 2
  assert total.standard_error == pytest.approx(stats.sem(half_squares))


def test_resamples_of_three_levels_have_the_quantiles_of_all_of_them():
  values = np.array([0.0, 1.0, 5.0])
  variances = []
  for levels in itertools.product(range(3), repeat=3):
    pairs = [
      (values[i] - values[j]) ** 2 / 2
      for i, j in itertools.permutations(levels, 2)
      if i != j
    ]
    variances += [np.mean(pairs)] if pairs else []
  for confidence, low, high in ((0.3, 35, 65), (0.8, 10, 90)):
    got = variance.bootstrap(
      values, ["noise"], seed=0, num_resamples=1000, confidence=confidence
    )[frozenset(["noise"])]
    expected = np.percentile(variances, [low, high], method="nearest")
    assert (got.low, got.high) == pytest.approx(tuple(expected))


def test_the_bootstrap_repeats_itself_and_surrounds_the_estimate():
  table = drawn(np.random.default_rng(7), 1, (8, 9))[0]
  table[2, 3] = np.nan
  names = ["a", "b"]
  one = variance.bootstrap(table, names, seed=1, num_resamples=200)
  assert one == variance.bootstrap(table, names, seed=1, num_resamples=200)
  assert one != variance.bootstrap(table, names, seed=2, num_resamples=200)
  for group, value in variance.components(table, names).items():
    assert one[group].low < value < one[group].high


def test_the_interval_over_levels_is_that_of_scipy():
  table = np.random.default_rng(8).normal(2.0, 3.0, size=(3, 4, 2))
  got = variance.mean_over_levels(table, NAMES[:3], "noise", confidence=0.9)
  means = table.mean(axis=(0, 2))
  expected = stats.t.interval(0.9, 3, loc=means.mean(), scale=stats.sem(means))
  assert (got.low, got.high) == pytest.approx(expected)


@pytest.mark.parametrize(
  ("table", "names", "words"),
  [
    (np.ones((3, 1)), ["a", "b"], "no two values differ in a, b and agree in nothing"),
    ([[1.0, 2.0], [np.nan, np.nan]], ["a", "b"], "cannot be estimated"),
    ([[1.0, np.nan], [np.nan, 2.0]], ["a", "b"], "differ in b and agree in a"),
    (np.ones((3, 1)), ["a"], "differ in replicate and agree in a"),
    (np.ones(3), ["a", "b"], r"shape \(3,\)"),
    (np.ones((3, 3)), ["a", "a"], "different"),
    (np.ones((3, 3)), ["a", "replicate"], "replicate"),
    ([1.0, np.inf], ["a"], "finite"),
  ],
)
def test_tables_that_say_too_little_end_in_one_line(table, names, words):
  with pytest.raises(ConfigError, match=words) as raised:
    variance.components(table, names)
  assert "\n" not in str(raised.value)


def test_intervals_that_cannot_be_end_in_one_line():
  with pytest.raises(ConfigError, match="missing|leave out"):
    variance.mean_over_levels([1.0, np.nan], ["a"], "a")
  with pytest.raises(ConfigError, match="two levels of a"):
    variance.mean_over_levels([1.0], ["a"], "a")
  with pytest.raises(ConfigError, match="one of a"):
    variance.mean_over_levels([1.0, 2.0], ["a"], "b")
  with pytest.raises(ConfigError, match="two draws"):
    variance.jansen([1.0], [2.0])
