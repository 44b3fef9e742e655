"""Heat maps of many models: rows that can be told apart on a phone."""

import html
import re

from tests.frontier import made_up
from tests.frontier.crowd import crowded
from undo_jax.frontier import figures
from undo_jax.frontier.figures import charts, heat_map, style


def test_members_of_a_sweep_keep_their_values_on_a_phone():
  chosen = made_up.report(figures=("attack_defense",))
  results = crowded((0,), 20)
  results = made_up.results(results.models, attacks=results.attacks, report=chosen)
  (drawing,) = figures.draw_all(results).values()
  texts = set(map(html.unescape, re.findall("<text[^>]*>([^<]*)<", drawing.narrow)))
  styles = style.model_styles(results)
  shown = {
    name: heat_map.shortened(each, 108 - heat_map._SPARE)
    for name, each in styles.items()
  }
  assert set(shown.values()) <= texts
  cut = {name: text for name, text in shown.items() if "…" in text}
  assert len(set(shown.values())) == len(styles) and len(cut) > 10
  for name, text in cut.items():
    method, value = text.split("… ")
    assert styles[name].method.startswith(method) and value == styles[name].value
    assert charts.text_width(text) < 108 - heat_map._SPARE
  # On a screen there is room for all of it.
  assert {each.label for each in styles.values()} <= set(
    map(html.unescape, re.findall("<text[^>]*>([^<]*)<", drawing.wide))
  )
