"""The table of every seed: its numbers are those of results.json."""

from tests.frontier.made_up import SMALL, synthetic
from undo_jax.frontier import report, run_table


def test_each_seed_has_its_scores_its_worst_attack_and_its_directory():
  results = report.located(synthetic(SMALL, 100, seeds=(3, 4), second_attack=True))
  table = run_table.runs(results)
  assert len(table.rows) == 2 * len(SMALL)
  rows = [row for row in table.rows if row.name == "max_ent"]
  for row, run in zip(rows, results.models["max_ent"].runs, strict=True):
    shown = dict(zip(table.head[1:], row.cells, strict=True))
    assert shown["seed"] == str(run.seed)
    assert shown["retain"] == f"{run.before.retain:.3f}"
    full, lora = run.attacks["relearn"], run.attacks["lora"]
    at = full.steps.index(100)
    assert full.worst_forget[at] > lora.worst_forget[lora.steps.index(100)]
    assert shown["worst forget after 100 updates"] == f"{full.worst_forget[at]:.3f}"
    rate = full.worst_learning_rate[at]
    assert shown["by, after 100 updates"] == f"full finetuning, {rate:g}"
    assert shown["FLOPs"] == "1e+13" and shown["updates"] == "200"
    assert shown["stopped"] == "fixed budget"
    assert shown["run directory"] == "stages/made-up"
    assert row.link == "stages/made-up/config.json"


def test_one_attack_needs_no_name():
  results = synthetic(SMALL, 20)
  table = run_table.runs(results)
  by = table.head.index("by, after all 20 updates") - 1
  for row in table.rows:
    (run,) = results.models[row.name].runs
    assert float(row.cells[by]) == run.attacks["relearn"].worst_learning_rate[-1]
