"""The whole study in :tiny: results, figures, resume."""

import json

from configs.gradient_routing import tug_of_war as config_file
from experiments.gradient_routing.tug_of_war import study
from experiments.shared import running


def test_tiny_ends_in_results_and_figures_and_resumes(tmp_path):
  config = config_file.get_config("tiny")
  running.run(study.make, config, tmp_path)
  results = json.loads((tmp_path / "results.json").read_text())
  assert results["two_parameters"]["0"]["steps"] == [10, 20, 30, 40]
  assert set(results["two_tasks"]) == set(config.two_tasks.ways)
  for name in ("two_parameters", "two_tasks"):
    assert (tmp_path / f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")
  before = (tmp_path / "parts/seed_0.json").stat().st_mtime_ns
  running.run(study.make, config, tmp_path)
  assert (tmp_path / "parts/seed_0.json").stat().st_mtime_ns == before
