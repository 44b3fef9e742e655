"""Tables: what stands in their columns, in closed form."""

import dataclasses

import numpy as np

from tests.frontier import made_up
from tests.frontier.made_up import (
  ARITHMETIC,
  SMALL,
  cells,
  changed_run,
  language,
  row,
  synthetic,
)
from undo_jax.frontier import report, run_table, statistics, tables, variance_tables
from undo_jax.frontier.figures.style import model_styles
from undo_jax.frontier.labels import Selected
from undo_jax.frontier.results import Ablation, Scores
from undo_jax.plan.config import References

NO_REFERENCES = References(base=None, filtered=None, unlearned=None)


def with_worst_at_20(results, name, score):
  """Return results in which a model's worst score after 20 updates is another."""
  (run,) = results.models[name].runs
  under = run.attacks["relearn"]
  worst = (*under.worst_forget[:2], score, *under.worst_forget[3:])
  attacks = {"relearn": dataclasses.replace(under, worst_forget=worst)}
  return changed_run(results, name, attacks=attacks)


def test_main_table_has_the_closed_form_numbers():
  results = synthetic(("base", "data_filtering", "max_ent", "undo_alpha_0.5"))
  scores = {"max_ent": 0.9, "undo_alpha_0.5": 0.5, "data_filtering": 0.1}
  for name, score in scores.items():
    results = with_worst_at_20(results, name, score)
  page = report.page(results)
  assert '<th scope="col">robustness after 100</th>' in page
  shown = cells(page, "UNDO α = 0.5")
  assert shown[:3] == ["0.980", "0.020", "0.500"]
  assert shown[5] == "0.947"  # 0.98 less a third of 0.1, at the last step.
  assert shown[6] == "0.50"  # (0.9 - 0.5) / (0.9 - 0.1)
  assert shown[8:] == ["8,800", "0.440", "0.038%", "20"]


def test_the_terminal_shows_the_columns_that_the_readme_quotes():
  lines = report.text_table(synthetic(SMALL)).splitlines()
  head = lines[0].split("  ")
  assert [text.strip() for text in head if text.strip()] == [
    "model",
    "retain",
    "forget",
    "forget after 20 updates",
    "forget after 100 updates",
    "forget after all 500 updates",
    "compute",
  ]
  assert lines[4].split() == [
    "undo_alpha_0.3",
    *("0.980", "0.020", "0.752", "0.960", "0.980", "0.210"),
  ]
  assert len({len(line) for line in lines}) == 1 and len(lines) == 5


def test_scores_by_task_are_those_of_the_last_step_within_the_budget():
  results = synthetic(("base", "data_filtering", "rmu"))
  for name, model in results.models.items():
    under = model.runs[0].attacks["relearn"]
    scores = tuple(i / 1000 for i in range(len(under.steps)))
    under = dataclasses.replace(under, by_task={"division_equation": scores})
    results = changed_run(results, name, attacks={"relearn": under})
  for budget in (20, 29):
    table = tables.by_task(results, budget)
    assert table.head == ("model", "division equation")
    assert [each.cells for each in table.rows] == [("0.002",)] * 3
  assert tables.by_task(results).head[1:] == (
    "addition equation",
    "addition word",
    "multiplication equation",
  )


def test_models_are_shown_in_the_order_of_the_config():
  names = [*reversed(ARITHMETIC), "another"]
  results = synthetic(names)
  assert list(model_styles(results)) == names
  assert [each.name for each in tables.main(results).rows] == names


def test_recovery_of_a_cross_entropy_needs_data_filtering():
  results = language()
  assert "steps to recover half of base" in tables.main(results).head
  roles = dataclasses.replace(results.references, filtered=None)
  results = dataclasses.replace(results, references=roles)
  assert "steps to recover half of base" not in tables.main(results).head


def test_one_attack_needs_no_table_by_attack():
  assert tables.by_attack(synthetic(SMALL)) is None
  assert "by attack" not in report.page(synthetic())


def test_routed_models_are_shown_before_and_after_ablation():
  assert "Ablation" not in report.page(synthetic())
  names = ("base", "data_filtering", "max_ent", "routed", "sgtm")
  results = synthetic(names, 20)
  for name, retain in (("routed", 0.87), ("sgtm", 0.12)):
    whole = Scores(retain=retain, forget=0.96, by_task={})
    ablation = Ablation(before=whole, mlp_units=48, kv_heads=1)
    results = changed_run(results, name, ablation=ablation)
  table = report.page(results).split("<h2>Ablation</h2>")[1].split("</table>")[0]
  assert table.count('<th scope="row">') == 2
  after = results.models["sgtm"].runs[0].before
  assert cells(table, "sgtm") == [
    *("48", "1", "0.120", f"{after.retain:.3f}", "0.960", f"{after.forget:.3f}")
  ]


def test_models_stand_beside_the_rival_at_equal_compute():
  assert "at equal compute" not in report.page(synthetic())
  rival = made_up.report(rival="undo")
  results = synthetic((*ARITHMETIC, "routed"), 200, report=rival)  # It costs 0.5.
  table = tables.beside_rival(results)
  assert [each.name for each in table.rows] == [
    *("grad_diff", "rmu", "oracle_matching", "unlearn_and_distill", "routed")
  ]
  shown = ("routed", *table.rows[-1].cells)
  assert len(shown) == len(table.head)
  # Relearned by half after 30 updates, UNDO at 0.5 after 20 (and a cost of 0.44).
  assert shown[2] == "0.500"
  assert shown[4] == shown[9] == shown[14] == "undo_alpha_0.5"
  assert shown[5] == "0.980" and float(shown[3]) < float(shown[6])
  assert shown[7] == shown[12] == "1 of 1" and float(shown[8]) < float(shown[11])
  page, text = report.page(results), report.text_table(results)
  for all_of_it in (page, text):
    assert "undo within its compute" in all_of_it
  assert "<td>UNDO α = 0.5</td>" in page
  assert text.splitlines()[-1].split()[:2] == ["routed", "0.900"]
  (run,) = results.models["routed"].runs
  cheap = dataclasses.replace(run.compute, flops=run.compute.flops // 5)
  results = changed_run(results, "routed", compute=cheap)
  assert tables.beside_rival(results).rows[-1].cells[3:7] == ("–",) * 4


def test_costs_are_flops_where_there_is_no_data_filtering():
  rival = made_up.report(rival="undo")
  results = synthetic((*ARITHMETIC, "routed"), 20, report=rival)
  results = dataclasses.replace(results, references=NO_REFERENCES)
  assert row(tables.beside_rival(results), "routed")["FLOPs"] == "5e+14"


def test_certainty_shows_held_out_scores_and_censored_recovery():
  results = synthetic(SMALL, 100, seeds=(0, 1, 2))
  table = tables.certainty(results)
  shown = row(table, "undo_alpha_0.3")
  held_out = statistics.cross_fitted(results, "undo_alpha_0.3", 100)
  assert shown["likewise, held-out attack"] == (
    f"{held_out.value:.3f} ± {held_out.half_width:.3f}"
  )
  for part in (0.5, 0.9, 0.95):
    steps = statistics.recovery(results, "undo_alpha_0.3", part)
    median = sorted(999 if step is None else step for step in steps)[1]
    expected = str(median) if median < 999 else "> 100"
    assert shown[f"updates to {part:.0%} of base"].startswith(expected)
  worst = statistics.worst_forget(results, "undo_alpha_0.3", 100).value
  half = statistics.binomial_half_width(worst, 200)
  assert shown["its binomial error"] == f"{half:.3f}"
  # Half of the capability of data filtering is not back within 100 updates.
  assert row(table, "data_filtering")["updates to 50% of base"].startswith("> 100 (0")
  half_of_base = sorted(statistics.recovery(results, "max_ent"))[1]
  under = results.models["max_ent"].runs[0].attacks["relearn"]
  tokens = f"{half_of_base * under.tokens_per_update:,}"
  assert row(table, "max_ent")["attacker's tokens to 50%"] == tokens
  flops = f"{half_of_base * under.flops_per_update:.2g}"
  assert row(table, "max_ent")["attacker's FLOPs to 50%"] == flops
  assert "Held-out attacks and recovery" in report.page(results)
  one = tables.certainty(synthetic(SMALL, 100))
  assert "likewise, held-out attack" not in one.head  # Nothing is repeated.


def test_the_spread_is_that_of_each_seeds_components():
  """Score that depend on the run's seed alone, or on the attack's alone."""
  steps, shifts = (0, 20), np.array([-0.1, 0.0, 0.1])

  def of(by_run, by_attack):
    scores = 0.5 + by_run[:, None] + by_attack
    runs = [
      made_up.run(
        {
          "relearn": made_up.relearning(
            [[0.1, row[0]]],
            steps=steps,
            more_seeds=[[[0.1, value]] for value in row[1:]],
          )
        },
        seed=seed,
      )
      for seed, row in enumerate(scores.tolist())
    ]
    return made_up.model(runs)

  zero = np.zeros(3)
  models = {"runs": of(shifts, zero), "attacks": of(zero, shifts)}
  results = made_up.results(models, report=made_up.report(budgets=(20,)))
  table = variance_tables.spread(results)
  run, attack = "the run's seed", "the attacker's seed"
  assert table.head == ("model", run, attack, f"{run} × {attack}")
  assert list(row(table, "runs").values()) == ["0.100", "0.000", "0.000"]
  assert row(table, "attacks")[attack] == "0.100"
  assert "Which seed the spread comes from" in report.page(results)
  # Repeated in one way.
  assert variance_tables.spread(synthetic(SMALL, 20, seeds=(0, 1))) is None


def test_an_edit_has_one_column_and_counts_in_the_worst_case():
  plain = synthetic(SMALL, 100)
  results = made_up.with_edit(plain, dict.fromkeys(SMALL, (0.1, 0.2, 0.99)))
  shown = row(tables.by_attack(results), "max_ent")
  relearned = [f"full finetuning after {b} updates" for b in ("20", "all 100")]
  assert list(shown) == [*relearned, "pruning"]
  assert shown["pruning"] == "0.990"
  main = row(tables.main(results), "max_ent")
  assert main["worst forget after 20 updates"] == "0.990"
  assert main["steps to recover half of base"] == "0"
  by = row(run_table.runs(results), "max_ent")["by, after 20 updates"]
  assert by == "pruning, 0.5"


def test_labels_that_select_rows_stand_with_how_well_they_do():
  names = ("base", "data_filtering", "max_ent", "undo_alpha_0.5")
  plain = synthetic(names, seeds=(0, 1))
  assert tables.SELECTED not in tables.main(plain).head
  assert "Labelled rows: precision" not in report.page(plain)
  model = plain.models["undo_alpha_0.5"]
  runs = []
  for run, precision in zip(model.runs, (0.9, 0.8), strict=True):
    few = Selected(
      stage="selection_few",
      rows={"forget": 1000, "retain": 2000},
      tokens={"forget": 16_000, "retain": 32_000},
      precision=precision,
      recall=0.5,
    )
    other = dataclasses.replace(few, precision=0.99, recall=0.1)
    budget = dataclasses.replace(run.labels, selected=(other, few))
    runs.append(dataclasses.replace(run, labels=budget))
  models = plain.models | {"undo_alpha_0.5": dataclasses.replace(model, runs=(*runs,))}
  page = report.page(dataclasses.replace(plain, models=models))
  column = tables.main(dataclasses.replace(plain, models=models)).head.index(
    tables.SELECTED
  )
  assert cells(page, "UNDO α = 0.5")[column - 1] == "6,000: 0.850, 0.500"
  assert cells(page, "MaxEnt")[column - 1] == "–"
  assert "Labelled rows: precision" in page
