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
    "The labels that a model needed: tokens read of which someone had to know whether "
    "they are to be forgotten or to be kept, as a share of those that the base was "
    "pretrained on. Data filtering sorts all of them; unlearning reads some that are "
    "labelled, and distillation on pretraining's own mixture none. Where a classifier "
    "selects the rows that are read, those that it learned from count, once. Lines, "
    "bars and hollow models are as above."
  ),
  needs=("filtered", "unlearned", "attack", "labels"),
)
