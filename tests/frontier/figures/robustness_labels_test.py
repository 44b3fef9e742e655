"""Robustness against labels: the axis is the share of labelled tokens."""

import dataclasses

import pytest

from tests.frontier.figures import parts
from tests.frontier.made_up import changed_model, synthetic
from undo_jax.frontier import figures, statistics
from undo_jax.frontier.figures.robustness_labels import FIGURE

NAMES = ("base", "data_filtering", "max_ent", "undo_alpha_0.5")


def labelled(results, name, *shares):
  """Return results where a model's seeds needed such shares of labels."""
  runs = tuple(
    dataclasses.replace(
      run, labels=dataclasses.replace(run.labels, share_of_pretraining=share)
    )
    for run, share in zip(results.models[name].runs, shares, strict=True)
  )
  return changed_model(results, name, runs=runs)


def test_points_stand_at_their_labels_and_the_front_prefers_few():
  results = synthetic(NAMES, seeds=(0, 1))
  for name, share in (("data_filtering", 1.0), ("max_ent", 0.25)):
    results = labelled(results, name, share, share)
  results = labelled(results, "undo_alpha_0.5", 0.2, 0.4)
  panel = parts.drawn(FIGURE, results)[-1]
  points = {row["model"]: row for row in parts.rows(panel)}
  undo = points["UNDO α = 0.5"]
  assert undo["x"] == pytest.approx(0.3)
  # Student's t of one degree of freedom at 97.5 %, times s / sqrt(2) = 0.1.
  assert undo["x_high"] - undo["x"] == pytest.approx(12.7062 * 0.1, rel=1e-4)
  assert points["data filtering"]["x"] == 1 and points["MaxEnt"]["x"] == 0.25
  robust = statistics.robustness_after(results, "undo_alpha_0.5", 500)
  corners = [(row["x"], row["y"]) for row in parts.rows(panel, "line", 1)]
  assert corners[-1][1] == pytest.approx(1.0)  # Filtering, at all labels.
  assert (0.4, pytest.approx(min(robust.by_seed), rel=1e-5)) in corners


def test_without_counted_labels_there_is_no_such_figure():
  results = synthetic(NAMES)
  assert not figures.missing(results, FIGURE)
  for name in NAMES:
    results = labelled(results, name, None)
  assert figures.missing(results, FIGURE) == ["labels"]
