"""The whole study in :tiny, its results, figures and tables."""

import json

import pytest

from configs.vervaat import perpetuities as config_file
from experiments.shared import running
from experiments.vervaat import results as results_lib
from experiments.vervaat import study
from undo_jax.utils.errors import ConfigError


def test_tiny_ends_in_results_and_figures_and_resumes(tmp_path):
  config = config_file.get_config("tiny")
  running.run(study.make, config, tmp_path)
  results = json.loads((tmp_path / "results.json").read_text())
  assert [part["beta"] for part in results["exact"]] == [0.5, 2.0]
  for part in results["exact"]:
    assert part["violations"] == 0
    assert all(abs(each["z"]) < 4.5 for each in part["cumulants"])
    assert part["cumulants"][1]["expected"] == part["beta"] / 2
  (part,) = results["published"]
  assert part["updates"]["exact"]["violations"] == 0
  assert part["updates"]["old bound"]["violations"] > 0
  for name in ("time", "uniforms", "densities", "published"):
    assert b"<svg" in (tmp_path / f"figures/{name}.svg").read_bytes()[:200]
  tables = results_lib.table(results).split("\n\n")
  assert [len(table.splitlines()) for table in tables] == [4, 3, 3]
  before = (tmp_path / "parts/exact_2.json").stat().st_mtime_ns
  running.run(study.make, config, tmp_path)
  assert (tmp_path / "parts/exact_2.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
  "field, value, message",
  [
    (
      "exact.betas",
      (1.0, 0.0),
      r"config.exact.betas: expected numbers in \[0.01, 1000",
    ),
    ("published.slow_betas", (), "config.published.slow_betas: expected at least one"),
    ("exact.draws", 1, "config.exact.draws: expected an integer of at least 100"),
    ("seed", -1, "config.seed: expected an integer of at least 0"),
  ],
)
def test_a_wrong_config_is_refused(tmp_path, field, value, message):
  config = config_file.get_config("tiny")
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ConfigError, match=message):
    running.run(study.make, config, tmp_path)
  assert not list(tmp_path.iterdir())
