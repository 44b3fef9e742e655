"""The whole study in :tiny, its results, figures and tables; a game of one's own."""

import json

import pytest

from configs.fictitious_play import matrix_games as config_file
from experiments.fictitious_play import results as results_lib
from experiments.fictitious_play import study
from experiments.shared import running
from undo_jax.utils.errors import ConfigError

OWN = {"own.payoffs": ((3, -1), (-2, 1)), "own.column_payoffs": ((-3, 1), (2, -1))}


def test_tiny_ends_in_results_and_figures_and_resumes(tmp_path):
  config = config_file.get_config("tiny")
  config.update_from_flattened_dict(OWN)
  running.run(study.make, config, tmp_path)
  results = json.loads((tmp_path / "results.json").read_text())
  by_game = {each["game"]: each for each in results["certificate"]}
  assert by_game["your own"]["value"] == pytest.approx(1 / 7)
  assert all(each["holds"] for each in by_game.values())
  assert all(low <= 1 / 7 + 1e-6 for low in by_game["your own"]["lower"].values())
  assert len(results["ahead"][0]["share"]) == 6
  (of_steps,) = results["early"]
  assert of_steps["share_by_initial_steps"]["0"][0] == 0.5  # The same first play.
  assert results["anticipations"][0]["by_count"]["0"]["share_ahead"] == 0.5
  assert results["rate"][0]["slope"]["anticipatory"] < -0.8
  for name in ("single", "sizes", "ahead", "early", "poker", "trained"):
    assert b"<svg" in (tmp_path / f"figures/{name}.svg").read_bytes()[:200]
  assert len(results_lib.table(results).split("\n\n")) == 9
  before = (tmp_path / "parts/early.json").stat().st_mtime_ns
  running.run(study.make, config, tmp_path)
  assert (tmp_path / "parts/early.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
  "field, value, message",
  [
    ("single.moves", (2,), "config.single.moves: expected at least one integer"),
    ("poker.games", ("holdem",), "config.poker.games: expected some of kuhn, leduc"),
    ("anticipations.counts", (4,), "successors divide 12 responses"),
    ("certificates.games", ("go",), "config.certificates.games: expected some of"),
    ("own.column_payoffs", ((1, 1), (1, 1)), "a zero-sum game is needed"),
    ("trained.games", ("go",), "config.trained.games: expected some of kuhn, leduc"),
    ("trained.entropy", -1.0, "config.trained.entropy: expected nothing below 0"),
    ("releases.runs", ("nowhere",), "expected the results of a finished run, but no"),
    ("poker.agents", 1, "config.poker.agents: expected an integer of at least 2"),
  ],
)
def test_a_wrong_config_is_refused(tmp_path, field, value, message):
  config = config_file.get_config("tiny")
  config.update_from_flattened_dict({"own.payoffs": OWN["own.payoffs"], field: value})
  with pytest.raises(ConfigError, match=message):
    running.run(study.make, config, tmp_path)
  assert not list(tmp_path.iterdir())
