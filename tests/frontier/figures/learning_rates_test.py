"""Scores by learning rate: a panel an attack, a row a model, a cell a rate."""

import pytest

from tests.frontier.figures import parts
from tests.frontier.made_up import (
  RATES,
  SMALL,
  changed_run,
  relearning,
  synthetic,
  with_edit,
)
from undo_jax.frontier.figures import learning_rates


def cells(panel):
  return {(row["model"], row["column"]): row for row in parts.rows(panel)}


def test_every_attack_has_a_panel():
  results = synthetic(SMALL, 100, second_attack=True)
  titles = [parts.title(view) for view in parts.drawn(learning_rates, results)]
  assert titles == ["full finetuning", "LoRA"]


def test_a_cell_is_the_mean_score_of_its_rate_at_the_last_budget():
  results = synthetic(SMALL, 100, seeds=(0, 1, 2))
  (panel,) = parts.drawn(learning_rates, results)
  shown = cells(panel)
  assert len(shown) == len(SMALL) * len(RATES)
  for model in results.models.values():
    for index, rate in enumerate(RATES):
      under = [run.attacks["relearn"] for run in model.runs]
      mean = sum(u.forget_by_learning_rate[index][-1] for u in under) / 3
      worst = sum(u.worst_learning_rate[-1] == rate for u in under) / 3
      cell = shown[model.label, f"{rate:g}"]
      assert cell["value"] == pytest.approx(mean, rel=1e-5)
      assert cell["edge"] == pytest.approx(worst)


def test_rates_that_are_equally_bad_are_all_outlined_and_the_diverged_crossed():
  tied = relearning([[0.1, 0.5], [0.1, 0.5], [0.1, None]], steps=(0, 20))
  results = changed_run(synthetic(SMALL, 20), "max_ent", attacks={"relearn": tied})
  (panel,) = parts.drawn(learning_rates, results)
  row = [cells(panel)["MaxEnt", f"{rate:g}"] for rate in RATES[:3]]
  assert [cell["edge"] for cell in row] == [1, 1, 0]
  assert [cell["text"] for cell in row] == ["0.50", "0.50", "×"]


def test_the_columns_of_an_edit_are_its_strengths():
  results = with_edit(synthetic(SMALL, 100), {"max_ent": (0.1, 0.4, 0.2)})
  rates, strengths = parts.drawn(learning_rates, results)
  axes = [panel["layer"][0]["encoding"]["x"]["title"] for panel in (rates, strengths)]
  assert axes == ["learning rate", "share of weights"]
  edges = {column: row["edge"] for (_, column), row in cells(strengths).items()}
  assert edges == {"0.1": 0, "0.3": 1, "0.5": 0}
