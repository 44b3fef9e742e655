"""The report renders, escapes, leaves out what was not measured, and repeats."""

import base64
import dataclasses
import hashlib
import html.parser
import math
import re
import xml.etree.ElementTree as ET

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
  paths = report.write(synthetic(last_step=100), directory)
  return directory, paths, (directory / "report.html").read_text()


def without_scripts(page):
  return re.sub("<script.*?</script>", "", page, flags=re.DOTALL)


def test_writes_the_figures_and_the_page_and_nothing_else(written):
  directory, paths, _ = written
  expected = [directory / "figures" / f"{name}.svg" for name in FIGURES]
  assert list(figures.REGISTRY) == list(FIGURES) and len(FIGURES) == 6
  assert paths == [*expected, directory / "report.html"]
  assert sorted(p for p in directory.rglob("*") if p.is_file()) == sorted(paths)


def test_figures_are_files_that_fill_the_width(written):
  _, paths, page = written
  for path, name in zip(paths[:-1], FIGURES, strict=True):
    root = ET.fromstring(path.read_text())
    # A heat map is as wide as its cells.
    heat_map = name in ("attack_defense", "learning_rates")
    assert heat_map or 1000 < float(root.attrib["width"]) < 1060
  narrow = re.findall(r'class="still narrow"><svg[^>]* width="(\d+)"', page)
  assert len(narrow) == len(FIGURES) and max(map(int, narrow)) < 350
  assert all(int(width) > 310 for width in narrow[:4])


def test_the_page_asks_nothing_of_a_network_and_runs_its_own_scripts_alone(written):
  page = written[2]
  scripts = re.findall("<script>(.*?)</script>", page, flags=re.DOTALL)
  assert len(scripts) == 3
  (policy,) = re.findall('Security-Policy" content="(.*?)"', page)
  assert "default-src 'none'" in policy and "script-src 'sha256-" in policy
  for script in scripts:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
  body = without_scripts(page)
  assert (
    "src=" not in body and "@import" not in body and not re.search(r"url\((?!#)", body)
  )
  assert set(re.findall("https?://[^\"' ]*", body)) <= {
    *("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink")
  }
  links = set(re.findall('href="(.*?)"', body))
  assert {f"figures/{name}.svg" for name in FIGURES} < links
  assert {"results.json", "config.json", "stages/made-up/config.json"} < links
  ids = set(re.findall(' id="(.*?)"', body))
  assert {link[1:] for link in links if link.startswith("#")} <= ids
  assert len(re.findall(' id="(.*?)"', body)) == len(ids)


def test_the_page_is_not_too_heavy(written):
  assert len(written[2]) < 1.7e6
  assert len(without_scripts(written[2])) < 0.45e6


def test_equal_results_give_equal_bytes_through_json_too(written, tmp_path):
  _, paths, _ = written
  results = synthetic(last_step=100)
  read = results_lib.from_json(results_lib.to_json(results), path="results.json")
  assert read == results
  again = report.write(read, tmp_path)
  assert [p.read_bytes() for p in again] == [p.read_bytes() for p in paths]


def test_directories_are_relative_to_the_page():
  results = synthetic(SMALL, 20, seeds=(0, 1))
  for index, workdir in enumerate(("../one", "../other")):
    for name in SMALL:
      results = changed_run(results, name, index, workdir=workdir)
  both = report.located(results)
  directories = [run.directory for run in both.models["base"].runs]
  assert directories == ["../one/stages/made-up", "../other/stages/made-up"]
  page = report.page(both, of_one_run=False)
  assert 'href="../other/stages/made-up/config.json"' in page
  assert 'href="config.json"' not in page and 'href="results.json"' in page


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


HTML = set(
  """html head meta title style body header nav main h1 h2 h3 p strong a ul li
  div table thead tbody tr th td span figure figcaption script details summary dl dt dd
  """.split()
)
SVG = set("svg g path text line rect desc defs clippath tspan".split())


def tags(page):
  """Return the names of a page's elements; fails on an attribute that is a script."""
  names = set()

  class Reader(html.parser.HTMLParser):
    def handle_starttag(self, tag, attrs):
      names.add(tag)
      assert not any(name.startswith("on") for name, _ in attrs), attrs
      assert not any("javascript:" in (value or "") for _, value in attrs)

  Reader().feed(page)
  return names


EVIL = '<script>alert("$x_{1")</script>'


def test_strings_of_the_results_are_escaped(tmp_path):
  names = ("base", "data_filtering", "rmu", "_hidden", EVIL, "$\\frac{$")
  results = synthetic(names, 20, second_attack=True, task=EVIL)
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
    under = dataclasses.replace(relearned["relearn"], by_task={EVIL: (0.5,) * 3})
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
  assert len(report.write(read, tmp_path)) == 5  # Nothing was unlearned alone.
  whole = (tmp_path / "report.html").read_text()
  assert '<script>alert("' not in whole and '<script>alert(\\"' not in whole
  page = without_scripts(whole)
  assert "<script" not in page
  assert tags(whole) <= HTML | SVG
  # Title twice; introduction: name and unit, label, trains, paths; tables; a warning;
  # the rival; definitions.
  assert page.count("&lt;script&gt;alert(&#34;") >= 20
  assert "_hidden" in page
  ours = re.findall(r'style="(?:background:var\(--m\d+\)|-?[\w-]+: ?[\w. -]+;?)"', page)
  assert len(ours) == page.count("style=")
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
  chosen = figures.chosen(results).items()
  names = [name for name, each in chosen if not figures.missing(results, each)]
  if absent == ROLES:
    paths = report.write(results, tmp_path)
    assert [path.name for path in paths] == [*names, "report.html"]
  for role in ROLES:
    assert (f"(config.references.{role})" in page) == (role in absent)
  head = tables.main(results).head
  robust = not {"filtered", "unlearned"} & set(absent)
  assert ("robustness after 20" in head) == robust
  assert ("robustness_compute.svg" in names) == robust
  assert ("Robustness against compute is not drawn: it needs" in page) == (not robust)
  assert ("compute / data filtering" in head) == ("filtered" not in absent)
  assert ("labelled / pretraining" in head) == ("base" not in absent)
  assert ("steps to recover half of base" in head) == ("base" not in absent)
  assert ("Data filtering, trained" in page) == ("filtered" not in absent)
  assert ("compute" in report.text_table(results)) == ("filtered" not in absent)
  for name in ("relearning_curves.svg", "retain_forget.svg", "learning_rates.svg"):
    assert name in names
  assert not any("unlearning alone" in text for text in warnings(results))


def test_a_run_without_attacks_gets_its_page(tmp_path):
  results = synthetic(SMALL, attacks={})
  for name in SMALL:
    results = changed_run(results, name, attacks={})
  paths = report.write(results, tmp_path)
  assert [path.name for path in paths] == ["retain_forget.svg", "report.html"]
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
  assert len(drawn) == len(FIGURES)
  assert cells(page, "UNDO α = 0.3")[0] == "–"
  assert row(tables.main(results), "max_ent")["retain after all 50 updates"] == "–"


def test_the_template_is_part_of_the_package():
  from importlib import resources

  path = resources.files("undo_jax.frontier") / "templates" / "report.html.jinja"
  assert path.read_text().lstrip().startswith("{% macro")


def test_the_page_says_what_an_edit_does_and_what_it_takes():
  plain = synthetic(SMALL, 100)
  assert "strength" not in report.page(plain)
  results = made_up.with_edit(plain, dict.fromkeys(SMALL, (0.1, 0.2, 0.3)))
  results = made_up.with_edit(
    results,
    {"max_ent": (0.9, 0.9, 0.9)},
    label="to <base>",
    has_base=True,
    assumes=("the weights", "the base"),
  )
  page = report.page(results)
  assert (
    "<strong>pruning</strong>: weights are set to zero (strength: share of weights); "
    "the attacker has the weights." in page
  )
  assert "the attacker has the weights and the base." in page
  assert "The worst case is over full finetuning, pruning;" in page
  assert "It leaves out to &lt;base&gt;, whose attacker already has the base" in page
  assert "learning rate or strength" in page and "learning rates or strengths" in page
  assert report.trained(results.attacks["relearn"]) == "all weights are trained"


def test_the_page_says_what_is_a_diagnostic_and_counts_none():
  plain = synthetic(SMALL, 100)
  scores = dict.fromkeys(SMALL, (0.9, 0.9, 0.9))
  results = made_up.with_edit(plain, scores, label="lens", is_reading=True)
  page = report.page(results)
  assert "Not counted as attacks: lens." in page
  assert "The worst case is over full finetuning;" in page
  assert tables.main(results) == tables.main(plain)


def test_diagnostics_alone_get_a_page():
  plain = synthetic(SMALL, 100)
  for name in SMALL:
    plain = changed_run(plain, name, attacks={})
  plain = dataclasses.replace(plain, attacks={})
  scores = dict.fromkeys(SMALL, (0.9, 0.9, 0.9))
  for label in ("lens", "probe"):
    plain = made_up.with_edit(plain, scores, label=label, is_reading=True)
  page = report.page(plain)
  assert "Not counted as attacks: lens, probe." in page
  assert "The worst case is over" not in page


def test_edits_alone_get_their_page_and_figures(tmp_path):
  plain = synthetic(SMALL, 100)
  for name in SMALL:
    plain = changed_run(plain, name, attacks={})
  results = made_up.with_edit(
    dataclasses.replace(plain, attacks={}), dict.fromkeys(SMALL, (0.1, 0.2, 0.3))
  )
  paths = report.write(results, tmp_path)
  page = paths[-1].read_text()
  assert "several strengths" in page and "worst forget without updates" in page
  assert "learning_rates.svg" in {path.name for path in paths}
