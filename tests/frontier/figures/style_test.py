"""How models look: by role, by family and as the config says."""

import dataclasses

import pytest

from tests.frontier.crowd import crowded
from tests.frontier.made_up import ARITHMETIC, SMALL, changed_model, synthetic
from undo_jax.frontier.figures import colors
from undo_jax.frontier.figures.shapes import SHAPES
from undo_jax.frontier.figures.style import model_styles, themes
from undo_jax.plan.config import References


def test_every_model_has_its_own_look():
  for results in (synthetic(), crowded(seeds=(0,), last_step=10)):
    styles = model_styles(results).values()
    assert len({style.light for style in styles}) == len(styles)
    assert len({style.dark for style in styles}) == len(styles)
    assert len({style.label for style in styles}) == len(styles)
  assert len(styles) == 44 and len(ARITHMETIC) == 10


def test_methods_have_their_own_hue_and_shape_and_families_one():
  styles = model_styles(crowded(seeds=(0,), last_step=10)).values()
  shapes = {}
  for style in styles:
    shapes.setdefault(style.method, set()).add(style.shape)
  assert len(shapes) == 17
  assert all(len(each) == 1 for each in shapes.values())
  assert "UNDO" in shapes and "NPO" in shapes
  # There are fewer shapes than methods; the first of them share none.
  assert len({shape for each in shapes.values() for shape in each}) == len(SHAPES)


def test_references_are_dashed_by_role():
  results = synthetic()
  dashed = {name for name, s in model_styles(results).items() if s.dash}
  assert dashed == {"base", "data_filtering", "max_ent"}
  roles = References(base="rmu", filtered=None, unlearned="grad_diff")
  styles = model_styles(dataclasses.replace(results, references=roles))
  assert {name for name, s in styles.items() if s.dash} == {"rmu", "grad_diff"}
  assert styles["rmu"].dash == model_styles(results)["base"].dash


def test_families_of_models_have_their_own_shades_by_what_was_swept():
  hues = {"undo": "#0072b2", "routed": "BuGn", "unlearn": "#b3261e"}
  results = synthetic([f"{family}_alpha_{a}" for family in hues for a in (1, 10, 0.5)])
  for name, model in results.models.items():
    look = {"color": hues[str(model.family)], "marker": "o"}
    results = changed_model(results, name, **look)
  styles = model_styles(results)
  for family, color in hues.items():
    members = [styles[f"{family}_alpha_{a}"] for a in (0.5, 1, 10)]
    assert [style.value for style in members] == ["0.5", "1", "10"]
    light = [colors.to_lch(style.light) for style in members]
    dark = [colors.to_lch(style.dark) for style in members]
    assert light[0][0] > light[1][0] > light[2][0] + 0.1
    assert dark[0][0] < dark[1][0] < dark[2][0] - 0.1
    hue = colors.to_lch(colors.known(color))[2]
    assert all(abs(each[2] - hue) < 0.1 for each in light)


@pytest.mark.parametrize("color", [None, "no color", "", "red;}", "url(x)"])
def test_what_is_no_color_and_no_marker_gets_one_of_ours(color):
  results = changed_model(synthetic(SMALL), "max_ent", color=color, marker="$x_{1$")
  style = model_styles(results)["max_ent"]
  assert style.shape in SHAPES.values()
  others = [s for name, s in model_styles(results).items() if name != "max_ent"]
  assert style.light in colors.PALETTE
  assert style.light not in {s.light for s in others}
  assert style.shape not in {s.shape for s in others}


def test_themes_hold_every_variable_and_nothing_but_colors():
  results = synthetic(SMALL)
  light, dark = themes(results)
  assert list(light) == list(dark)
  for theme in (light, dark):
    assert all(colors.known(value) == value for value in theme.values())
    assert colors.contrast(theme["ink"], theme["paper"]) > 12
    assert colors.contrast(theme["muted"], theme["paper"]) > 4.5
    for index in range(9):
      assert colors.contrast(theme[f"on{index}"], theme[f"s{index}"]) > 3.9
  for style in model_styles(results).values():
    assert style.color.removeprefix("var(--").removesuffix(")") in light
