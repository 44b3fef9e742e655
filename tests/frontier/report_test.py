"""The report renders, escapes, leaves out what was not measured, and repeats."""

import copy
import dataclasses
import io
import math
import re

import matplotlib
from matplotlib.image import imread
import pytest

from tests.frontier import made_up
from tests.frontier.made_up import (
  SMALL,
  cells,
  changed_model,
  changed_run,
  language,
  row,
  synthetic,
)
from undo_jax.config import FIGURES
from undo_jax.frontier import figures, report, statistics, tables
from undo_jax.frontier import results as results_lib
from undo_jax.frontier.figures.style import axis_label
from undo_jax.frontier.results import Scores, Stopped
from undo_jax.frontier.warnings import warnings
from undo_jax.plan.config import References
from undo_jax.utils.errors import ConfigError


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


def test_equal_results_give_equal_bytes_whatever_the_global_settings(written, tmp_path):
  _, paths, _ = written
  with matplotlib.rc_context({"font.size": 30, "axes.grid": False}):
    again = report.write(copy.deepcopy(synthetic()), tmp_path)
  assert [p.read_bytes() for p in again] == [p.read_bytes() for p in paths]


def test_results_that_went_through_json_give_the_same_page(written):
  results = synthetic()
  read = results_lib.from_json(results_lib.to_json(results), path="results.json")
  assert read == results and report.page(read) == written[2]


def test_results_of_another_schema_are_refused():
  value = results_lib.to_json(synthetic()) | {"schema": 1}
  with pytest.raises(ConfigError, match="schema 3, got 1"):
    results_lib.from_json(value, path="results.json")


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


def test_short_attack_is_not_mislabelled():
  page = report.page(synthetic(last_step=10))
  assert "worst forget after all 10 updates" in page
  for budget in ("after 20", "after 100"):
    assert budget not in page
  assert "robustness after" not in page
  assert "not by 10" in page


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


def test_scores_that_are_not_there_are_absent_everywhere(tmp_path):
  results = synthetic(SMALL, 50)
  before = Scores(retain=None, forget=0.1, by_task={"addition_word": None})
  (run,) = results.models["undo_alpha_0.3"].runs
  costs = dataclasses.replace(run.compute, fraction_of_filtered=None)
  labels = dataclasses.replace(run.labels, share_of_pretraining=None)
  changes = {"before": before, "compute": costs, "labels": labels}
  results = changed_run(results, "undo_alpha_0.3", **changes)
  before = dataclasses.replace(results.models["base"].runs[0].before, by_task={})
  results = changed_run(results, "base", before=before)
  (run,) = results.models["max_ent"].runs
  under = run.attacks["relearn"]
  under = dataclasses.replace(under, retain=(None,) * len(under.steps))
  results = changed_run(results, "max_ent", attacks={"relearn": under})
  assert any(
    text.startswith("UNDO α = 0.3: a score before the attack is not finite (seed 0)")
    for text in warnings(results)
  )
  *drawn, page = report.write(results, tmp_path)
  page = page.read_text()
  assert len(drawn) == 4
  assert cells(page, "UNDO α = 0.3")[0] == "–"
  assert row(tables.main(results), "max_ent")["retain after all 50 updates"] == "–"


def test_the_template_is_part_of_the_package():
  from importlib import resources

  path = resources.files("undo_jax.frontier") / "templates" / "report.html.jinja"
  assert path.read_text().lstrip().startswith("{% macro")
