"""Warnings: what they say, of which models, seeds and attacks."""

import json

from tests.frontier import made_up
from tests.frontier.made_up import RATES, SMALL, at_rate, changed_run, synthetic
from undo_jax.frontier import report, run_table, statistics, tables
from undo_jax.frontier import results as results_lib
from undo_jax.frontier import warnings as warnings_lib
from undo_jax.frontier.figures import attack_defense, learning_rates, retain_forget
from undo_jax.frontier.results import Stopped
from undo_jax.frontier.warnings import warnings


def test_no_warnings_where_the_grid_brackets_and_models_recover():
  # Only the last budget, where even data filtering has relearned, is noisy.
  (text,) = warnings(synthetic())
  assert text.startswith("After 500 updates")
  assert "<p>None.</p>" not in report.page(synthetic())
  assert warnings(synthetic(last_step=100)) == []
  assert "<p>None.</p>" in report.page(synthetic(last_step=100))


def test_warns_of_the_step_limit_and_of_the_edge_of_the_grid():
  results = synthetic(SMALL, 20)
  limit = Stopped(reason="step limit", updates=12345)
  results = changed_run(results, "undo_alpha_0.3", stopped=limit)
  for name in ("base", "max_ent"):
    results = at_rate(results, name, RATES[-1])
  edge, limit = warnings(results)
  assert edge.startswith("MaxEnt: the largest learning rate of the grid, 0.003,")
  assert "(2 of 2 steps, seed 0); a larger one" in edge
  assert limit.startswith("UNDO α = 0.3") and "12,345 updates" in limit


def test_warnings_name_the_seeds_and_the_attack():
  results = synthetic(SMALL, 20, seeds=(3, 4, 5))
  for index in (0, 2):
    results = at_rate(results, "max_ent", RATES[0], index)
    limit = Stopped(reason="step limit", updates=5)
    results = changed_run(results, "undo_alpha_0.3", index, stopped=limit)
  edge, limit = warnings(results)
  assert "(4 of 4 steps, seeds 3, 5); a smaller one" in edge
  assert "after 5 updates (seeds 3, 5)" in limit
  results = synthetic(SMALL, 50, second_attack=True)
  (run,) = results.models["max_ent"].runs
  results = changed_run(results, "max_ent", attacks={"relearn": run.attacks["relearn"]})
  assert any(
    text.startswith("MaxEnt: not attacked by LoRA") for text in warnings(results)
  )
  under = made_up.relearning(
    [run.attacks["lora"].worst_forget], steps=(0, 50, 100, 150)
  )
  attacks = {**run.attacks, "lora": under}
  results = changed_run(results, "max_ent", attacks=attacks)
  assert "MaxEnt: attacked under LoRA with a single learning rate, 0.0001." in warnings(
    results
  )


def test_a_diverged_member_is_warned_of_and_never_the_worst():
  results = synthetic(SMALL, 50, seeds=(7, 8))
  under = results.models["max_ent"].runs[1].attacks["relearn"]
  forget = [list(scores) for scores in under.forget_by_learning_rate]
  retain = [list(scores) for scores in under.retain_by_learning_rate]
  forget[3][2:] = retain[3][2:] = [None] * 4
  forget[2][4:] = retain[2][4:] = [None] * 2
  under = made_up.relearning(forget, steps=under.steps, retain_RxS=retain)
  results = changed_run(results, "max_ent", 1, attacks={"relearn": under})
  results = results_lib.from_json(results_lib.to_json(results), path="results.json")
  texts = [text for text in warnings(results) if "diverged" in text]
  assert texts == [
    f"MaxEnt: under full finetuning the learning rate {rate} diverged (seed 8); where "
    "it did it is never the worst."
    for rate in ("0.001", "0.003")
  ]
  assert report.page(results)
  worst = statistics.worst_forget(results, "max_ent", 50)
  assert worst.by_seed[1] == max(forget[0][5], forget[1][5])


def test_a_warning_stands_beside_the_numbers_that_it_is_about():
  results = synthetic(
    SMALL,
    500,
    seeds=(0, 1),
    second_attack=True,
    report=made_up.report(worst_over=("relearn",)),
  )
  results = at_rate(results, "max_ent", RATES[-1], 1)  # Seed 1 alone, and no LoRA.
  (edge,) = [c for c in warnings_lib.cautions(results) if "grid" in c.text]
  assert (edge.model, edge.attack, edge.seeds) == ("max_ent", "relearn", (1,))

  def marked(table):
    return {
      (row.name, table.head[i + 1], row.cells[0])
      for row in table.rows
      for i, mark in enumerate(row.marks)
      if mark == edge.text
    }

  by_seed = run_table.runs(results)
  assert {(name, seed) for name, _, seed in marked(by_seed)} == {("max_ent", "1")}
  assert all(head.startswith("by, ") for _, head, _ in marked(by_seed))
  main = tables.main(results)
  heads = {head for name, head, _ in marked(main) if name == "max_ent"}
  assert heads == {head for head in main.head if head.startswith("worst forget")}
  by_attack = tables.by_attack(results)
  assert by_attack is not None
  heads = {head for _, head, _ in marked(by_attack)}
  assert heads == {head for head in by_attack.head if head.startswith("full finetun")}
  # What is said of robustness at one budget stands at the head of its column.
  noisy = [c.budget for c in warnings_lib.cautions(results) if c.about == "robustness"]
  at = {h for h, mark in zip(main.head, main.marks, strict=True) if mark}
  assert at == {f"robustness after {budget}" for budget in noisy} & {*main.head}
  page = report.page(results)
  assert page.count(f'title="{edge.text}') >= len(marked(main)) + len(marked(by_seed))


def test_models_that_nobody_attacked_are_said_to_be_so():
  results = synthetic((*SMALL, "rmu"), 50, second_attack=True)
  for index in range(len(results.seeds)):
    results = changed_run(results, "rmu", index, attacks={})
  main = made_up.row(tables.main(results), "rmu")
  under = ("worst", "robustness", "retain after", "steps")
  assert {cell for head, cell in main.items() if head.startswith(under)} == {
    "not attacked"
  }
  assert main["retain before"] == "0.950" and main["updates"] == "160"
  by_seed = made_up.row(run_table.runs(results), "rmu")
  assert by_seed["worst forget after 20 updates"] == "not attacked"
  columns = {label: (name,) for name, label in (("relearn", "a"), ("lora", "b"))}
  drawn = attack_defense.cells(results, columns)
  shown = {cell["model"] for of_budget in drawn.values() for cell in of_budget}
  assert shown == {"base", "data filtering", "MaxEnt", "UNDO α = 0.3"}
  for figure in (attack_defense, learning_rates):
    assert "RMU" not in json.dumps(figure.draw(results, 1000))
  assert "RMU" in json.dumps(retain_forget.draw(results, 1000))


def test_an_edit_is_warned_of_at_its_largest_strength_alone():
  plain = synthetic(SMALL, 100)
  rising, falling = (0.1, 0.2, 0.3), (0.3, 0.2, 0.1)
  results = made_up.with_edit(plain, {"max_ent": rising, "undo_alpha_0.3": falling})
  (text,) = [text for text in warnings(results) if "strength" in text]
  assert text == (
    "MaxEnt: the largest strength of the grid, 0.5, was most often the worst under "
    "pruning (seed 0); a larger one might bring back more."
  )
  assert not any("learning rate" in text for text in warnings(results))
  bits = made_up.with_edit(plain, {"max_ent": rising}, label="bits", goes_on=False)
  assert not any("strength" in text for text in warnings(bits))
  lost = made_up.with_edit(plain, {"max_ent": (0.2, 0.1, None)})
  (text,) = [text for text in warnings(lost) if "strength" in text]
  assert "under pruning the strength 0.5 left no finite score (seed 0)" in text
