"""Figures of the study like the paper's, but over best responses, not over plays."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from experiments.fictitious_play.results import Band, PokerPart, Results, TrainedPart
from experiments.shared import charts
from undo_jax.frontier.figures.charts import Row, Spec

_RESPONSES = "best responses of a player"
_PAYOFF = "worst-case payoff"


def draw(results: Results) -> dict[str, bytes]:
  """Return SVG bytes by file name; `results` are those of results.json."""
  drawn = {
    "single.svg": charts.svg(
      single(results),
      title="Worst-case payoff in cyclic and transitive games",
      description="Mean over random ties, bands from the 10 to the 90 % quantile.",
    ),
    "sizes.svg": charts.svg(
      [sizes(results)],
      title="Worst-case payoff in Gaussian games by their size",
      description="Mean over games after the same number of best responses, bands from"
      " the 10 to the 90 % quantile.",
    ),
    "ahead.svg": charts.svg(
      [ahead(results)],
      title="In how many Gaussian games anticipation is ahead",
      description="Share of games by best responses, with intervals of 95 %.",
    ),
    "early.svg": charts.svg(
      [early(results)],
      title="In how many Gaussian games anticipation is ahead at first",
      description="Share of games by best responses, and by how many plays after the"
      " first do not anticipate.",
    ),
  }
  if results["poker"]:
    drawn["poker.svg"] = charts.svg(
      populations(results["poker"]),
      title="What populations of best responses lose, by agents",
      description="Upper less lower bound of the value, mean over random first agents.",
    )
  if results["trained"]:
    drawn["trained.svg"] = charts.svg(
      populations(results["trained"], scale="linear", banded=True),
      title="What populations of trained policies lose, by agents",
      description="Upper less lower bound of the value, mean over repetitions, bands of"
      " two standard errors.",
    )
  return drawn


def single(results: Results) -> list[Spec]:
  """Return a panel for each game."""
  panels = []
  for part in results["single"]:
    data: list[Row] = []
    for play, band in part["by_play"].items():
      data += _banded(play, range(len(band["mean"])), band)
    title = part["game"].replace("_", " ")
    panels.append(charts.panel(data, x=_RESPONSES, y=_PAYOFF, title=title))
  return panels


def sizes(results: Results) -> Spec:
  """Return worst-case payoffs by the number of moves."""
  parts = results["size"]
  data: list[Row] = []
  for play in parts[0]["by_play"]:
    of = [part["by_play"][play] for part in parts]
    data += charts.rows(
      play,
      [part["moves"] for part in parts],
      *([band[key][0] for band in of] for key in ("mean", "low", "high")),
    )
  return charts.panel(
    data,
    x="moves of each player",
    y=_PAYOFF,
    title="Gaussian games",
    scales=("log", "linear"),
  )


def ahead(results: Results) -> Spec:
  """Return the share of games in which anticipation is ahead."""
  data: list[Row] = []
  for part in results["ahead"]:
    series = f"{part['moves']} x {part['moves']}"
    ends = (part["share"], part["low"], part["high"])
    data += charts.rows(series, part["responses"], *ends)
  return charts.panel(
    data,
    x=_RESPONSES,
    y="share of games",
    title="anticipation is ahead",
    levels=(0.5, 0.9),
  )


def early(results: Results) -> Spec:
  """Return the same share after the first responses, by initial steps."""
  (part,) = results["early"]
  data: list[Row] = []
  for steps, shares in part["share_by_initial_steps"].items():
    data += charts.rows(f"{steps} initial steps", part["responses"], shares)
  return charts.panel(
    data,
    x=_RESPONSES,
    y="share of games",
    title=f"the first responses, {part['moves']} x {part['moves']}",
    levels=(0.5,),
  )


def populations(
  parts: Sequence[PokerPart] | Sequence[TrainedPart],
  scale: Literal["linear", "log"] = "log",
  banded: bool = False,
) -> list[Spec]:
  """Return a panel a game, a line a mixture."""
  panels = []
  for part in parts:
    data: list[Row] = []
    for mixing, band in part["by_mixing"].items():
      mean, error = np.array(band["mean"]), 2 * np.array(band["error"])
      ends = (mean - error, mean + error) if banded else ()
      agents = range(1, len(mean) + 1)
      data += charts.rows(mixing, agents, np.maximum(mean, 1e-6), *ends)
    panels.append(
      charts.panel(
        data,
        x="agents of each player",
        y="upper - lower",
        title=part["game"].capitalize(),
        scales=("linear", scale),
      )
    )
  return panels


def _banded(series: str, x: Sequence[int], band: Band) -> list[Row]:
  return charts.rows(series, x, band["mean"], band["low"], band["high"])
