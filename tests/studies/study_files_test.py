"""Parts of a study: computed once, of one config, kept through a kill."""

import json

from ml_collections import config_dict
import pytest

from undo_jax.studies import study_files
from undo_jax.utils.types import ConfigError


def make_config(seeds=(0, 1), rate=0.1):
  return config_dict.create(seeds=seeds, training={"rate": rate})


def names(config):
  return [f"seed_{seed}" for seed in config.seeds]


class Computed:
  """Gives each part its name; dies before the one named `dies_at`."""

  def __init__(self, dies_at=None):
    self.asked, self.dies_at = [], dies_at

  def __call__(self, missing):
    for name in missing:
      if name == self.dies_at:
        raise KeyboardInterrupt
      self.asked.append(name)
      yield name, {"name": name, "losses": (1.0, 2.0)}


def test_a_finished_part_is_not_computed_again(tmp_path):
  config, first, second = make_config((0, 1, 2)), Computed("seed_1"), Computed()
  with pytest.raises(KeyboardInterrupt):
    study_files.run_parts(config, tmp_path, names(config), first)
  found = study_files.run_parts(config, tmp_path, names(config), second)
  assert (first.asked, second.asked) == (["seed_0"], ["seed_1", "seed_2"])
  assert list(found) == names(config)
  assert found["seed_0"] == {"name": "seed_0", "losses": [1.0, 2.0]}


def test_more_seeds_compute_only_the_new_ones(tmp_path):
  study_files.run_parts(make_config(), tmp_path, names(make_config()), Computed())
  more, computed = make_config((1, 0, 5)), Computed()
  found = study_files.run_parts(more, tmp_path, names(more), computed)
  assert computed.asked == ["seed_5"]
  assert list(found) == ["seed_1", "seed_0", "seed_5"]
  written = json.loads((tmp_path / "config.json").read_text())
  assert written["seeds"] == [1, 0, 5]


def test_another_config_is_refused_before_compute(tmp_path):
  study_files.run_parts(make_config(), tmp_path, names(make_config()), Computed())
  other, computed = make_config((2,), rate=0.2), Computed()
  with pytest.raises(ConfigError, match=r"training.rate \(0.1 there, 0.2 here\)"):
    study_files.run_parts(other, tmp_path, names(other), computed)
  assert not computed.asked


def test_the_study_says_what_it_ran_on(tmp_path):
  config = make_config()
  study_files.run_parts(config, tmp_path, names(config), Computed())
  study_files.write(tmp_path, {"seeds": [0, 1]}, {"curve.png": b"\x89PNG\r\n"})
  environment = json.loads((tmp_path / "environment.json").read_text())
  assert environment["packages"]["jax"]
  assert (tmp_path / "command.txt").read_text().strip()
  assert json.loads((tmp_path / "results.json").read_text()) == {"seeds": [0, 1]}
  assert (tmp_path / "figures" / "curve.png").read_bytes() == b"\x89PNG\r\n"


def test_a_part_that_is_missing_or_not_finite_is_an_error(tmp_path):
  config = make_config()
  with pytest.raises(ValueError, match="not computed: seed_0, seed_1"):
    study_files.run_parts(config, tmp_path, names(config), lambda missing: ())
  with pytest.raises(ValueError, match="nan"):
    study_files.finish(tmp_path, "seed_0", {"loss": float("nan")})
  assert study_files.finished(tmp_path, "seed_0") is None
  with pytest.raises(ValueError, match=r"got '../seed'"):
    study_files.finish(tmp_path, "../seed", {})
