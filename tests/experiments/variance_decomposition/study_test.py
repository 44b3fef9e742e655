"""The whole study in :tiny, its results, figure and tables."""

import json

import pytest

from configs.variance_decomposition import poker as config_file
from experiments.shared import running
from experiments.variance_decomposition import results as results_lib
from experiments.variance_decomposition import study
from undo_jax.utils.errors import ConfigError


def test_tiny_ends_in_results_and_figures_and_resumes(tmp_path):
  config = config_file.get_config("tiny")
  running.run(study.make, config, tmp_path)
  results = json.loads((tmp_path / "results.json").read_text())
  parts = {part["play"]: part for part in results["parts"]}
  assert list(parts)[:2] == ["uniform", "equilibrium"]
  for play in ("equilibrium", "equilibrium, alpha 0.333"):
    split = parts[play]["splits"]["deck"]
    assert parts[play]["mean"] == pytest.approx(-1 / 18)
    assert parts[play]["exploitability"] == pytest.approx(0.0, abs=1e-8)
    assert split["first_order"]["first"] == pytest.approx(0.0, abs=1e-8)
    assert split["total"]["first"] > 0.1
  pure = parts["second responds to uniform"]["splits"]["deck"]
  assert pure["total"]["second"] == pytest.approx(0.0, abs=1e-12)
  for part in parts.values():
    deck, fresh = part["splits"].values()
    assert deck["variance"] == pytest.approx(fresh["variance"])
    assert deck["first_order"]["first"] == pytest.approx(fresh["first_order"]["first"])
  assert max(results["largest_z"][name] for name in ("E1", "E2")) < 5
  assert b"<svg" in (tmp_path / "figures/components.svg").read_bytes()[:200]
  assert results_lib.table(results).count("| kuhn") == 4 * len(parts)
  before = (tmp_path / "parts/kuhn_uniform.json").stat().st_mtime_ns
  running.run(study.make, config, tmp_path)
  assert (tmp_path / "parts/kuhn_uniform.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
  "field, value, message",
  [
    ("games", ("go",), "config.games: expected some of kuhn, leduc, holdem"),
    ("holdem.stack", 1.0, "config.holdem.stack: expected a number of big blinds"),
    ("alphas", (0.5,), r"config.alphas: expected numbers in \[0, 1/3\]"),
    ("samples.levels", 1, "config.samples.levels: expected an integer of at least 2"),
  ],
)
def test_a_wrong_config_is_refused(tmp_path, field, value, message):
  config = config_file.get_config("tiny")
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ConfigError, match=message):
    running.run(study.make, config, tmp_path)
  assert not list(tmp_path.iterdir())


def test_holdem_is_estimated_beside_its_closed_form(tmp_path):
  pytest.importorskip("phevaluator")
  config = config_file.get_config("tiny")
  config.games = ("holdem",)
  running.run(study.make, config, tmp_path)
  results = json.loads((tmp_path / "results.json").read_text())
  limit, *jams = results["holdem"]
  assert limit["exploitability"] is None and limit["total"]["first"]["exact"] is None
  by_play = {part["play"]: part for part in jams}
  solved = by_play["equilibrium"]
  assert solved["exploitability"] == pytest.approx(0.0, abs=1e-9)
  assert solved["first_order"]["first"]["exact"] == pytest.approx(0.0, abs=1e-9)
  assert by_play["first responds to uniform"]["total"]["first"]["exact"] == 0.0
  assert results["largest_z"]["E1"] < 5 and results["largest_z"]["E3"] == 0
  assert b"<svg" in (tmp_path / "figures/holdem.svg").read_bytes()[:200]
  assert results_lib.table(results).count("| jam or fold") == 4
