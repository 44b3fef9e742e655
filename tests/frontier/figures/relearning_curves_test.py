"""Relearning curves: which panels there are and what each shows."""

from tests.frontier import made_up
from tests.frontier.made_up import SMALL, synthetic
from undo_jax.frontier.figures import relearning_curves


def test_one_attack_needs_one_panel():
  assert len(relearning_curves.draw(synthetic(SMALL)).axes) == 1


def test_the_worst_case_stands_before_a_panel_for_each_attack():
  results = synthetic(SMALL, 100, second_attack=True)
  axes = relearning_curves.draw(results).axes
  assert [a.get_title("left") or a.get_title() for a in axes] == [
    "worst case",
    "full finetuning",
    "LoRA",
  ]


def test_the_worst_case_is_over_the_attacks_that_the_config_names():
  chosen = made_up.report(worst_over=("lora",))
  results = synthetic(SMALL, 100, second_attack=True, report=chosen)
  first, relearn, lora = (
    [tuple(line.get_ydata()) for line in axes.get_lines()]
    for axes in relearning_curves.draw(results).axes
  )
  assert first == lora != relearn
