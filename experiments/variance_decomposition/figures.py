"""The figure of the study: components of variance of each game and play, as bars."""

from experiments.shared import charts
from experiments.variance_decomposition.results import Results
from undo_jax.frontier.figures.charts import Spec, layer, number, raw


def draw(results: Results) -> dict[str, bytes]:
  """Return SVG bytes by file name; `results` are those of results.json."""
  games = dict.fromkeys(part["game"] for part in results["parts"])
  return {
    "components.svg": charts.svg(
      [components(results, game) for game in games],
      title="Components of the variance of poker's outcome",
      description="Shares of the variance that belong to each set of players and"
      " chance, by game and how it is played.",
    )
  }


def components(results: Results, game: str) -> Spec:
  """Return a bar a play, in shares of its variance, a color a set of factors."""
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
