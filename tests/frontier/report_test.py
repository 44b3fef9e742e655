"""The report renders, escapes, leaves out what was not measured, and repeats."""

from collections.abc import Iterable, Sequence
import copy
import io
import math
from typing import Any

import matplotlib
from matplotlib.image import imread
import numpy as np
import pytest

from undo_jax.frontier import figures, report

FILES = ("relearning_curves", "robustness_compute", "retain_forget", "learning_rates")
TOP = 0.98  # Accuracy that every model relearns in the end.
RATES = [1e-4, 3e-4, 1e-3, 3e-3]
# Name: forget before, half-life of relearning in updates, retain, compute fraction.
ARITHMETIC = {
  "base": (0.97, 1, 0.99, 1.02),
  "data_filtering": (0.01, 120, 0.99, 1.0),
  "max_ent": (0.02, 5, 0.97, 0.01),
  "grad_diff": (0.0, 5.5, 0.93, 0.012),
  "rmu": (0.03, 4.8, 0.95, 0.008),
  "oracle_matching": (0.01, 7, 0.98, 0.06),
  "unlearn_and_distill": (0.02, 95, 0.98, 1.09),
  "undo_alpha_0.3": (0.02, 9, 0.98, 0.21),
  "undo_alpha_0.5": (0.02, 20, 0.98, 0.44),
  "undo_alpha_0.7": (0.01, 85, 0.97, 0.74),
}
FAMILIES = (
  "undo",
  "routed_undo",
  "sgtm_undo",
  "routed_distillation",
  "sgtm_distillation",
)
TASKS = ("addition_equation", "addition_word", "multiplication_equation")


def relearn_entry(
  forget: float, half_life: float, retain: float, steps: Sequence[int]
) -> dict[str, Any]:
  """Make an attack whose best learning rate falls as it goes on."""
  steps_S = np.array(steps, dtype=float)
  speed_R = np.array([0.15, 0.5, 1.0, 0.7])[:, None]
  ceiling_R = np.array([1.0, 1.0, 0.97, 0.8])[:, None]
  learned_RxS = ceiling_R * (1 - 0.5 ** (speed_R * steps_S / half_life))
  scores_RxS = forget + (TOP - forget) * learned_RxS
  worst_S = scores_RxS.argmax(0)
  retain_RxS = retain - 0.1 * np.linspace(0, 1, 4)[:, None] * steps_S / steps_S[-1]
  columns = np.arange(len(steps))
  return {
    "learning_rates": RATES,
    "steps": list(steps),
    "worst_forget": scores_RxS[worst_S, columns].tolist(),
    "worst_learning_rate": [RATES[i] for i in worst_S],
    "retain": retain_RxS[worst_S, columns].tolist(),
    "forget_by_learning_rate": scores_RxS.tolist(),
    "retain_by_learning_rate": retain_RxS.tolist(),
  }


def metric(
  name: str, unit: str, bounds: list[float] | None, higher_is: str
) -> dict[str, Any]:
  return {"name": name, "unit": unit, "range": bounds, "higher_is": higher_is}


def synthetic(
  names: Iterable[str] = tuple(ARITHMETIC), last_step: int = 500
) -> dict[str, Any]:
  unit = "fraction of exact answers"
  results = {"schema": 1, "setting": "arithmetic", "seed": 0, "models": {}}
  results["metrics"] = {
    "forget": metric(
      "accuracy on multiplication and division", unit, [0, 1], "more capable"
    ),
    "retain": metric(
      "accuracy on addition and subtraction", unit, [0, 1], "more capable"
    ),
  }
  for name in names:
    forget, half_life, retain, fraction = ARITHMETIC.get(name, (0.1, 30, 0.9, 0.5))
    results["models"][name] = {
      "before": {
        "retain": retain,
        "forget": forget,
        "by_task": dict(zip(TASKS, (retain, retain, forget), strict=True)),
      },
      "relearn": relearn_entry(forget, half_life, retain, range(0, last_step + 1, 10)),
      "compute": {
        "updates": int(20_000 * fraction),
        "tokens": 10**8,
        "flops": 1e15,
        "fraction_of_data_filtering": fraction,
      },
    }
    if name.startswith("undo"):
      results["models"][name]["stopped"] = {"reason": "recovered", "updates": 900}
  return results


def language() -> dict[str, Any]:
  """Turn the scores into cross-entropies: 2 nats for the base, 5 for data filtering."""
  results = synthetic()
  for kind in ("forget", "retain"):
    unit, bounds = "nats a token", None
    results["metrics"][kind] = metric("cross-entropy", unit, bounds, "less capable")
  for model in results["models"].values():
    before, relearn = model["before"], model["relearn"]
    before["forget"] = 5 - 3 * before["forget"]
    before["retain"] = 5 - 3 * before["retain"]
    for key in ("worst_forget", "retain", "forget_by_learning_rate"):
      relearn[key] = (5 - 3 * np.array(relearn[key])).tolist()
  return results


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  directory = tmp_path_factory.mktemp("report")
  paths = report.write(synthetic(), directory)
  return directory, paths, (directory / "report.html").read_text()


def test_writes_four_figures_and_the_page_and_nothing_else(written):
  directory, paths, _ = written
  expected = [directory / "figures" / f"{name}.png" for name in FILES]
  assert paths == [*expected, directory / "report.html"]
  assert sorted(p for p in directory.rglob("*") if p.is_file()) == sorted(paths)


def test_figures_are_pngs_of_full_width_without_software_metadata(written):
  for path in written[1][:-1]:
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert imread(io.BytesIO(data)).shape[1] == 1600
    assert b"Software" not in data and b"tIME" not in data and b"tEXt" not in data


def test_page_refers_to_its_figures_and_to_nothing_else(written):
  page = written[2]
  for name in FILES:
    assert f'src="figures/{name}.png"' in page
  assert page.count("src=") == len(FILES)
  assert "http" not in page and "<script" not in page and "url(" not in page


def test_equal_results_give_equal_bytes(written, tmp_path):
  _, paths, _ = written
  again = report.write(copy.deepcopy(synthetic()), tmp_path)
  assert [p.read_bytes() for p in again] == [p.read_bytes() for p in paths]


def test_figures_do_not_depend_on_global_settings(written):
  with matplotlib.rc_context({"font.size": 30, "axes.grid": False}):
    assert figures.draw_all(synthetic())["retain_forget.png"] == (
      written[1][2].read_bytes()
    )


def test_main_table_has_the_closed_form_numbers():
  results = synthetic(("base", "data_filtering", "max_ent", "undo_alpha_0.5"))
  for name, score in (("max_ent", 0.9), ("undo_alpha_0.5", 0.5)):
    results["models"][name]["relearn"]["worst_forget"][2] = score
    results["models"][name]["labels"] = {"share_of_pretraining": 0.00038}
  results["models"]["data_filtering"]["relearn"]["worst_forget"][2] = 0.1
  table = report.main_table(results)
  assert '<th scope="col">robustness after 100</th>' in table
  row = table.split("UNDO α = 0.5</th>")[1].split("</tr>")[0]
  cells = row.replace("</td>", "").split("<td>")[1:]
  assert cells[:3] == ["0.980", "0.020", "0.500"]
  assert cells[5] == "0.947"  # 0.98 less a third of 0.1, at the last step.
  assert cells[6] == "0.50"  # (0.9 - 0.5) / (0.9 - 0.1)
  assert cells[8:] == ["8,800", "0.440", "0.038%", "20"]


def test_scores_by_task_are_those_of_the_last_step_within_the_budget():
  results = synthetic(("base", "data_filtering", "rmu"))
  for model in results["models"].values():
    steps = len(model["relearn"]["steps"])
    scores = [i / 1000 for i in range(steps)]
    model["relearn"]["by_task"] = {"division_equation": scores}
  steps = results["models"]["rmu"]["relearn"]["steps"]
  table = report.task_table(results, steps[2])
  assert table.count("<td>0.002</td>") == 3
  assert "division equation" in table


def test_models_are_shown_in_order_whatever_the_order_of_the_dict():
  names = [*reversed(ARITHMETIC), "undo_alpha_1e-2", "another"]
  expected = [*ARITHMETIC, "another"]
  expected.insert(expected.index("undo_alpha_0.3"), "undo_alpha_1e-2")
  assert list(figures.model_styles(names)) == expected


def test_every_model_has_its_own_look():
  styles = figures.model_styles(ARITHMETIC).values()
  assert len({style.color for style in styles}) == len(ARITHMETIC)
  assert len({style.label for style in styles}) == len(ARITHMETIC)


def test_the_introduction_says_what_the_attack_trains(tmp_path):
  results = synthetic(("base", "data_filtering", "rmu"))

  def page():
    report.write(results, tmp_path)
    return (tmp_path / "report.html").read_text()

  assert "all weights are trained" in page()  # As before the key was there.
  for model in results["models"].values():
    model["relearn"]["attack"] = {"kind": "full"}
  assert "all weights are trained" in page()
  for model in results["models"].values():
    model["relearn"]["attack"] = {"kind": "lora", "rank": 8, "alpha": 16.0}
  assert "low-rank adapters (LoRA, rank 8) are trained" in page()
  assert "all weights" not in page()
  part = {"trainable": [["layers/<mlp>/.*", [0]]], "perturb": {"alpha": 0.1}}
  for model in results["models"].values():
    model["relearn"]["attack"] = {"kind": "full", **part}
  assert (
    "a part of the weights is trained (layers/&lt;mlp&gt;/.*), after noise of alpha 0.1"
    in page()
  )


def test_strings_of_the_results_are_escaped(tmp_path):
  evil = '<script>alert("$x_{1")</script>'
  results = synthetic(("base", "data_filtering", "rmu", "_hidden", evil, "$\\frac{$"))
  results["setting"] = results["seed"] = evil
  for entry in results["metrics"].values():
    entry["name"] = entry["unit"] = evil
    entry["range"] = [evil, evil] if entry is results["metrics"]["retain"] else None
  results["models"][evil]["before"]["by_task"] = {evil: 0.5}
  results["models"][evil]["stopped"] = {"reason": "step limit", "updates": 7}
  report.write(results, tmp_path)
  page = (tmp_path / "report.html").read_text()
  assert "<script" not in page and 'alert("' not in page
  # Title twice, introduction, both tables, a task, a warning, and two definitions.
  assert page.count("&lt;script&gt;alert(&quot;") >= 10
  assert "_hidden" in page


def test_subset_of_models_renders(tmp_path):
  results = synthetic(("base", "data_filtering", "oracle_matching"))
  del results["models"]["oracle_matching"]["compute"]
  del results["models"]["base"]["before"]["by_task"]
  assert len(report.write(results, tmp_path)) == 5
  page = (tmp_path / "report.html").read_text()
  assert "UNDO α" not in page and "here oracle matching" in page
  row = page.split("oracle matching</th>")[1].split("</tr>")[0]
  assert row.count("<td>–</td>") == 3  # Updates, compute and labels.


@pytest.mark.parametrize("missing", ["base", "data_filtering", "max_ent"])
def test_missing_reference_is_refused_before_anything_is_written(missing, tmp_path):
  names = {"base", "data_filtering", "max_ent", "undo_alpha_0.3"} - {missing}
  with pytest.raises(ValueError, match=missing):
    report.write(synthetic(sorted(names)), tmp_path)
  assert not list(tmp_path.iterdir())


def test_other_schema_is_refused(tmp_path):
  with pytest.raises(ValueError, match="schema"):
    report.write(synthetic() | {"schema": 2}, tmp_path)


def test_short_attack_is_not_mislabelled(tmp_path):
  results = synthetic(last_step=10)
  report.write(results, tmp_path)
  page = (tmp_path / "report.html").read_text()
  assert "worst forget after all 10 updates" in page
  for budget in ("after 20", "after 100"):
    assert budget not in page
  assert "robustness after" not in page
  assert "not by 10" in page


@pytest.mark.parametrize(
  ("last_step", "panels"), [(10, 1), (20, 1), (50, 2), (100, 2), (500, 3)]
)
def test_panels_are_the_evaluated_budgets(last_step, panels):
  results = synthetic(("base", "data_filtering", "max_ent"), last_step)
  titles = [
    a.get_title(loc="left") + a.get_title()
    for a in figures.robustness_compute(results).axes
  ]
  assert len(titles) == panels
  assert titles[-1].endswith(f"after all {last_step} updates")
  assert len(figures.retain_forget(results).axes) == panels + 1


def test_language_setting_reads_the_other_direction(tmp_path):
  results = language()
  report.write(results, tmp_path)
  page = (tmp_path / "report.html").read_text()
  assert "lower means more capable, so a robust model stays high" in page
  assert "halfway from data filtering" in page
  row = page.split("MaxEnt</th>")[1].split("</tr>")[0]
  assert row.endswith("<td>10</td>")  # Below half way after one evaluation.
  same = figures.robustness_after(synthetic(), "undo_alpha_0.5", 20)
  assert math.isclose(figures.robustness_after(results, "undo_alpha_0.5", 20), same)
  assert "lower: more capable" in figures.axis_label("x", results["metrics"]["forget"])


def test_no_warnings_where_the_grid_brackets_and_models_recover(written):
  # Only the last budget, where even data filtering has relearned, is noisy.
  found = report.warnings(synthetic())
  assert len(found) == 1 and found[0].startswith("After 500 updates")
  assert "<p>None.</p>" not in written[2]
  assert report.warnings(synthetic(last_step=100)) == []


def test_warns_of_the_step_limit_and_of_the_edge_of_the_grid():
  results = synthetic(("base", "data_filtering", "max_ent", "undo_alpha_0.3"), 20)
  results["models"]["undo_alpha_0.3"]["stopped"] = {
    "reason": "step limit",
    "updates": 12345,
  }
  # The others are trained for a set number of steps.
  for name in ("base", "data_filtering", "max_ent"):
    stopped = {"reason": "step limit", "updates": 5}
    results["models"][name]["stopped"] = stopped
  for name in ("base", "max_ent"):
    relearn = results["models"][name]["relearn"]
    relearn["worst_learning_rate"] = [RATES[-1]] * 3
  edge, limit = report.warnings(results)
  assert edge.startswith("MaxEnt: the largest learning rate of the grid, 0.003,")
  assert "(2 of 2 steps); a larger one" in edge
  assert limit.startswith("UNDO α = 0.3") and "12,345 updates" in limit


def test_routed_models_are_shown_before_and_after_ablation(written):
  assert "Ablation" not in written[2]
  names = ("base", "data_filtering", "max_ent", "routed", "sgtm")
  results = synthetic(names, 20)
  for name, retain in (("routed", 0.87), ("sgtm", 0.12)):
    results["models"][name]["ablation"] = {
      "before": {"retain": retain, "forget": 0.96},
      "mlp_units": 48,
      "kv_heads": 1,
    }
  table = report.page(results).split("<h2>Ablation</h2>")[1].split("</table>")[0]
  assert table.count('<th scope="row">') == 2
  row = table.split("SGTM</th>")[1].split("</tr>")[0]
  after = results["models"]["sgtm"]["before"]
  cells = ["48", "1", "0.120", f"{after['retain']:.3f}", "0.960"]
  assert row == "".join(f"<td>{c}</td>" for c in [*cells, f"{after['forget']:.3f}"])


def test_routed_models_stand_beside_undo_at_equal_compute(written):
  assert "at equal compute" not in written[2]
  results = synthetic((*ARITHMETIC, "routed"), 200)  # It costs 0.5.
  results["models"]["routed"]["ablation"] = {
    "before": {"retain": 0.9, "forget": 0.9},
    "mlp_units": 48,
    "kv_heads": 1,
  }
  (row,) = report.rival_rows(results)
  assert len(row) == len(report.rival_head(results))
  # Relearned by half after 30 updates, UNDO at 0.5 after 20 (and a cost of 0.44).
  assert row[0] == "routed" and row[2] == "0.500"
  assert row[4] == row[9] == row[14] == "undo_alpha_0.5"
  assert row[5] == "0.980" and float(row[3]) < float(row[6])
  assert row[7] == row[12] == "1 of 1" and float(row[8]) < float(row[11])
  results["models"]["routed"]["compute"]["fraction_of_data_filtering"] = 0.1
  assert report.rival_rows(results)[0][4:8] == ["–"] * 4
  page, text = report.page(results), report.text_table(results)
  for shown in (page, text):
    assert "UNDO within its compute" in shown
  assert text.splitlines()[-1].split()[:2] == ["routed", "0.900"]


def test_families_of_models_have_their_own_shades_by_alpha():
  names = [f"{family}_alpha_{a}" for family in FAMILIES for a in ("1", "0.5")]
  styles = figures.model_styles(["base", *names])
  assert list(styles) == [
    "base",
    *(f"{family}_alpha_{a}" for family in FAMILIES for a in ("0.5", "1")),
  ]
  assert styles["routed_distillation_alpha_1"].label == "routed distillation α = 1"
  assert len({(s.color, s.marker) for s in styles.values()}) == len(styles)
  for family in FAMILIES:
    light, dark = (
      sum(int(styles[f"{family}_alpha_{a}"].color[i : i + 2], 16) for i in (1, 3, 5))
      for a in ("0.5", "1")
    )
    assert light > dark
