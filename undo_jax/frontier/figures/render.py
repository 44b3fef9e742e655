"""Charts as specifications and as SVG, for the page and as files.

Colors in a chart are variables, "var(--ink)": on the page its style says what they
are, by day and by night; in a file they are those of a white page.
"""

from collections.abc import Mapping
import functools
from html import escape
import json
import re
from typing import Any

import vl_convert

from undo_jax.frontier.figures.charts import HOVER
from undo_jax.frontier.figures.figure import Figure
from undo_jax.frontier.results import Results
from undo_jax.utils.types import JsonObject

WIDE, NARROW = 1040, 340  # Pixels: of a screen or a sheet, and of a phone.
_VEGA_LITE = "6.1"
_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
# Before what a chart links to: the converter's own base, which no page has.
_BASE = "https://vega.github.io/vega-datasets/"
_CONFIG = {
  "background": "transparent",
  "font": "Arial, Liberation Sans, sans-serif",
  "padding": 4,
  "view": {"stroke": None},
  "axis": {
    "domain": False,
    "gridColor": "var(--grid)",
    "labelColor": "var(--muted)",
    "labelFontSize": 12,
    "labelLimit": 190,
    "labelPadding": 5,
    "ticks": False,
    "titleColor": "var(--ink)",
    "titleFontSize": 12,
    "titleFontWeight": "normal",
    "titlePadding": 9,
  },
  "point": {"filled": True},
  "text": {"color": "var(--ink)", "fontSize": 11},
  "title": {
    "anchor": "start",
    "color": "var(--ink)",
    "fontSize": 13,
    "fontWeight": 600,
    "frame": "group",
    "offset": 8,
  },
}


def specification(figure: Figure, results: Results, width: int) -> JsonObject:
  """Return a figure's chart as a specification of Vega-Lite, in one style."""
  drawn = figure.draw(results, width)
  return styled(dict(drawn) if isinstance(drawn, Mapping) else drawn.to_dict())


def styled(spec: JsonObject) -> JsonObject:
  """Return a chart in the style of all figures."""
  hover = {"name": HOVER, "value": False}
  return {
    "$schema": _SCHEMA,
    **spec,
    "config": _CONFIG | spec.get("config", {}),
    "params": [hover, *spec.get("params", [])],
  }


def svg(spec: JsonObject, *, title: str, description: str, name: str) -> str:
  """Return a chart as SVG with what it shows in words.

  Args:
    spec: of Vega-Lite; what it asks of a network is refused.
    title: read in the place of the chart.
    description: read after it.
    name: of the chart on its page: its ids begin with it.
  """
  drawn = vl_convert.vegalite_to_svg(spec, vl_version=_VEGA_LITE, allowed_base_urls=[])
  head, _, body = drawn.partition(">")
  words = f'<title id="{name}-t">{escape(title)}</title>'
  words += f'<desc id="{name}-d">{escape(description)}</desc>'
  head += f' role="img" aria-labelledby="{name}-t" aria-describedby="{name}-d"'
  body = re.sub(r'\b(d|transform|x2|y2)="([^"]*)"', _rounded, body)
  body = body.replace(f'<a xlink:href="{_BASE}', '<a href="')
  return f"{head}>{words}{_own_ids(body, name)}"


def _own_ids(body: str, name: str) -> str:
  """Return a chart whose ids are its own, not counted on from the chart before."""
  ids = {
    old: f"{name}-{index}"
    for index, old in enumerate(re.findall(r'\bid="(.*?)"', body))
  }
  body = re.sub(r'\bid="(.*?)"', lambda it: f'id="{ids[it[1]]}"', body)
  return re.sub(
    r'="url\(#(.*?)\)"', lambda it: f'="url(#{ids.get(it[1], it[1])})"', body
  )


def _rounded(attribute: re.Match[str]) -> str:
  """Return an attribute of places to a hundredth of a pixel."""
  return re.sub(r"(\.\d\d)\d+", r"\1", attribute[0])


def with_colors(svg: str, colors: Mapping[str, str]) -> str:
  """Return an SVG whose variables are colors, on white: a file of its own."""
  plain = re.sub(r"var\(--(\w+)\)", lambda it: colors.get(it[1], it[0]), svg)
  return plain.replace("<svg ", '<svg style="background:#ffffff" ', 1)


@functools.cache
def scripts() -> str:
  """Return Vega, Vega-Lite and Vega-Embed as one script, which needs no network."""
  bundle = vl_convert.javascript_bundle(
    "window.vegaEmbed = vegaEmbed;", vl_version=_VEGA_LITE
  )
  return bundle.replace("</script", r"<\/script").replace("<!--", r"\x3c!--")


def inlined(value: object) -> str:
  """Return JSON that may stand in a script element of a page."""
  text = json.dumps(value, separators=(",", ":"))
  return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def shared(specs: Mapping[str, JsonObject]) -> JsonObject:
  """Return charts that hold their rows once: in "datasets", by the names they use.

  Args:
    specs: of one figure, by layout.
  """
  names: dict[str, str] = {}

  def named(node: Any) -> Any:
    if isinstance(node, list):
      return [named(each) for each in node]
    if not isinstance(node, dict):
      return node
    if isinstance(node.get("values"), list) and set(node) == {"values"}:
      text = json.dumps(node["values"])
      return {"name": names.setdefault(text, f"rows{len(names)}")}
    return {key: named(each) for key, each in node.items()}

  charts = {layout: named(spec) for layout, spec in specs.items()}
  return {**charts, "datasets": {name: json.loads(t) for t, name in names.items()}}
