"""How models look: by role, by family and as the config says."""

import dataclasses

import pytest

from tests.frontier.made_up import ARITHMETIC, SMALL, changed_model, synthetic
from undo_jax.frontier.figures.style import model_styles
from undo_jax.plan.config import References


def test_every_model_has_its_own_look():
  styles = model_styles(synthetic()).values()
  assert len({style.color for style in styles}) == len(ARITHMETIC)
  assert len({style.label for style in styles}) == len(ARITHMETIC)


def test_references_are_dashed_by_role():
  results = synthetic()
  dashed = {name for name, s in model_styles(results).items() if s.line != "-"}
  assert dashed == {"base", "data_filtering", "max_ent"}
  roles = References(base="rmu", filtered=None, unlearned="grad_diff")
  styles = model_styles(dataclasses.replace(results, references=roles))
  assert {name for name, s in styles.items() if s.line != "-"} == {"rmu", "grad_diff"}
  assert styles["rmu"].line == model_styles(results)["base"].line


def test_families_of_models_have_their_own_shades_by_what_was_swept():
  maps = {"undo": "Blues", "routed": "BuGn", "unlearn": "#b3261e"}
  results = synthetic([f"{family}_alpha_{a}" for family in maps for a in (1, 10, 0.5)])
  for name, model in results.models.items():
    look = {"color": maps[str(model.family)], "marker": "o"}
    results = changed_model(results, name, **look)
  styles = model_styles(results)
  assert len({style.color for style in styles.values()}) == len(styles)
  for family in maps:
    colors = [styles[f"{family}_alpha_{a}"].color for a in (0.5, 1, 10)]
    light = [sum(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in colors]
    assert light == sorted(light, reverse=True) and len(set(light)) == 3
  assert styles["unlearn_alpha_10"].color == "#b3261e"


@pytest.mark.parametrize("color", [None, "no color", "", "red;}", "url(x)"])
def test_what_matplotlib_does_not_know_looks_neutral(color):
  results = changed_model(synthetic(SMALL), "max_ent", color=color, marker="$x_{1$")
  style = model_styles(results)["max_ent"]
  assert (style.color, style.marker) == ("#8a7f5c", "X")
