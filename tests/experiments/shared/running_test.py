"""A study's parts: computed once, of one config, kept through a kill."""

import json

from ml_collections import config_dict
import pytest

from experiments.shared import running
from undo_jax.utils.types import ConfigError


def make_config(seeds=(0, 1), rate=0.1):
  return config_dict.create(seeds=seeds, training={"rate": rate})


class Computed:
  """Gives each part its name; dies before the one named `dies_at`."""

  def __init__(self, dies_at=None):
    self.computed, self.dies_at = [], dies_at

  def __call__(self, missing):
    for name in missing:
      if name == self.dies_at:
        raise KeyboardInterrupt
      self.computed.append(name)
      yield name, {"name": name, "losses": (1.0, 2.0)}


def run(workdir, config, compute):
  """Run a study of seeds; return the parts of its results.json."""

  def make(config):
    return running.Study(list(running.seed_parts(config.seeds)), compute, finish)

  def finish(parts):
    return running.Outcome({"parts": parts}, {"curve.png": b"\x89PNG\r\n"}, "a table")

  running.run(make, config, workdir)
  return json.loads((workdir / "results.json").read_text())["parts"]


def test_a_finished_part_is_not_computed_again(tmp_path):
  config, first, second = make_config((0, 1, 2)), Computed("seed_1"), Computed()
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path, config, first)
  parts = run(tmp_path, config, second)
  assert (first.computed, second.computed) == (["seed_0"], ["seed_1", "seed_2"])
  assert list(parts) == ["seed_0", "seed_1", "seed_2"]
  assert parts["seed_0"] == {"name": "seed_0", "losses": [1.0, 2.0]}


def test_more_seeds_compute_only_the_new_ones(tmp_path):
  run(tmp_path, make_config(), Computed())
  computed = Computed()
  parts = run(tmp_path, make_config((1, 0, 5)), computed)
  assert computed.computed == ["seed_5"]
  assert list(parts) == ["seed_1", "seed_0", "seed_5"]
  written = json.loads((tmp_path / "config.json").read_text())
  assert written["seeds"] == [1, 0, 5]


def test_another_config_is_refused_before_compute(tmp_path):
  run(tmp_path, make_config(), Computed())
  other, computed = make_config((2,), rate=0.2), Computed()
  with pytest.raises(ConfigError, match=r"training.rate \(0.1 there, 0.2 here\)"):
    run(tmp_path, other, computed)
  assert not computed.computed


def test_the_study_says_what_it_ran_on_and_what_came_out(tmp_path, capsys):
  run(tmp_path, make_config(), Computed())
  environment = json.loads((tmp_path / "environment.json").read_text())
  assert environment["packages"]["jax"]
  assert (tmp_path / "command.txt").read_text().strip()
  assert (tmp_path / "figures" / "curve.png").read_bytes() == b"\x89PNG\r\n"
  assert capsys.readouterr().out == "a table\n"


def parts_of(workdir, names, compute):
  return running.run_parts(running.Study(names, compute, None), workdir)


def test_a_part_that_is_missing_or_not_finite_is_an_error(tmp_path):
  with pytest.raises(ValueError, match="not computed: seed_0, seed_1"):
    parts_of(tmp_path, ["seed_0", "seed_1"], lambda missing: ())
  with pytest.raises(ValueError, match="nan"):
    parts_of(tmp_path, ["seed_0"], lambda _: [("seed_0", {"loss": float("nan")})])
  assert not (tmp_path / "parts" / "seed_0.json").exists()
  with pytest.raises(ValueError, match=r"got '../seed'"):
    parts_of(tmp_path, ["../seed"], Computed())


@pytest.mark.parametrize("content", ['{"loss": 1', '{"loss": 1.0, "checksum": "0"}'])
def test_a_damaged_part_is_named(tmp_path, content):
  computed = [("seed_0", {"loss": 1.0})]
  assert parts_of(tmp_path, ["seed_0"], lambda _: computed) == dict(computed)
  (tmp_path / "parts" / "seed_0.json").write_text(content)
  with pytest.raises(ConfigError, match=r"parts/seed_0\.json is damaged"):
    parts_of(tmp_path, ["seed_0"], Computed())
