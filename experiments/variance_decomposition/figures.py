"""The figure of the study: components of variance of each game and play, as bars."""

from typing import Literal

from experiments.shared import charts
from experiments.variance_decomposition.results import Results
from undo_jax.frontier.figures.charts import Spec, layer, number, raw


def draw(results: Results) -> dict[str, bytes]:
  """Return SVG bytes by file name; `results` are those of results.json."""
  games = dict.fromkeys(part["game"] for part in results["parts"])
  drawn = {}
  if games:
    drawn["components.svg"] = charts.svg(
      [components(results, game) for game in games],
      title="Components of the variance of poker's outcome",
      description="Shares of the variance that belong to each set of players and"
      " chance, by game and how it is played.",
    )
  if results["holdem"]:
    drawn["holdem.svg"] = charts.svg(
      [holdem(results, kind) for kind in ("first_order", "total")],
      title="Whose luck a hand of hold'em was",
      description="First-order and total effects of players and chance as shares of the"
      " variance, estimated from sampled hands.",
    )
  return drawn


def holdem(results: Results, kind: Literal["first_order", "total"]) -> Spec:
  """Return a bar for each play and factor, in shares of the variance."""
  bars = []
  for part in results["holdem"]:
    play = f"{part['game']}, {part['play']}"
    bars += [
      {"play": play, "of": name, "share": each["estimate"] / part["variance"]}
      for name, each in part[kind].items()
    ]
  names = list(dict.fromkeys(bar["of"] for bar in bars))
  plays = list(dict.fromkeys(bar["play"] for bar in bars))
  encoding = {
    "x": number("share", title="share of the variance", axis={"format": "%"}),
    "y": raw("play", title=None, sort=plays, axis={"labelLimit": 260}),
    "yOffset": raw("of", sort=names),
    "color": charts.colors("of", names),
  }
  bar = layer("bar", encoding, rows=bars)
  title = {"first_order": "first-order effects V", "total": "total effects T"}[kind]
  return {"width": 300, "height": 46 * len(plays), "title": title, "layer": [bar]}


def components(results: Results, game: str) -> Spec:
  """Return a bar for each play, with a color for each set of factors."""
  bars = []
  for part in results["parts"]:
    split = part["splits"]["deck"]
    if part["game"] == game:
      bars += [
        {"play": part["play"], "part": name, "share": max(0.0, v / split["variance"])}
        for name, v in split["components"].items()
      ]
  names = list(dict.fromkeys(bar["part"] for bar in bars))
  plays = list(dict.fromkeys(bar["play"] for bar in bars))
  axis = {"format": "%"}
  encoding = {
    "x": number("share", title="share of the variance", axis=axis, stack="zero"),
    "y": raw("play", title=None, sort=plays),
    "color": charts.colors("part", names),
  }
  bar = layer("bar", encoding, rows=bars)
  return {"width": 430, "height": 34 * len(plays), "title": game, "layer": [bar]}
