"""Releases against attacks: payoffs against the file, plays against brute force."""

import functools
import json
import pathlib

import numpy as np
import pytest
from scipy.optimize import linprog

from experiments.fictitious_play import releases
from undo_jax.utils.errors import ConfigError

BOARD = pathlib.Path(__file__).parents[3] / "docs/frontier/leaderboard.jsonl"
RNG = np.random.default_rng(0)


@functools.cache
def results():
  return releases.read((str(BOARD),))


def test_payoffs_are_scores_of_the_file_less_compute():
  game = releases.game(results(), 0.5)
  lines = [json.loads(line) for line in BOARD.read_text().splitlines()]
  models = {name: m for line in lines for name, m in line["models"].items()}
  assert {"base", "filtering_num_steps_500"}.isdisjoint(game.releases)  # Not attacked.
  assert "undo_alpha_0.6" in game.releases
  for row, name in enumerate(game.releases):
    for column, attack in enumerate(game.attacks):
      which, rate, updates = attack.split(", ")
      scores = []
      for run in models[name]["runs"]:
        under = run["attacks"][which]
        r = under["learning_rates"].index(float(rate))
        s = under["steps"].index(int(updates.split()[0]))
        scores += [of_seed[r][s] for of_seed in under["forget"]]
      cost = np.mean(
        [r["compute"]["fraction_of_filtered"] for r in models[name]["runs"]]
      )
      expected = -np.mean(scores) - 0.5 * cost
      np.testing.assert_allclose(game.payoffs_IxJ[row, column], expected, atol=1e-12)


@pytest.mark.parametrize("mixing", ["fictitious", "anticipatory"])
def test_bounds_are_those_of_agents_by_the_papers_rule(mixing):
  payoffs = RNG.normal(size=(6, 5))
  got = releases.bounds(payoffs, mixing, 9, (2, 3))
  rows, columns = [2], [3]
  for agent in range(1, 10):
    count = len(rows)
    ephemeral = [mixing == "anticipatory" and k % 2 == 1 for k in range(count + 1)]
    reported = [k for k in range(count) if not ephemeral[k] or k == count - 1]
    lower = payoffs[[rows[k] for k in reported]].mean(axis=0).min()
    upper = payoffs[:, [columns[k] for k in reported]].mean(axis=1).max()
    np.testing.assert_allclose(got.lower_K[agent - 1], lower, atol=1e-5)
    np.testing.assert_allclose(got.upper_K[agent - 1], upper, atol=1e-5)
    faced = [k for k in range(count) if not ephemeral[k] or k == count - 1]
    row = payoffs[:, [columns[k] for k in faced]].mean(axis=1).argmax()
    column = payoffs[[rows[k] for k in faced]].mean(axis=0).argmin()
    rows.append(int(row))
    columns.append(int(column))


def test_double_oracle_ends_at_the_value():
  payoffs = RNG.normal(size=(7, 9))
  got = releases.bounds(payoffs, "equilibrium", 20, (0, 0))
  solved = linprog(
    [0] * 7 + [-1],
    A_ub=np.hstack([-payoffs.T, np.ones((9, 1))]),
    b_ub=np.zeros(9),
    A_eq=[[1] * 7 + [0]],
    b_eq=[1],
    bounds=[(0, None)] * 7 + [(None, None)],
  )
  value = -solved.fun
  assert (got.lower_K <= value + 1e-7).all() and (got.upper_K >= value - 1e-7).all()
  np.testing.assert_allclose([got.lower_K[-1], got.upper_K[-1]], value, atol=1e-7)


def test_agents_are_counted_until_the_gap_stays_small():
  zeros = np.zeros(5)

  def of(*gaps):
    return releases.agents_until(releases.Bounds(zeros, np.array(gaps)), 0.1)

  assert of(1.0, 0.05, 0.5, 0.1, 0.0) == 4
  assert of(0.0, 0.0, 0.0, 0.0, 0.0) == 1
  assert of(0.0, 0.0, 0.0, 0.0, 0.2) is None


def test_a_run_without_attacks_is_no_game(tmp_path):
  board = tmp_path / "board.jsonl"
  board.write_text(BOARD.read_text().splitlines()[0] + "\n")
  with pytest.raises(ConfigError, match="two releases that were attacked"):
    releases.game(releases.read((str(board),)), 0.0)
