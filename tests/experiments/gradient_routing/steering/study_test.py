"""The whole study in :tiny: results, figures, resume."""

import json

from configs.gradient_routing import steering as config_file
from experiments.gradient_routing.steering import study
from experiments.gradient_routing.steering.results import MODELS
from experiments.shared import running


def test_tiny_ends_in_results_and_figures_and_resumes(tmp_path, monkeypatch):
  config = config_file.get_config("tiny")
  running.run(study.make, config, tmp_path)
  results = json.loads((tmp_path / "results.json").read_text())
  for name in MODELS:
    measured = results["models"][name]["0"]
    assert list(measured["steering"]) == ["0", "5"]
    assert all(0 <= x["word"] <= 1 for x in measured["steering"].values())
    assert 1 <= measured["rank"] <= config.model.vocab_size
  routed, control = (results["models"][name]["0"] for name in MODELS)
  assert routed["losses"] != control["losses"]
  for name in ("projection", "steering"):
    png = (tmp_path / f"figures/{name}.png").read_bytes()
    assert png.startswith(b"\x89PNG")
  monkeypatch.setattr(study, "run_seed", None)
  running.run(study.make, config, tmp_path)
