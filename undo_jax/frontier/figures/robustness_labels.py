"""Robustness against labels: what had to be known as forget or retain."""

import functools

from undo_jax.frontier import statistics
from undo_jax.frontier.figures import robustness_compute
from undo_jax.frontier.figures.figure import Figure
from undo_jax.frontier.figures.robustness_compute import Price

LABELS = Price(
  name="labels",
  title="labelled tokens of pretraining's",
  mean=statistics.labelled,
  of_run=lambda run: run.labels.share_of_pretraining,
)
FIGURE = Figure(
  draw=functools.partial(robustness_compute.draw, price=LABELS),
  title="Robustness against labels",
  caption=(
    "The labels that a model needed: tokens that it read and that had to be known as "
    "forget or retain, as a share of those that the base was pretrained on. Data "
    "filtering labels all of them; unlearning reads some labelled ones, and "
    "distillation on pretraining's own mixture none. Where a classifier selects rows, "
    "those that it learned from count once. Lines, bars and hollow models are as above."
  ),
  needs=("filtered", "unlearned", "attack", "labels"),
)
