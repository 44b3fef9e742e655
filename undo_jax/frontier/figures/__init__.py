"""Figures of results as charts: a new one is one file and one line here."""

from collections.abc import Mapping
import dataclasses
import re

from undo_jax.frontier import statistics
from undo_jax.frontier.figures import (
  attack_defense,
  learning_rates,
  relearning_curves,
  render,
  retain_forget,
  robustness_compute,
  robustness_labels,
)
from undo_jax.frontier.figures.figure import Figure, Need
from undo_jax.frontier.figures.style import themes
from undo_jax.frontier.results import Results
from undo_jax.utils.registry import Registry
from undo_jax.utils.types import JsonObject

REGISTRY: Registry[Figure] = Registry(
  "figure",
  Figure,
  {
    "robustness_compute": robustness_compute.FIGURE,
    "robustness_labels": robustness_labels.FIGURE,
    "relearning_curves": relearning_curves.FIGURE,
    "retain_forget": retain_forget.FIGURE,
    "attack_defense": attack_defense.FIGURE,
    "learning_rates": learning_rates.FIGURE,
  },
)


@dataclasses.dataclass(frozen=True)
class Drawing:
  """A figure of results."""

  wide: str  # SVG, its colors variables of the page.
  narrow: str
  file: str  # SVG of its own.
  chart: JsonObject  # Specifications by layout, "wide" and "narrow", and their rows.


def chosen(results: Results) -> dict[str, Figure]:
  """Return the figures of results.report.figures by file name.

  Raises:
    ConfigError: if there is no figure of a name.
  """
  return {
    f"{re.sub(r'[^A-Za-z0-9_.]', '.', name)}.svg": REGISTRY.get(name)
    for name in results.report.figures
  }


def missing(results: Results, figure: Figure) -> list[str]:
  """Return what a figure needs that the results have not."""
  return [need for need in figure.needs if not _has(results, need)]


def _has(results: Results, need: Need) -> bool:
  if need == "attack":
    return bool(results.attacks)
  if need == "labels":
    return any(statistics.labelled(results, name) for name in results.models)
  return statistics.reference(results, need) is not None


def draw_all(results: Results) -> Mapping[str, Drawing]:
  """Draw the figures of the page, less those that miss what they need.

  Returns:
    Drawings by file name; equal results give equal bytes.
  """
  light, _ = themes(results)
  drawings = {}
  for index, (name, figure) in enumerate(chosen(results).items()):
    if missing(results, figure):
      continue
    widths = {"wide": render.WIDE, "narrow": render.NARROW}
    specs = {
      layout: render.specification(figure, results, width)
      for layout, width in widths.items()
    }
    words = {"title": figure.title, "description": figure.caption}
    wide, narrow = (
      render.svg(spec, name=f"f{index}-{layout}", **words)
      for layout, spec in specs.items()
    )
    file = render.with_colors(wide, light)
    drawings[name] = Drawing(wide, narrow, file, render.shared(specs))
  return drawings
