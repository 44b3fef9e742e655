"""Figures of results as PNG bytes: a new one is one file and one line here."""

from collections.abc import Mapping
from functools import partial
import re

from undo_jax.frontier.figures import (
  learning_rates,
  relearning_curves,
  retain_forget,
  robustness_compute,
)
from undo_jax.frontier.figures.figure import Figure
from undo_jax.frontier.figures.style import render as render
from undo_jax.frontier.results import Results
from undo_jax.frontier.statistics import reference
from undo_jax.utils.registry import Registry

REGISTRY: Registry[Figure] = Registry(
  "figure",
  Figure,
  {
    "relearning_curves": relearning_curves.FIGURE,
    "robustness_compute": robustness_compute.FIGURE,
    "retain_forget": retain_forget.FIGURE,
    "learning_rates": learning_rates.FIGURE,
  },
)


def chosen(results: Results) -> dict[str, Figure]:
  """Returns the figures of results.report.figures by file name.

  Raises:
    ConfigError: if there is no figure of a name.
  """
  return {
    f"{re.sub(r'[^A-Za-z0-9_.]', '.', name)}.png": REGISTRY.get(name)
    for name in results.report.figures
  }


def missing(results: Results, figure: Figure) -> list[str]:
  """Returns what a figure needs that the results have not."""
  return [
    need
    for need in figure.needs
    if not (results.attacks if need == "attack" else reference(results, need))
  ]


def draw_all(results: Results) -> Mapping[str, bytes]:
  """Draws the figures of the page, less those that miss what they need.

  Returns:
    PNG bytes by file name; equal results give equal bytes.
  """
  return render(
    {
      name: partial(figure.draw, results)
      for name, figure in chosen(results).items()
      if not missing(results, figure)
    }
  )
