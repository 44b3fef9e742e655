"""Warnings: what they say, of which models, seeds and attacks."""

from tests.frontier import made_up
from tests.frontier.made_up import RATES, SMALL, at_rate, changed_run, synthetic
from undo_jax.frontier import report, statistics
from undo_jax.frontier import results as results_lib
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
