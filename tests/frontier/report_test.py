"""The report renders, escapes, leaves out what was not measured, and repeats."""

import copy
import dataclasses
import io
import math
import re
import sys

import matplotlib
from matplotlib.figure import Figure as Drawing
from matplotlib.image import imread
import numpy as np
import pytest

from tests.frontier import made_up
from tests.frontier.made_up import ARITHMETIC, RATES, changed_model, changed_run
from undo_jax.config import FIGURES
from undo_jax.frontier import figures, report, statistics, tables
from undo_jax.frontier import results as results_lib
from undo_jax.frontier.figures import retain_forget, robustness_compute
from undo_jax.frontier.figures.figure import Figure
from undo_jax.frontier.figures.style import axis_label, model_styles
from undo_jax.frontier.results import Ablation, Scores, Stopped
from undo_jax.frontier.warnings import warnings
from undo_jax.plan.config import References
from undo_jax.utils.errors import ConfigError

NO_REFERENCES = References(base=None, filtered=None, unlearned=None)
SMALL = ("base", "data_filtering", "max_ent", "undo_alpha_0.3")


def synthetic(*arguments, **changes):
  return made_up.synthetic(*arguments, **changes)


def language():
  """Turns the scores into cross-entropies: 2 nats for the base, 5 without."""

  def nats(value):
    return (5 - 3 * np.array(value)).tolist()

  results = synthetic()
  models = {}
  for name, model in results.models.items():
    (run,) = model.runs
    under = run.attacks["relearn"]
    under = made_up.relearning(
      nats(under.forget_by_learning_rate),
      steps=under.steps,
      retain_RxS=nats(under.retain_by_learning_rate),
      higher_is_worse=False,
    )
    before = Scores(
      retain=nats(run.before.retain), forget=nats(run.before.forget), by_task={}
    )
    run = dataclasses.replace(run, attacks={"relearn": under}, before=before)
    models[name] = dataclasses.replace(model, runs=(run,))
  metric = made_up.metric(
    "less capable", name="cross-entropy", unit="nats a token", bounds=(None, None)
  )
  metrics = dict.fromkeys(("retain", "forget"), metric)
  return dataclasses.replace(results, models=models, metrics=metrics)


def cells(page, label):
  """Returns the cells of the first row of a model on a page."""
  row = page.split(f"{label}</th>")[1].split("</tr>")[0]
  return row.replace("</td>", "").split("<td>")[1:]


def row(table, name):
  return dict(
    zip(
      table.head[1:],
      next(each.cells for each in table.rows if each.name == name),
      strict=True,
    )
  )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  directory = tmp_path_factory.mktemp("report")
  paths = report.write(synthetic(), directory)
  return directory, paths, (directory / "report.html").read_text()


def test_writes_four_figures_and_the_page_and_nothing_else(written):
  directory, paths, _ = written
  expected = [directory / "figures" / f"{name}.png" for name in FIGURES]
  assert list(figures.REGISTRY) == list(FIGURES) and len(FIGURES) == 4
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
  for name in FIGURES:
    assert f'src="figures/{name}.png"' in page
  assert page.count("src=") == len(FIGURES)
  assert "http" not in page and "<script" not in page and "url(" not in page


def test_equal_results_give_equal_bytes(written, tmp_path):
  _, paths, _ = written
  again = report.write(copy.deepcopy(synthetic()), tmp_path)
  assert [p.read_bytes() for p in again] == [p.read_bytes() for p in paths]


def test_figures_do_not_depend_on_global_settings(written):
  results = synthetic(report=made_up.report(figures=("retain_forget",)))
  with matplotlib.rc_context({"font.size": 30, "axes.grid": False}):
    assert figures.draw_all(results) == {
      "retain_forget.png": written[1][2].read_bytes()
    }


def test_results_that_went_through_json_give_the_same_page(written):
  results = synthetic()
  read = results_lib.from_json(results_lib.to_json(results), path="results.json")
  assert read == results and report.page(read) == written[2]


def test_results_of_another_schema_are_refused():
  value = results_lib.to_json(synthetic()) | {"schema": 1}
  with pytest.raises(ConfigError, match="schema 2, got 1"):
    results_lib.from_json(value, path="results.json")


def with_worst_at_20(results, name, score):
  """Returns results in which a model's worst score after 20 updates is another."""
  (run,) = results.models[name].runs
  under = run.attacks["relearn"]
  worst = (*under.worst_forget[:2], score, *under.worst_forget[3:])
  attacks = {"relearn": dataclasses.replace(under, worst_forget=worst)}
  return changed_run(results, name, attacks=attacks)


def test_main_table_has_the_closed_form_numbers():
  results = synthetic(("base", "data_filtering", "max_ent", "undo_alpha_0.5"))
  scores = {"max_ent": 0.9, "undo_alpha_0.5": 0.5, "data_filtering": 0.1}
  for name, score in scores.items():
    results = with_worst_at_20(results, name, score)
  page = report.page(results)
  assert '<th scope="col">robustness after 100</th>' in page
  shown = cells(page, "UNDO α = 0.5")
  assert shown[:3] == ["0.980", "0.020", "0.500"]
  assert shown[5] == "0.947"  # 0.98 less a third of 0.1, at the last step.
  assert shown[6] == "0.50"  # (0.9 - 0.5) / (0.9 - 0.1)
  assert shown[8:] == ["8,800", "0.440", "0.038%", "20"]


def test_the_terminal_shows_the_columns_that_the_readme_quotes():
  lines = report.text_table(synthetic(SMALL)).splitlines()
  head = lines[0].split("  ")
  assert [text.strip() for text in head if text.strip()] == [
    "model",
    "retain",
    "forget",
    "forget after 20 updates",
    "forget after 100 updates",
    "forget after all 500 updates",
    "compute",
  ]
  assert lines[4].split() == [
    "undo_alpha_0.3",
    *("0.980", "0.020", "0.752", "0.960", "0.980", "0.210"),
  ]
  assert len({len(line) for line in lines}) == 1 and len(lines) == 5


def test_scores_by_task_are_those_of_the_last_step_within_the_budget():
  results = synthetic(("base", "data_filtering", "rmu"))
  for name, model in results.models.items():
    under = model.runs[0].attacks["relearn"]
    scores = tuple(i / 1000 for i in range(len(under.steps)))
    under = dataclasses.replace(under, by_task={"division_equation": scores})
    results = changed_run(results, name, attacks={"relearn": under})
  for budget in (20, 29):
    table = tables.by_task(results, budget)
    assert table.head == ("model", "division equation")
    assert [each.cells for each in table.rows] == [("0.002",)] * 3
  assert tables.by_task(results).head[1:] == (
    "addition equation",
    "addition word",
    "multiplication equation",
  )


def test_models_are_shown_in_the_order_of_the_config():
  names = [*reversed(ARITHMETIC), "another"]
  results = synthetic(names)
  assert list(model_styles(results)) == names
  assert [each.name for each in tables.main(results).rows] == names


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


def test_models_and_attacks_of_one_label_are_told_apart():
  results = synthetic(SMALL, second_attack=True)
  results = changed_model(results, "undo_alpha_0.3", label="MaxEnt")
  lora = dataclasses.replace(results.attacks["lora"], label="full finetuning")
  results = dataclasses.replace(results, attacks=results.attacks | {"lora": lora})
  page = report.page(results)
  for label in ("MaxEnt (max_ent)", "MaxEnt (undo_alpha_0.3)"):
    assert f"</span>{label}</th>" in page
  for label in ("full finetuning (relearn)", "full finetuning (lora)"):
    assert f"<strong>{label}</strong>" in page


def test_the_introduction_says_what_the_attack_trains():
  def page(**changes):
    attacks = {"relearn": made_up.adversary(**changes)}
    return report.page(synthetic(("base", "data_filtering", "rmu"), attacks=attacks))

  assert "all weights are trained" in page()
  lora = page(trains="low-rank adapters (LoRA, rank 8)")
  assert "low-rank adapters (LoRA, rank 8) are trained" in lora
  assert "all weights" not in lora
  part = page(paths=("layers/<mlp>/.*",), noise=0.1)
  assert (
    "of all weights only layers/&lt;mlp&gt;/.* are trained, after noise of alpha 0.1"
    in part
  )


EVIL = '<script>alert("$x_{1")</script>'


def test_strings_of_the_results_are_escaped(tmp_path):
  names = ("base", "data_filtering", "rmu", "_hidden", EVIL, "$\\frac{$")
  results = synthetic(names, second_attack=True, task=EVIL)
  metric = dataclasses.replace(results.metrics["forget"], name=EVIL, unit=EVIL)
  evil = made_up.adversary(EVIL, EVIL, noise=0.1, paths=(EVIL,))
  (run,) = results.models[EVIL].runs
  attacks = {EVIL: evil, "lora": results.attacks["lora"]}
  results = dataclasses.replace(
    results,
    metrics=dict.fromkeys(("retain", "forget"), metric),
    attacks=attacks,
    report=made_up.report(rival=EVIL),
  )
  for name, model in results.models.items():
    relearned = model.runs[0].attacks
    under = dataclasses.replace(relearned["relearn"], by_task={EVIL: (0.5,) * 51})
    relearned = {EVIL: under, "lora": relearned["lora"]}
    results = changed_run(results, name, attacks=relearned)
  results = changed_run(
    results,
    EVIL,
    before=dataclasses.replace(run.before, by_task={EVIL: 0.5}),
    stopped=Stopped(reason="step limit", updates=7),
  )
  results = changed_model(
    results, "rmu", label=EVIL, color=EVIL, marker=EVIL, family=EVIL, swept={}
  )
  read = results_lib.from_json(results_lib.to_json(results), path="results.json")
  assert len(report.write(read, tmp_path)) == 4  # Nothing was unlearned alone.
  page = (tmp_path / "report.html").read_text()
  assert "<script" not in page and 'alert("' not in page
  # Title twice; introduction: name and unit, label, trains, paths; tables; a warning;
  # the rival; definitions.
  assert page.count("&lt;script&gt;alert(&#34;") >= 20
  assert "_hidden" in page
  assert len(re.findall('style="background:#[0-9a-f]{6}"', page)) == page.count(
    "style="
  )
  assert EVIL in report.text_table(read)


def test_names_of_figures_do_not_leave_their_folder(monkeypatch):
  monkeypatch.setitem(figures.REGISTRY._known, "../../<b>/..:x", _mine())
  results = synthetic(SMALL, report=made_up.report(figures=("../../<b>/..:x",)))
  assert list(figures.chosen(results)) == [".......b.....x.png"]


def test_models_need_not_have_all_scores():
  results = synthetic(("base", "data_filtering", "oracle_matching"))
  (run,) = results.models["oracle_matching"].runs
  costs = dataclasses.replace(run.compute, fraction_of_filtered=None)
  labels = dataclasses.replace(run.labels, share_of_pretraining=None)
  results = changed_run(results, "oracle_matching", compute=costs, labels=labels)
  roles = References(
    base="base", filtered="data_filtering", unlearned="oracle_matching"
  )
  results = dataclasses.replace(results, references=roles)
  before = dataclasses.replace(results.models["base"].runs[0].before, by_task={})
  results = changed_run(results, "base", before=before)
  assert len(figures.draw_all(results)) == 4
  page = report.page(results)
  assert "UNDO α" not in page and "here oracle matching" in page
  assert cells(page, "oracle matching").count("–") == 2  # Compute and labels.


ROLES = ("base", "filtered", "unlearned")


@pytest.mark.parametrize("absent", [*((role,) for role in ROLES), ROLES])
def test_a_run_without_references_gets_its_page(absent, tmp_path):
  results = synthetic(SMALL)
  references = dataclasses.replace(results.references, **dict.fromkeys(absent))
  results = dataclasses.replace(results, references=references)
  page = report.page(results)
  names = re.findall('src="figures/(.*?)"', page)
  if absent == ROLES:
    paths = report.write(results, tmp_path)
    assert [path.name for path in paths] == [*names, "report.html"]
  for role in ROLES:
    assert (f"(config.references.{role})" in page) == (role in absent)
  head = tables.main(results).head
  robust = not {"filtered", "unlearned"} & set(absent)
  assert ("robustness after 20" in head) == robust
  assert ("robustness_compute.png" in names) == robust
  assert ("Robustness against compute is not drawn: it needs" in page) == (not robust)
  assert ("compute / data filtering" in head) == ("filtered" not in absent)
  assert ("labelled / pretraining" in head) == ("base" not in absent)
  assert ("steps to recover half of base" in head) == ("base" not in absent)
  assert ("Data filtering, trained" in page) == ("filtered" not in absent)
  assert ("compute" in report.text_table(results)) == ("filtered" not in absent)
  for name in ("relearning_curves.png", "retain_forget.png", "learning_rates.png"):
    assert name in names
  assert not any("unlearning alone" in text for text in warnings(results))


def test_recovery_of_a_cross_entropy_needs_data_filtering():
  results = language()
  assert "steps to recover half of base" in tables.main(results).head
  roles = dataclasses.replace(results.references, filtered=None)
  results = dataclasses.replace(results, references=roles)
  assert "steps to recover half of base" not in tables.main(results).head


def test_a_run_without_attacks_gets_its_page(tmp_path):
  results = synthetic(SMALL, attacks={})
  for name in SMALL:
    results = changed_run(results, name, attacks={})
  paths = report.write(results, tmp_path)
  assert [path.name for path in paths] == ["retain_forget.png", "report.html"]
  page = paths[-1].read_text()
  assert "No model was attacked." in page
  assert "Relearning curves is not drawn: it needs an attack." in " ".join(page.split())
  assert tables.main(results).head == (
    *("model", "retain before", "forget before", "updates"),
    *("compute / data filtering", "labelled / pretraining"),
  )
  assert report.text_table(results).split()[:4] == [
    "model",
    "retain",
    "forget",
    "compute",
  ]


def test_several_attacks_are_told_apart():
  results = synthetic(SMALL, 100, second_attack=True)
  page = report.page(results)
  assert "<strong>LoRA</strong>: low-rank adapters (LoRA, rank 8) are trained." in page
  assert "The worst case is over full finetuning, LoRA" in page
  shown = row(tables.by_attack(results), "undo_alpha_0.3")
  assert list(shown) == [
    f"{attack} after {budget} updates"
    for budget in ("20", "100", "all 200")
    for attack in ("full finetuning", "LoRA")
  ]
  (run,) = results.models["undo_alpha_0.3"].runs
  full, lora = (run.attacks[name] for name in ("relearn", "lora"))
  assert list(shown.values()) == [
    *(f"{full.worst_forget[2]:.3f}", f"{lora.worst_forget[0]:.3f}"),
    *(f"{full.worst_forget[10]:.3f}", f"{lora.worst_forget[2]:.3f}"),
    *(f"{full.worst_forget[10]:.3f}", f"{lora.worst_forget[4]:.3f}"),
  ]
  worst = row(tables.main(results), "undo_alpha_0.3")
  assert worst["worst forget after 20 updates"] == f"{full.worst_forget[2]:.3f}"
  assert worst["worst forget after all 200 updates"] == f"{lora.worst_forget[4]:.3f}"
  # The retain score is that of the same attack.
  assert worst["retain after all 200 updates"] == f"{lora.retain[4]:.3f}"
  axes = figures.relearning_curves.draw(results).axes
  assert [a.get_title("left") or a.get_title() for a in axes] == [
    "worst case",
    "full finetuning",
    "LoRA",
  ]
  assert len(figures.learning_rates.draw(results).axes) == 2


def test_the_worst_case_is_over_the_attacks_that_the_config_names():
  chosen = made_up.report(worst_over=("lora",))
  results = synthetic(SMALL, 100, second_attack=True, report=chosen)
  page = report.page(results)
  assert "The worst case is over LoRA;" in page
  assert tables.after_budgets(results) == [
    (100, "after 100 updates"),
    (200, "after all 200 updates"),
  ]
  shown = row(tables.main(results), "max_ent")["worst forget after 100 updates"]
  assert shown == row(tables.by_attack(results), "max_ent")["LoRA after 100 updates"]
  first, relearn, lora = (
    [tuple(line.get_ydata()) for line in axes.get_lines()]
    for axes in figures.relearning_curves.draw(results).axes
  )
  assert first == lora != relearn


def test_one_attack_needs_no_table_by_attack(written):
  assert tables.by_attack(synthetic(SMALL)) is None
  assert "by attack" not in written[2]
  assert len(figures.relearning_curves.draw(synthetic(SMALL)).axes) == 1


def test_short_attack_is_not_mislabelled():
  page = report.page(synthetic(last_step=10))
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
    for a in robustness_compute.draw(results).axes
  ]
  assert len(titles) == panels
  assert titles[-1].endswith(f"after all {last_step} updates")
  assert len(retain_forget.draw(results).axes) == panels + 1


def test_language_reads_the_other_direction():
  results = language()
  page = " ".join(report.page(results).split())
  assert "lower means more capable, so a robust model stays high" in page
  assert "halfway from data filtering" in page
  assert cells(page, "MaxEnt")[-1] == "10"  # Below half way after one evaluation.
  same = statistics.robustness_after(synthetic(), "undo_alpha_0.5", 20)
  got = statistics.robustness_after(results, "undo_alpha_0.5", 20)
  assert math.isclose(got.value, same.value)
  assert "lower: more capable" in axis_label("x", results.metrics["forget"])


def test_no_warnings_where_the_grid_brackets_and_models_recover(written):
  # Only the last budget, where even data filtering has relearned, is noisy.
  (text,) = warnings(synthetic())
  assert text.startswith("After 500 updates")
  assert "<p>None.</p>" not in written[2]
  assert warnings(synthetic(last_step=100)) == []
  assert "<p>None.</p>" in report.page(synthetic(last_step=100))


def at_rate(results, name, rate, seed_index=0):
  """Returns results in which one learning rate was always the worst."""
  under = results.models[name].runs[seed_index].attacks["relearn"]
  rates = (rate,) * len(under.steps)
  under = dataclasses.replace(under, worst_learning_rate=rates)
  return changed_run(results, name, seed_index, attacks={"relearn": under})


def test_warns_of_the_step_limit_and_of_the_edge_of_the_grid():
  results = synthetic(SMALL, 20)
  limit = Stopped(reason="step limit", updates=12345)
  results = changed_run(results, "undo_alpha_0.3", stopped=limit)
  for name in ("base", "max_ent"):
    results = at_rate(results, name, RATES[-1])
  edge, limit = warnings(results)
  assert edge.startswith("MaxEnt: the largest learning rate of the grid, 0.003,")
  assert "(2 of 2 steps, seed 0); a larger one" in edge
  assert limit.startswith("UNDO α = 0.3") and "12,345 updates" in limit


def test_warnings_name_the_seeds_and_the_attack():
  results = synthetic(SMALL, 20, seeds=(3, 4, 5))
  for index in (0, 2):
    results = at_rate(results, "max_ent", RATES[0], index)
    limit = Stopped(reason="step limit", updates=5)
    results = changed_run(results, "undo_alpha_0.3", index, stopped=limit)
  edge, limit = warnings(results)
  assert "(4 of 4 steps, seeds 3, 5); a smaller one" in edge
  assert "after 5 updates (seeds 3, 5)" in limit
  results = synthetic(SMALL, 50, second_attack=True)
  (run,) = results.models["max_ent"].runs
  results = changed_run(results, "max_ent", attacks={"relearn": run.attacks["relearn"]})
  assert any(
    text.startswith("MaxEnt: not attacked by LoRA") for text in warnings(results)
  )
  under = made_up.relearning(
    [run.attacks["lora"].worst_forget], steps=(0, 50, 100, 150)
  )
  attacks = {**run.attacks, "lora": under}
  results = changed_run(results, "max_ent", attacks=attacks)
  assert "MaxEnt: attacked under LoRA with a single learning rate, 0.0001." in warnings(
    results
  )


def test_a_diverged_member_is_warned_of_and_never_the_worst():
  results = synthetic(SMALL, 50, seeds=(7, 8))
  under = results.models["max_ent"].runs[1].attacks["relearn"]
  forget = [list(scores) for scores in under.forget_by_learning_rate]
  retain = [list(scores) for scores in under.retain_by_learning_rate]
  forget[3][2:] = retain[3][2:] = [None] * 4
  forget[2][4:] = retain[2][4:] = [None] * 2
  under = made_up.relearning(forget, steps=under.steps, retain_RxS=retain)
  results = changed_run(results, "max_ent", 1, attacks={"relearn": under})
  results = results_lib.from_json(results_lib.to_json(results), path="results.json")
  texts = [text for text in warnings(results) if "diverged" in text]
  assert texts == [
    f"MaxEnt: under full finetuning the learning rate {rate} diverged (seed 8); where "
    "it did it is never the worst."
    for rate in ("0.001", "0.003")
  ]
  assert report.page(results)
  worst = statistics.worst_forget(results, "max_ent", 50)
  assert worst.by_seed[1] == max(forget[0][5], forget[1][5])


def test_scores_that_are_not_there_are_absent_everywhere(tmp_path):
  results = synthetic(SMALL, 50)
  before = Scores(retain=None, forget=0.1, by_task={"addition_word": None})
  results = changed_run(results, "undo_alpha_0.3", before=before)
  (run,) = results.models["max_ent"].runs
  under = run.attacks["relearn"]
  under = dataclasses.replace(under, retain=(None,) * len(under.steps))
  results = changed_run(results, "max_ent", attacks={"relearn": under})
  assert any(
    text.startswith("UNDO α = 0.3: a score before the attack is not finite (seed 0)")
    for text in warnings(results)
  )
  page = report.write(results, tmp_path)[-1].read_text()
  assert cells(page, "UNDO α = 0.3")[0] == "–"
  assert row(tables.main(results), "max_ent")["retain after all 50 updates"] == "–"


def test_routed_models_are_shown_before_and_after_ablation(written):
  assert "Ablation" not in written[2]
  names = ("base", "data_filtering", "max_ent", "routed", "sgtm")
  results = synthetic(names, 20)
  for name, retain in (("routed", 0.87), ("sgtm", 0.12)):
    whole = Scores(retain=retain, forget=0.96, by_task={})
    ablation = Ablation(before=whole, mlp_units=48, kv_heads=1)
    results = changed_run(results, name, ablation=ablation)
  table = report.page(results).split("<h2>Ablation</h2>")[1].split("</table>")[0]
  assert table.count('<th scope="row">') == 2
  after = results.models["sgtm"].runs[0].before
  assert cells(table, "sgtm") == [
    *("48", "1", "0.120", f"{after.retain:.3f}", "0.960", f"{after.forget:.3f}")
  ]


def test_models_stand_beside_the_rival_at_equal_compute(written):
  assert "at equal compute" not in written[2]
  rival = made_up.report(rival="undo")
  results = synthetic((*ARITHMETIC, "routed"), 200, report=rival)  # It costs 0.5.
  table = tables.beside_rival(results)
  assert [each.name for each in table.rows] == [
    *("grad_diff", "rmu", "oracle_matching", "unlearn_and_distill", "routed")
  ]
  shown = ("routed", *table.rows[-1].cells)
  assert len(shown) == len(table.head)
  # Relearned by half after 30 updates, UNDO at 0.5 after 20 (and a cost of 0.44).
  assert shown[2] == "0.500"
  assert shown[4] == shown[9] == shown[14] == "undo_alpha_0.5"
  assert shown[5] == "0.980" and float(shown[3]) < float(shown[6])
  assert shown[7] == shown[12] == "1 of 1" and float(shown[8]) < float(shown[11])
  page, text = report.page(results), report.text_table(results)
  for all_of_it in (page, text):
    assert "undo within its compute" in all_of_it
  assert "<td>UNDO α = 0.5</td>" in page
  assert text.splitlines()[-1].split()[:2] == ["routed", "0.900"]
  (run,) = results.models["routed"].runs
  cheap = dataclasses.replace(run.compute, flops=run.compute.flops // 5)
  results = changed_run(results, "routed", compute=cheap)
  assert tables.beside_rival(results).rows[-1].cells[3:7] == ("–",) * 4


def test_costs_are_flops_where_there_is_no_data_filtering():
  rival = made_up.report(rival="undo")
  results = synthetic((*ARITHMETIC, "routed"), 20, report=rival)
  results = dataclasses.replace(results, references=NO_REFERENCES)
  assert row(tables.beside_rival(results), "routed")["FLOPs"] == "5e+14"


def _mine():
  def draw(results):
    figure = Drawing(figsize=(2.0, 1.0))
    figure.text(0.1, 0.5, results.task)
    return figure

  return Figure(draw=draw, title="Mine & yours", caption="<b>Made up.</b>")


def test_a_figure_may_come_from_a_file_of_ones_own(tmp_path, monkeypatch):
  (tmp_path / "my_figures.py").write_text(
    "from matplotlib.figure import Figure as Drawing\n"
    "from undo_jax.frontier.figures.figure import Figure\n"
    "def draw(results):\n"
    "  figure = Drawing(figsize=(2.0, 1.0))\n"
    "  figure.text(0.1, 0.5, results.task)\n"
    "  return figure\n"
    "FIGURE = Figure(draw=draw, title='Mine & yours', caption='<b>Made up.</b>')\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  chosen = made_up.report(figures=("my_figures:FIGURE", "retain_forget"))
  paths = report.write(synthetic(SMALL, 20, report=chosen), tmp_path / "run")
  assert [path.name for path in paths[:-1]] == [
    "my_figures.FIGURE.png",
    "retain_forget.png",
  ]
  assert imread(paths[0]).shape[:2] == (200, 400)
  page = paths[-1].read_text()
  assert 'src="figures/my_figures.FIGURE.png" alt="Mine &amp; yours"' in page
  assert "&lt;b&gt;Made up.&lt;/b&gt;" in page
  sys.modules.pop("my_figures")


def test_figures_that_are_not_there_are_refused():
  for name, message in (("curves", "as figure one of"), ("os:getcwd", "a Figure")):
    chosen = made_up.report(figures=(name,))
    with pytest.raises(ConfigError, match=message):
      figures.draw_all(synthetic(SMALL, 20, report=chosen))


def test_the_template_is_part_of_the_package():
  from importlib import resources

  path = resources.files("undo_jax.frontier") / "templates" / "report.html.jinja"
  assert path.read_text().lstrip().startswith("{% macro")
