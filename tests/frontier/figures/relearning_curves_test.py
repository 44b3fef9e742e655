"""Relearning curves: which panels there are and what each shows."""

import math

from tests.frontier import made_up
from tests.frontier.crowd import crowded
from tests.frontier.figures import parts
from tests.frontier.made_up import ARITHMETIC, SMALL, language, synthetic
from undo_jax.frontier import statistics
from undo_jax.frontier.figures import relearning_curves
from undo_jax.frontier.figures.render import WIDE


def panels(results):
  legend, *shown = parts.views(relearning_curves.draw(results, WIDE))
  return shown


def curves(panel):
  """Return the curves of a panel by model."""
  (layer,) = (
    each
    for each in parts.layers(panel, "line")
    if "strokeWidth" in each["encoding"] and "stroke" in each["encoding"]
  )
  return {row["model"]: row for row in layer["data"]["values"]}


def test_one_attack_on_few_models_needs_one_panel():
  assert len(panels(synthetic())) == 1
  assert len(ARITHMETIC) == 10


def test_curves_are_the_worst_forget_scores_of_the_means_and_of_every_seed():
  results = synthetic(seeds=(0, 1, 2))
  (panel,) = panels(results)
  shown = curves(panel)
  faint = parts.rows(panel, "line", 0)
  for name, model in results.models.items():
    steps, scores = statistics.curve(results, name, ("relearn",))
    row = shown[model.label]
    assert row["step"] == steps
    for got, score in zip(row["score"], scores, strict=True):
      assert math.isclose(got, score.value, rel_tol=1e-5)
    for run in model.runs:
      (seed,) = (
        r for r in faint if r["model"] == model.label and r["seed"] == run.seed
      )
      worst = run.attacks["relearn"].worst_forget
      assert all(
        math.isclose(a, b, rel_tol=1e-5)
        for a, b in zip(seed["score"], worst, strict=True)
      )


def test_the_worst_case_stands_before_a_panel_for_each_method():
  results = synthetic(SMALL, 100, second_attack=True)
  first, *methods = panels(results)
  assert parts.title(first) == "worst case over full finetuning, LoRA"
  assert [parts.title(panel) for panel in methods] == ["MaxEnt", "UNDO"]
  (thin,) = (
    layer
    for layer in parts.layers(methods[1], "line")
    if layer["mark"].get("strokeDash")
  )
  envelope = curves(methods[1])["UNDO α = 0.3"]
  full, lora = thin["data"]["values"]
  assert (full["attack"], lora["attack"]) == ("full finetuning", "LoRA")
  both = {step: [] for step in envelope["step"]}
  for of_attack in (full, lora):
    for step, score in zip(of_attack["step"], of_attack["score"], strict=True):
      both[step].append(score)
  for step, score in zip(envelope["step"], envelope["score"], strict=True):
    assert score >= max(both[step])


def test_the_worst_case_is_over_the_attacks_that_the_config_names():
  chosen = made_up.report(worst_over=("lora",))
  results = synthetic(SMALL, 100, second_attack=True, report=chosen)
  first, *_ = panels(results)
  for name, model in results.models.items():
    lora = model.runs[0].attacks["lora"]
    row = curves(first)[model.label]
    assert row["step"] == list(lora.steps), name
    assert all(
      math.isclose(a, b, rel_tol=1e-5)
      for a, b in zip(row["score"], lora.worst_forget, strict=True)
    )


def test_many_models_have_a_panel_for_each_method():
  results = crowded(seeds=(0,), last_step=10)
  first, *methods = panels(results)
  assert len(curves(first)) == 44
  assert sum(len(curves(panel)) for panel in methods) == 42
  assert max(len(curves(panel)) for panel in methods) == 8


def test_scores_without_a_range_have_an_axis_of_their_values():
  (panel,) = panels(language())
  low, high = panel["layer"][0]["encoding"]["y"]["scale"]["domain"]
  scores = [s for row in curves(panel).values() for s in row["score"]]
  assert low < min(scores) and max(scores) < high < 6


def test_an_edit_is_a_level_line_and_lifts_the_worst_case_from_the_start():
  results = made_up.with_edit(
    synthetic(SMALL, 100), {"undo_alpha_0.3": (0.1, 0.6, 0.2)}
  )
  first, *methods = panels(results)
  envelope = curves(first)["UNDO α = 0.3"]
  assert envelope["step"][0] == 0 and envelope["score"][0] == 0.6
  (thin,) = (
    layer
    for layer in parts.layers(methods[1], "line")
    if layer["mark"].get("strokeDash")
  )
  (level,) = [r for r in thin["data"]["values"] if r["attack"] == "pruning"]
  assert (level["step"], level["score"]) == ([0, 100], [0.6, 0.6])
