"""Zero-sum games: closed forms, supports enumerated, plays one by one in numpy."""

import itertools

import jax
import numpy as np
import pytest
from scipy import stats

from undo_jax.frontier import games
from undo_jax.utils.errors import ConfigError

# Payoffs, value, row strategy, column strategy.
CLOSED_FORMS = {
  "matching pennies": ([[1, -1], [-1, 1]], 0, [1 / 2] * 2, [1 / 2] * 2),
  "rock paper scissors": (
    [[0, -1, 1], [1, 0, -1], [-1, 1, 0]],
    0,
    [1 / 3] * 3,
    [1 / 3] * 3,
  ),
  "biased": (
    [[0, -2, 1], [2, 0, -1], [-1, 1, 0]],
    0,
    [1 / 4, 1 / 4, 1 / 2],
    [1 / 4, 1 / 4, 1 / 2],
  ),
  "abstaining pays": (
    [[1, -1, -0.05], [-1, 1, -0.05], [0.05, 0.05, 0]],
    0,
    [0, 0, 1],
    [0, 0, 1],
  ),
  "mixed of 2 by 2": ([[3, -1], [-2, 1]], 1 / 7, [3 / 7, 4 / 7], [2 / 7, 5 / 7]),
  "dominated": ([[5.0, 7.0], [1.0, 2.0]], 5, [1, 0], [1, 0]),
  "one of each": ([[0.25]], 0.25, [1], [1]),
}


def cyclic(n):
  """Return rock paper scissors of n moves: each beats the one before it."""
  payoffs, i = np.zeros((n, n), int), np.arange(n)
  payoffs[i, (i - 1) % n] += 1
  payoffs[i, (i + 1) % n] -= 1
  return payoffs


def transitive(n):
  """Return a game where each move beats the one before it, by less and less."""
  payoffs = np.zeros((n, n))
  for i in range(1, n):
    payoffs[i, i - 1] = (n - i + 2) / n
    payoffs[i - 1, i] = -payoffs[i, i - 1]
  return payoffs


def value_by_supports(payoffs):
  """Return the value from all pairs of supports of one size, one of which is it."""
  rows, columns = map(range, payoffs.shape)
  for size in range(1, min(payoffs.shape) + 1):
    for chosen in itertools.product(
      itertools.combinations(rows, size), itertools.combinations(columns, size)
    ):
      part = payoffs[np.ix_(*chosen)]
      system = np.block([[part, -np.ones((size, 1))], [np.ones((1, size)), 0]])
      other = np.block([[part.T, -np.ones((size, 1))], [np.ones((1, size)), 0]])
      right = np.append(np.zeros(size), 1)
      if min(abs(np.linalg.det(system)), abs(np.linalg.det(other))) < 1e-12:
        continue
      y, x = np.linalg.solve(system, right), np.linalg.solve(other, right)
      row, column = np.zeros(len(rows)), np.zeros(len(columns))
      row[list(chosen[0])], column[list(chosen[1])] = x[:-1], y[:-1]
      best = (payoffs @ column).max() - 1e-9 <= y[-1] <= (row @ payoffs).min() + 1e-9
      if min(*x[:-1], *y[:-1]) >= 0 and best:
        return y[-1]
  raise AssertionError("every game has a value")


def played(payoffs, num_steps, anticipations, initial_steps, shared=False):
  """Return the plays of lowest-index ties, in numpy from the algorithm's lines."""
  plays = [(0, 0)]
  row_sums, column_sums = payoffs[:, 0].copy(), -payoffs[0]
  for step in range(1, num_steps):
    u, w = row_sums.copy(), column_sums.copy()
    for _ in range(anticipations if step > initial_steps else 0):
      i, j = int(np.argmax(u)), int(np.argmax(w))
      u, w = u + payoffs[:, i if shared else j], w - payoffs[i]
    i, j = int(np.argmax(u)), int(np.argmax(w))
    plays.append((i, i if shared else j))
    row_sums += payoffs[:, plays[-1][1]]
    column_sums -= payoffs[i]
  return np.array(plays).T


def in_groups(num_steps, **options):
  """Return play that is vmapped over keys, of one game."""

  def play(payoffs, keys):
    def one(key):
      return games.anticipatory_fictitious_play(payoffs, num_steps, key=key, **options)

    return jax.vmap(one)(keys)

  return jax.jit(play)


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_equilibria_in_closed_form(name):
  payoffs, value, row, column = CLOSED_FORMS[name]
  got = games.solve(payoffs)
  assert got.value == pytest.approx(value, abs=1e-9)
  np.testing.assert_allclose(got.row_strategy_I, row, atol=1e-9)
  np.testing.assert_allclose(got.column_strategy_J, column, atol=1e-9)


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (1, 4)])
def test_the_value_is_that_of_enumerated_supports(shape):
  payoffs = np.random.default_rng(shape).normal(3.0, 40.0, shape)
  got = games.solve(payoffs)
  assert got.value == pytest.approx(value_by_supports(payoffs), abs=1e-6)
  assert got.lower == (got.row_strategy_I @ payoffs).min()
  assert got.upper == (payoffs @ got.column_strategy_J).max()
  assert -1e-12 < got.upper - got.lower < 1e-5


def test_exploitability_of_a_pure_move_and_of_the_equilibrium():
  payoffs = [[0, -2, 1], [2, 0, -1], [-1, 1, 0]]
  assert games.exploitability(payoffs, [1, 0, 0], value=0.0) == 2.0
  assert games.exploitability(payoffs, [0, 0, 1]) == pytest.approx(1.0)
  assert games.exploitability(payoffs, [1 / 4, 1 / 4, 1 / 2]) == pytest.approx(0.0)


@pytest.mark.parametrize(("anticipations", "initial_steps"), [(0, 0), (1, 0), (2, 3)])
def test_plays_and_averages_are_those_of_numpy(anticipations, initial_steps):
  # Small integers: there are ties at many plays, and their sums are exact.
  payoffs = np.random.default_rng(0).integers(-2, 3, (10, 5, 7))
  num_steps = 60

  def play(game):
    if anticipations == 0:
      return games.fictitious_play(game, num_steps)
    return games.anticipatory_fictitious_play(
      game,
      num_steps,
      num_anticipations=anticipations,
      num_initial_steps=initial_steps,
    )

  got = jax.jit(jax.vmap(play))(payoffs)
  steps = np.arange(1, num_steps + 1)
  for index, game in enumerate(payoffs):
    rows, columns = played(game, num_steps, anticipations, initial_steps)
    np.testing.assert_array_equal(got.row_plays_T[index], rows)
    np.testing.assert_array_equal(got.column_plays_T[index], columns)
    x = np.cumsum(np.eye(5)[rows], axis=0) / steps[:, None]
    y = np.cumsum(np.eye(7)[columns], axis=0) / steps[:, None]
    np.testing.assert_allclose(got.row_averages_TxI[index], x, rtol=1e-6)
    np.testing.assert_allclose(got.column_averages_TxJ[index], y, rtol=1e-6)
    np.testing.assert_allclose(got.lower_T[index], (x @ game).min(1), atol=1e-6)
    np.testing.assert_allclose(got.upper_T[index], (y @ game.T).max(1), atol=1e-6)
  spent = [0]
  for step in range(1, num_steps):
    spent.append(spent[-1] + 1 + anticipations * (step > initial_steps))
  np.testing.assert_array_equal(got.best_responses_T[0], spent)


def test_the_certificate_holds_the_value_and_closes():
  payoffs = np.random.default_rng(1).normal(size=(6, 20, 20)).astype(np.float32)
  got = jax.jit(jax.vmap(lambda game: games.anticipatory_fictitious_play(game, 400)))(
    payoffs
  )
  for index, game in enumerate(payoffs):
    value = games.solve(game).value
    assert (np.asarray(got.lower_T[index]) <= value + 1e-5).all()
    assert (np.asarray(got.upper_T[index]) >= value - 1e-5).all()
    assert got.upper_T[index, -1] - got.lower_T[index, -1] < 0.15


def test_at_equal_best_responses_anticipation_is_better_in_most_gaussian_games():
  # The paper has .9 of games after about 30 best responses; of 1,500 it is .96 at 50.
  payoffs = np.random.default_rng(2).normal(size=(100, 20, 20)).astype(np.float32)
  plain = jax.jit(jax.vmap(lambda game: games.fictitious_play(game, 51)))(payoffs)
  ahead = jax.jit(jax.vmap(lambda game: games.anticipatory_fictitious_play(game, 26)))(
    payoffs
  )
  assert plain.best_responses_T[0, -1] == ahead.best_responses_T[0, -1] == 50
  assert np.mean(ahead.lower_T[:, -1] > plain.lower_T[:, -1]) >= 0.9


@pytest.mark.parametrize(
  ("moves", "one_play", "most"),
  [(3, True, 1), (4, True, 1), (5, True, 5), (7, False, 8)],
)
def test_on_cycles_anticipation_is_exploited_by_a_constant_over_t(
  moves, one_play, most
):
  num_steps = 500
  keys = jax.random.split(jax.random.key(moves), 30)
  got = in_groups(num_steps, shared=one_play)(cyclic(moves), keys)
  exploited = -np.asarray(got.lower_T) * np.arange(1, num_steps + 1)
  assert 0 <= exploited.min() and exploited.max() <= most + 1e-4
  if one_play:
    np.testing.assert_array_equal(got.row_averages_TxI, got.column_averages_TxJ)


def test_rates_on_a_cycle():
  num_steps = 1000
  keys = jax.random.split(jax.random.key(0), 30)
  slopes = []
  for anticipations in (0, 1):
    play = in_groups(num_steps, shared=True, num_anticipations=anticipations)
    exploited = -np.asarray(play(cyclic(5), keys).lower_T).mean(axis=0)
    steps = np.arange(50, num_steps)
    slopes.append(stats.linregress(np.log(steps), np.log(exploited[49:-1])).slope)
  assert -0.6 <= slopes[0] <= -0.4
  assert -1.1 <= slopes[1] <= -0.9


def test_on_a_transitive_game_anticipation_is_exploited_by_less():
  # Over t: (n + 1) / n at most, what the first play loses, and in the end 3 / n, the
  # least that a move beats another by.
  moves = 7
  got = games.anticipatory_fictitious_play(transitive(moves), 200, shared=True)
  exploited = -np.asarray(got.lower_T) * np.arange(1, 201)
  assert exploited.max() == pytest.approx((moves + 1) / moves, rel=1e-5)
  assert exploited[-1] == pytest.approx(3 / moves, rel=1e-4)
  plain = games.fictitious_play(transitive(moves), 200, shared=True)
  rows, _ = played(transitive(moves), 200, 0, 0, shared=True)
  np.testing.assert_array_equal(plain.row_plays_T, rows)
  assert -plain.lower_T[-1] * 200 > 5 * exploited[-1]


def test_plays_do_not_change_with_scale_and_shift_nor_ties_by_rounding():
  # In floats none of these payoffs is exact; the integers' ties are.
  exact = cyclic(5)
  keys = jax.random.split(jax.random.key(3), 4)
  play = in_groups(1500)
  one = play(exact, keys)
  for scale, shift in ((0.1, 0.0), (0.3, -0.7)):
    other = play((scale * exact + shift).astype(np.float32), keys)
    np.testing.assert_array_equal(one.row_plays_T, other.row_plays_T)
    np.testing.assert_array_equal(one.column_plays_T, other.column_plays_T)
    np.testing.assert_allclose(scale * one.lower_T + shift, other.lower_T, atol=1e-5)


def test_ties_are_broken_uniformly_or_by_the_lowest_index():
  payoffs = np.zeros((3, 3), int)
  ties = games.fictitious_play(payoffs, 2001, key=jax.random.key(0))
  rows, columns = ties.row_plays_T[1:], ties.column_plays_T[1:]
  assert stats.chisquare(np.bincount(rows)).pvalue > 1e-4
  together = stats.contingency.crosstab(rows, columns).count
  assert stats.chi2_contingency(together).pvalue > 1e-4
  assert not games.fictitious_play(payoffs, 50).row_plays_T.any()


@pytest.mark.parametrize(
  ("payoffs", "options", "words"),
  [
    ([1.0, 2.0], {}, "matrix"),
    ([[1.0, np.nan]], {}, "finite"),
    ([[]], {}, "matrix"),
    ([[1, 2], [3, 4]], {"shared": True}, "A = -A'"),
    ([[0, 2**28], [0, 0]], {}, "int32"),
    ([[1, 2], [3, 4]], {"initial": (0, 2)}, "initial"),
    ([[1, 2], [3, 4]], {"num_anticipations": -1}, "num_anticipations"),
  ],
)
def test_wrong_games_end_in_one_line(payoffs, options, words):
  with pytest.raises(ConfigError, match=words) as raised:
    games.anticipatory_fictitious_play(payoffs, 10, **options)
  assert "\n" not in str(raised.value)
