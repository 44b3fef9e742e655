"""The attacks that would have been enough, in tables made by hand."""

import dataclasses
import itertools

import numpy as np
import pytest

from tests.frontier import made_up
from undo_jax.frontier import report, suite


def results_of(table, *, retain=None):
  """Return results of models of one seed; `table` has worst scores by model, attack."""
  plain = made_up.synthetic(tuple(table), 100)
  names = list(next(iter(table.values())))
  models = {}
  for name, model in plain.models.items():
    (run,) = model.runs
    attacks = {
      attack: made_up.curve([0.0, 0.0, 0.0, score])
      for attack, score in table[name].items()
    }
    before = dataclasses.replace(run.before, retain=(retain or {}).get(name, 0.95))
    run = dataclasses.replace(run, attacks=attacks, before=before)
    models[name] = dataclasses.replace(model, runs=(run,))
  adversaries = {name: made_up.adversary(name) for name in names}
  return dataclasses.replace(plain, models=models, attacks=adversaries)


def table(rows):
  return {name: dict(zip("abc", scores, strict=True)) for name, scores in rows.items()}


def test_the_fewest_attacks_for_the_best_and_for_every_release():
  rows = {
    "base": (0.9, 0.9, 0.9),
    "data_filtering": (0.2, 0.1, 0.0),  # Worst under a.
    "max_ent": (0.1, 0.8, 0.1),  # Under b.
    "undo_alpha_0.3": (0.3, 0.3, 0.5),  # Under c.
  }
  found = suite.find(results_of(table(rows)), 50)
  # Released, -0.2 is the most; a alone would let MaxEnt have -0.1.
  assert found.best == "data_filtering"
  assert found.guarantee == ("a", "b")
  assert found.every == ("a", "b", "c")
  assert (found.releases, found.attacks) == (4, 3)


def test_what_lies_within_the_slack_is_the_same():
  rows = {
    "base": (1.0, 1.0, 1.0),
    "data_filtering": (0.0, 0.015, 0.0),
    "max_ent": (0.5, 0.5, 0.51),
  }
  found = suite.find(results_of(table(rows)), 50)
  assert len(found.every) == 1 and len(found.guarantee) == 1


def test_broken_models_are_no_releases():
  rows = {
    "base": (0.9, 0.9, 0.9),
    "data_filtering": (0.2, 0.1, 0.1),
    "max_ent": (0.0, 0.0, 0.0),
  }
  made = results_of(table(rows), retain={"max_ent": 0.1})
  assert suite.game(made, 50).releases == ("base", "data_filtering")


def test_one_attack_or_equal_scores_have_no_suite():
  one = {"base": {"a": 0.9}, "data_filtering": {"a": 0.1}}
  assert suite.find(results_of(one), 50) is None
  rows = {"base": (0.5,) * 3, "data_filtering": (0.5,) * 3}
  assert suite.find(results_of(table(rows)), 50) is None


@pytest.mark.parametrize("seed", range(5))
def test_a_cover_holds_every_row_and_no_smaller_one_does(seed):
  payoffs = np.random.default_rng(seed).integers(0, 6, (7, 6)).astype(float)
  columns = suite._cover(payoffs, 0.5)

  def holds(chosen):
    return (payoffs[:, chosen].min(axis=1) <= payoffs.min(axis=1) + 0.5).all()

  assert holds(columns)
  smaller = itertools.combinations(range(6), len(columns) - 1)
  assert not any(holds(chosen) for chosen in smaller if chosen)


def test_many_attacks_take_no_time_to_choose_from():
  # A row for each attack, which it alone holds: all are needed.
  payoffs = 1.0 - np.eye(40)
  assert suite._cover(payoffs, 0.5) == tuple(range(40))


def test_the_page_says_it():
  rows = {
    "base": (0.9, 0.9, 0.9),
    "data_filtering": (0.2, 0.1, 0.0),
    "max_ent": (0.1, 0.8, 0.1),
  }
  page = " ".join(report.page(results_of(table(rows))).split())
  assert "a, b alone would have given every one of these 3 models" in page
