"""How models look in every figure and table: color, shade, shape and line.

A method is a model of its own or a family, the members of a sweep: hue and shape are
the method's, the shade is the member's. Colors are variables of the page's style, so
that one chart serves a light page and a dark one.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import re

from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier.figures import colors
from undo_jax.frontier.figures.shapes import SHAPES
from undo_jax.frontier.results import Metric, ModelResult, Results
from undo_jax.frontier.statistics import Role, reference

_NEUTRAL = "#8a7f5c"  # Of a method that names no color: one of the palette is its.
STEPS = 9  # Shades of the scale of heat maps.


@dataclasses.dataclass(frozen=True)
class ModelStyle:
  """How one model looks in every figure and in the tables."""

  label: str
  method: str  # What the legend calls it, or its family.
  value: str  # Its value in the sweep, "0.3"; empty: no sweep.
  color: str  # A variable of the page.
  light: str  # The color on a white page, hexadecimal.
  dark: str  # And on a black one.
  shape: str
  dash: tuple[int, ...] = ()
  width: float = 1.6


# References are dashed, by role: line and width.
_REFERENCES: dict[Role, tuple[tuple[int, ...], float]] = {
  "base": ((6, 3), 1.6),
  "filtered": ((2, 2), 2.4),
  "unlearned": ((7, 2, 2, 2), 1.8),
}


def model_styles(results: Results) -> dict[str, ModelStyle]:
  """Return how each model looks, in the order of the results."""
  roles = {reference(results, role): look for role, look in _REFERENCES.items()}
  if (base := reference(results, "base")) is not None:
    roles[base] = _REFERENCES["base"]  # The first role prevails.
  places = _places(results)
  labels = distinct({name: model.label for name, model in results.models.items()})
  methods = _method_labels(results)
  looks = _method_looks(results)
  styles = {}
  for index, (name, model) in enumerate(results.models.items()):
    color, shape = looks[method_of(results, name)]
    dash, width = roles.get(name, ((), 1.6))
    styles[name] = ModelStyle(
      label=labels[name],
      method=methods[method_of(results, name)],
      value=" / ".join(map(_short, model.swept.values())) if name in places else "",
      color=f"var(--m{index})",
      light=colors.on_light(color, places.get(name)),
      dark=colors.on_dark(color, places.get(name)),
      shape=shape,
      dash=dash,
      width=width,
    )
  return styles


def themes(results: Results) -> tuple[dict[str, str], dict[str, str]]:
  """Return the variables of colors by name, of the light and of the dark page."""
  light = {"ink": "#1b1b1f", "muted": "#5b5b66", "grid": "#e7e7ec", "paper": "#ffffff"}
  light["warn"] = "#b34700"
  dark = {"ink": "#ececf1", "muted": "#a6a6b3", "grid": "#303039", "paper": "#15151a"}
  dark["warn"] = "#ff9e57"
  for theme, is_dark in ((light, False), (dark, True)):
    for index, shade in enumerate(colors.ramp(STEPS, dark=is_dark)):
      inks = ("#1b1b1f", "#ffffff")
      theme[f"s{index}"] = shade
      theme[f"on{index}"] = max(inks, key=lambda ink, s=shade: colors.contrast(ink, s))
    for index, style in enumerate(model_styles(results).values()):
      theme[f"m{index}"] = style.dark if is_dark else style.light
  return light, dark


def method_of(results: Results, name: str) -> str:
  """Return the family of a model, or its own name."""
  return results.models[name].family or name


def attack_labels(results: Results) -> dict[str, str]:
  """Return the label of each attack."""
  return distinct({name: attack.label for name, attack in results.attacks.items()})


def distinct(labels: Mapping[str, str]) -> dict[str, str]:
  """Return labels by name, those that several share with the name after them."""
  shared = list(labels.values())
  return {
    name: f"{label} ({name})" if shared.count(label) > 1 else label
    for name, label in labels.items()
  }


def families(results: Results) -> dict[str, list[str]]:
  """Return the members of each family, ascending by what was swept."""
  members: dict[str, list[str]] = {}
  for name, model in results.models.items():
    if model.family is not None:
      members.setdefault(model.family, []).append(name)
  return {
    family: sorted(names, key=lambda name: _order(results.models[name]))
    for family, names in members.items()
  }


def axis_label(what: str, metric: Metric) -> str:
  """Name an axis and say which way capability grows."""
  way = "higher" if higher_is_worse(metric) else "lower"
  return f"{what}, {metric.unit} ({way}: more capable)"


def budget_title(budget: int, budgets: Sequence[int]) -> str:
  """Return "after 20 updates", of the last budget "after all 500 updates"."""
  if not budget:
    return "without updates"
  return f"after {'all ' if budget == budgets[-1] else ''}{budget} updates"


def _order(model: ModelResult) -> list[float]:
  """Return the swept numbers; what is no number keeps the order of the config."""
  values = model.swept.values()
  return [float(v) if isinstance(v, int | float) else 0.0 for v in values]


def _places(results: Results) -> dict[str, float]:
  """Return where each member stands in its sweep, in [0, 1]."""
  return {
    name: rank / (len(names) - 1) if len(names) > 1 else 0.7
    for names in families(results).values()
    for rank, name in enumerate(names)
  }


def _short(value: object) -> str:
  return f"{value:g}" if isinstance(value, int | float) else str(value)


def _method_labels(results: Results) -> dict[str, str]:
  """Return what a legend calls each method: of a family without the swept value."""
  of_families = families(results)
  labels = {}
  for name in results.models:
    method = method_of(results, name)
    members = of_families.get(method, [name])
    heads = {_head(results.models[member]) for member in members}
    labels[method] = heads.pop() if len(heads) == 1 else method
  return distinct(labels)


def _head(model: ModelResult) -> str:
  """Return a label up to its first swept field: "UNDO" of "UNDO α = 0.3"."""
  head = re.split(r"\s+\S+ = ", model.label)[0] if model.swept else model.label
  return head or model.label


def _method_looks(results: Results) -> dict[str, tuple[str, str]]:
  """Return the color and the shape of each method, no two of them alike.

  What a config names comes first; who names nothing, or what another has, gets the
  first of ours that is free.
  """
  given = {
    method_of(results, name): (colors.known(model.color), model.marker)
    for name, model in reversed(results.models.items())
  }
  given = dict(reversed(given.items()))
  taken_colors: dict[str, str] = {}
  taken_shapes: dict[str, str] = {}
  for method, (color, marker) in given.items():
    if color and color != _NEUTRAL and colors.is_new(color, taken_colors.values()):
      taken_colors[method] = color
    if marker in SHAPES and marker != "X" and marker not in taken_shapes.values():
      taken_shapes[method] = marker
  for method in given:
    if method not in taken_colors:
      taken_colors[method] = colors.another(taken_colors.values())
    if method not in taken_shapes:
      left = [m for m in SHAPES if m not in taken_shapes.values()]
      taken_shapes[method] = left[0] if left else "o"
  return {m: (taken_colors[m], SHAPES[taken_shapes[m]]) for m in given}
