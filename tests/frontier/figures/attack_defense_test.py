"""The heat map of attacks: what its cells hold, and how they are shaded."""

import math

import numpy as np
import pytest

from tests.frontier.figures import parts
from tests.frontier.made_up import SMALL, changed_run, language, synthetic
from undo_jax.frontier.figures import attack_defense


def cells(panel):
  return {(row["model"], row["column"]): row for row in parts.rows(panel)}


def test_cells_are_means_of_seeds_and_the_worst_case_is_the_worst_of_each():
  results = synthetic(SMALL, 100, second_attack=True, seeds=(0, 1, 2))
  panels = parts.drawn(attack_defense, results)
  assert [parts.title(panel) for panel in panels] == [
    *("after 20 updates", "after 100 updates", "after all 200 updates")
  ]
  shown = cells(panels[1])
  for model in results.models.values():
    of_seed = [[], []]
    for run in model.runs:
      for at, attack in enumerate(("relearn", "lora")):
        under = run.attacks[attack]
        step = max(i for i, s in enumerate(under.steps) if s <= 100)
        of_seed[at].append(under.worst_forget[step])
    full, lora = np.mean(of_seed, axis=1)
    worst = np.mean(np.max(of_seed, axis=0))
    for column, value in (
      ("full finetuning", full),
      ("LoRA", lora),
      ("worst case", worst),
    ):
      cell = shown[model.label, column]
      assert cell["value"] == pytest.approx(value, rel=1e-5)
      assert cell["text"] == f"{value:.2f}"


def test_one_attack_has_a_column_for_each_budget():
  results = synthetic(SMALL, 200)
  (panel,) = parts.drawn(attack_defense, results)
  shown = cells(panel)
  under = results.models["max_ent"].runs[0].attacks["relearn"]
  for budget, step in ((20, 2), (100, 10), (200, 20)):
    score = under.worst_forget[step]
    assert shown["MaxEnt", f"after {budget}"]["value"] == pytest.approx(score, rel=1e-5)
  assert len(shown) == 3 * len(SMALL)


@pytest.mark.parametrize("results", [synthetic(), language()])
def test_the_more_capable_the_stronger_the_shade(results):
  sign = 1 if results.metrics["forget"].higher_is == "more capable" else -1
  for panel in parts.drawn(attack_defense, results):
    rows = sorted(parts.rows(panel), key=lambda row: sign * row["value"])
    shades = [int(row["fill"][len("var(--s") : -1]) for row in rows]
    assert shades == sorted(shades) and 0 <= shades[0] <= shades[-1] <= 8
    # The ink is that of the shade.
    assert all(row["ink"][8:] == row["fill"][7:] for row in rows)


def test_a_model_that_was_not_attacked_has_an_empty_cell():
  results = synthetic(SMALL, 20, second_attack=True)
  (run,) = results.models["max_ent"].runs
  alone = {"relearn": run.attacks["relearn"]}
  results = changed_run(results, "max_ent", attacks=alone)
  panel = parts.drawn(attack_defense, results)[0]
  assert cells(panel)["MaxEnt", "LoRA"]["text"] == "–"
  assert not math.isnan(cells(panel)["MaxEnt", "worst case"]["value"])
