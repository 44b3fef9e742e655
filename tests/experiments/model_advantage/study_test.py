"""The whole study in :tiny, its results, figure and tables."""

import json

import pytest

from configs.model_advantage import models as config_file
from experiments.model_advantage import results as results_lib
from experiments.model_advantage import study
from experiments.shared import running
from undo_jax.utils.errors import ConfigError


def test_tiny_ends_in_results_and_a_figure_and_resumes(tmp_path):
  config = config_file.get_config("tiny")
  config.control.environments = ()  # In control_test.py.
  running.run(study.make, config, tmp_path)
  results = json.loads((tmp_path / "results.json").read_text())
  tables = results["tables"]
  assert tables["chains_that_hold"] == tables["count"] == 5
  assert max(tables["largest_error"].values()) < 1e-12
  assert [part["loss"] for part in results["toy"]] == ["mle", "l1", "l2"]
  assert b"<svg" in (tmp_path / "figures/advantage.svg").read_bytes()[:200]
  assert results_lib.table(results).count("1 of 1") >= 3  # The bound holds.
  before = (tmp_path / "parts/toy_l1.json").stat().st_mtime_ns
  running.run(study.make, config, tmp_path)
  assert (tmp_path / "parts/toy_l1.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
  "field, value, message",
  [
    ("tables.discount", 1.0, r"config.tables.discount: expected a number in \[0, 1\)"),
    ("tables.states", 1, "config.tables.states: expected an integer of at least 2"),
    ("toy.starts", 0, "config.toy.starts: expected an integer of at least 1"),
    ("control.environments", ("ant",), "expected some of pendulum, cartpole"),
    ("control.seeds", 1, "config.control.seeds: expected an integer of at least 2"),
    ("control.refit_every", 3, "a divisor of 2 model steps, got 3"),
    ("control.max_kl", 0.0, "config.control.max_kl: expected a number above 0"),
  ],
)
def test_a_wrong_config_is_refused(tmp_path, field, value, message):
  config = config_file.get_config("tiny")
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ConfigError, match=message):
    running.run(study.make, config, tmp_path)
  assert not list(tmp_path.iterdir())
