"""What a search chose: the best trial, the front, edges, the table on the page."""

import itertools
import re

import numpy as np
import pytest

from tests.frontier.made_up import SMALL, synthetic
from undo_jax.frontier import figures, report, search_results, search_table
from undo_jax.frontier.search_results import SearchResults, Trial, best, front
from undo_jax.plan.search import Range, Search
from undo_jax.utils import files, records
from undo_jax.utils.errors import ConfigError

FIELDS = {
  "rate": Range(path="optimizer.rate", kind="log_uniform", low=1e-4, high=1e-2),
  "steps": Range(path="optimizer.steps", kind="integers", low=100, high=300),
}


def trial(number, worst, flops, state="complete", rate=1e-3):
  return Trial(
    number=number,
    values={"rate": rate, "steps": 290},
    state=state,
    retain=0.9,
    forget=0.1,
    worst_forget=worst,
    flops=flops,
    compute=flops / 100,
    violations={},
    stages=(),
  )


TRIALS = (
  trial(0, 0.5, 40.0),
  trial(1, None, 10.0, "infeasible"),
  trial(2, 0.2, 80.0, rate=1.1e-4),
  trial(3, 0.2, 90.0),
  trial(4, 0.7, 60.0),
)


def searched(trials=TRIALS):
  search = Search(
    models={"undo": FIELDS},
    trials=len(trials),
    startup=1,
    seeds=(1000,),
    attack="search",
    objective="worst_forget",
    smallest_retain=0.95,
    largest_compute=1.0,
  )
  model = search_results.model(
    trials, FIELDS, more_is_worse=True, training_flops=300.0, attack_flops=100.0
  )
  return SearchResults(
    schema=1,
    search=search,
    more_is_worse=True,
    base_retain=0.95,
    base_flops=1000.0,
    filtered_flops=100.0,
    models={"undo": model},
  )


def test_the_best_within_the_bounds_is_the_cheapest_of_equals():
  assert best(TRIALS, more_is_worse=True).number == 2
  assert best(TRIALS, more_is_worse=False).number == 4
  assert best(TRIALS[1:2], more_is_worse=True) is None


@pytest.mark.parametrize("more_is_worse", [True, False])
def test_the_front_is_what_brute_force_finds(more_is_worse):
  rng = np.random.default_rng(0)
  points = rng.integers(0, 6, size=(40, 2))
  trials = [trial(n, float(w), float(f)) for n, (f, w) in enumerate(points)]
  sign = 1 if more_is_worse else -1
  beaten = {
    n
    for (n, one), other in itertools.product(enumerate(points), points)
    if other[0] <= one[0] and sign * other[1] <= sign * one[1] and (other != one).any()
  }
  expected = {*range(40)} - beaten
  assert {*front(trials, more_is_worse=more_is_worse)} == expected


@pytest.mark.parametrize(
  ("kind", "ends", "edges"),
  [
    # 5 % of the range in its own scale: of [1e-4, 1e-2] a factor 10^0.1 = 1.259.
    ("log_uniform", (1e-4, 1e-2), {1.25e-4: "low", 1.27e-4: None, 8e-3: "high"}),
    ("uniform", (0.2, 1.2), {0.249: "low", 0.251: None, 1.149: None, 1.151: "high"}),
    ("integers", (100, 300), {110: "low", 111: None, 289: None, 290: "high"}),
  ],
)
def test_a_value_within_five_percent_of_an_end_is_at_its_edge(kind, ends, edges):
  each = Range(path="a", kind=kind, low=ends[0], high=ends[1])
  assert {value: each.edge(value) for value in edges} == edges


def test_choices_are_at_an_edge_as_the_first_or_last_of_several_numbers():
  rows = Range(path="a", kind="choices", choices=(128, 32, 64))
  assert [rows.edge(v) for v in (32, 64, 128)] == ["low", None, "high"]
  assert Range(path="a", kind="choices", choices=(32, 64)).edge(32) is None
  words = Range(path="a", kind="choices", choices=("a", "b", "c"))
  assert words.edge("a") is None


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"low": 0.2, "high": 0.1}, "high: expected a number above low=0.2"),
    ({"low": 0.0, "high": 0.1}, "low: expected a number above 0"),
    ({"kind": "integers", "low": 0.5, "high": 2}, "whole"),
    ({"kind": "choices", "choices": (1, 1)}, "at least two"),
    ({"choices": (1, 2), "low": 0.1, "high": 0.2}, r"\(\) of log_uniform"),
  ],
)
def test_a_range_that_is_none_is_refused(changes, message):
  with pytest.raises(ConfigError, match=message):
    Range(**({"path": "a", "kind": "log_uniform"} | changes))


def test_it_comes_back_from_its_file_and_another_schema_does_not(tmp_path):
  search_results.write(searched(), tmp_path)
  path = search_results.path(tmp_path)
  assert search_results.read(path) == searched()
  files.write_json(path, records.to_json(searched()) | {"schema": 0})
  with pytest.raises(ConfigError, match="schema 1, got 0"):
    search_results.read(path)
  with pytest.raises(ConfigError, match="no file"):
    search_results.read(tmp_path / "none.json")


def test_what_is_tied_keeps_its_ratio_and_the_sweep_is_gone():
  entry = {"optimizer": {"rate": 4e-3, "final": 1e-3}, "sweep": {"a": [1]}}
  fields = {"rate": FIELDS["rate"]}
  tied = {"rate": records.replaced(FIELDS["rate"], tied=("optimizer.final",))}
  for each, final in ((fields, 1e-3), (tied, 2e-3)):
    config = {"models": {"undo": entry}, "seeds": [0]}
    search = records.replaced(searched().search, models={"undo": each})
    model = search_results.model(
      [records.replaced(TRIALS[0], values={"rate": 8e-3})],
      each,
      more_is_worse=True,
      training_flops=0.0,
      attack_flops=0.0,
    )
    whole = records.replaced(searched(), search=search, models={"undo": model})
    made = search_results.apply(config, whole)["models"]["undo"]
    assert made == {"optimizer": {"rate": 8e-3, "final": final}, "sweep": {}}
    assert not search_results.is_used(config, whole, "undo")
    assert search_results.is_used({"models": {"undo": made}}, whole, "undo")


def test_the_page_has_the_search_of_its_workdir(tmp_path, monkeypatch):
  monkeypatch.setattr(figures, "draw_all", lambda results: {})
  results = synthetic(SMALL, 20)
  report.write(results, tmp_path)
  assert "<h2>Search</h2>" not in (tmp_path / "report.html").read_text()
  search_results.write(searched(), tmp_path)
  report.write(results, tmp_path)
  page = (tmp_path / "report.html").read_text()
  (table,) = re.findall("<h2>Search</h2>.*?</table>", page, flags=re.DOTALL)
  cells = re.findall("<t[hd](?: [^>]*)?>(.*?)</t[hd]>", table)
  chosen = "rate 0.00011 (low edge), steps 290 (high edge)"
  # 300 + 100 of 1000 FLOPs.
  expected = ["undo", "5", "4", chosen, "0.900", "0.200", "0.800", "40.0%"]
  assert cells == [*search_table.HEAD, *expected]
  entry = {"optimizer": {"rate": 1.1e-4, "steps": 290}, "sweep": {}}
  files.write_json(tmp_path / "config.json", {"models": {"undo": entry}})
  assert search_table.of_run(tmp_path).rows[0][-1] == "yes"
  entry["optimizer"]["steps"] = 200
  files.write_json(tmp_path / "config.json", {"models": {"undo": entry}})
  assert search_table.of_run(tmp_path).rows[0][-1] == "no"
