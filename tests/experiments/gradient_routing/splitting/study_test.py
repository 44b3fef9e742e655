"""The whole study in :tiny: results, figures, resume."""

import json
import math

import numpy as np
from PIL import Image
import pytest

from configs.gradient_routing import splitting as config_file
from experiments.gradient_routing.splitting import study
from experiments.shared import running
from undo_jax.data import images as images_lib
from undo_jax.utils import files
from undo_jax.utils.types import ConfigError


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  config = config_file.get_config("tiny")
  directory = tmp_path_factory.mktemp("splitting")
  running.run(study.make, config, directory)
  return directory


def test_results_hold_every_seed_and_their_mean(workdir):
  results = json.loads((workdir / "results.json").read_text())
  assert list(results["settings"]) == ["routing", "no_routing"]
  for name, of_setting in results["settings"].items():
    by_seed = [of_setting["certificate_mse"][seed][1] for seed in ("0", "1")]
    assert by_seed[0] != by_seed[1]
    np.testing.assert_allclose(of_setting["mean"], np.mean(by_seed, axis=0))
    spread = [abs(a - b) / math.sqrt(2) for a, b in zip(*by_seed, strict=True)]
    np.testing.assert_allclose(of_setting["std"], spread)
    assert (
      of_setting["paper"] == {"routing": [0.32, 0.08], "no_routing": [0.13, 0.13]}[name]
    )
  images = images_lib.digits()
  mean = images.train.mean(0)
  first = np.square(images.test[images.test_labels < 5] - mean).mean()
  np.testing.assert_allclose(results["mean_image"][0], first, rtol=1e-5)
  for name in ("certificates.png", "samples.png"):
    assert Image.open(workdir / "figures" / name).size[0] > 800


def test_certificates_learn(workdir):
  part = json.loads((workdir / "parts" / "routing-seed_0.json").read_text())
  curve = part["curve"]
  assert curve["epochs"] == [2, 4]
  assert curve["certificate_mse"][-1] == part["scores"]["certificate_mse"]
  assert (np.diff(curve["certificate_mse"], axis=0) < 0).all()
  assert np.shape(part["samples"]) == (2, 10, 64)


def test_a_finished_seed_is_kept_and_a_new_one_added(workdir, monkeypatch):
  trained = []

  def train(config, setting, images, seeds):
    trained.extend(seeds)
    return [dict(kept) for _ in seeds]

  path = workdir / "parts" / "routing-seed_1.json"
  kept = files.read_record(path)
  monkeypatch.setattr(study, "train", train)
  config = config_file.get_config("tiny")
  config.seeds, config.run = (1, 0, 2), ("routing",)
  running.run(study.make, config, workdir)
  assert trained == [2]
  results = json.loads((workdir / "results.json").read_text())
  assert list(results["settings"]["routing"]["certificate_mse"]) == ["1", "0", "2"]
  config.training.num_epochs = 5
  with pytest.raises(ConfigError, match=r"training.num_epochs \(4 there, 5 here\)"):
    running.run(study.make, config, workdir)
