"""The whole study in :tiny: results, figures, resume; checks of its config."""

import json
import math

import numpy as np
from PIL import Image
import pytest

from configs import routing_splitting
from experiments import routing_splitting as experiment
from undo_jax.data import images as images_lib
from undo_jax.studies.splitting import study
from undo_jax.utils.types import ConfigError


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  config = routing_splitting.get_config("tiny")
  directory = tmp_path_factory.mktemp("splitting")
  experiment.run(config, directory)
  return directory


def test_results_hold_every_seed_and_their_mean(workdir):
  results = json.loads((workdir / "results.json").read_text())
  assert list(results["settings"]) == ["routing", "no_routing"]
  for name, found in results["settings"].items():
    by_seed = [found["certificate_mse"][seed][1] for seed in ("0", "1")]
    assert by_seed[0] != by_seed[1]
    np.testing.assert_allclose(found["mean"], np.mean(by_seed, axis=0))
    spread = [abs(a - b) / math.sqrt(2) for a, b in zip(*by_seed, strict=True)]
    np.testing.assert_allclose(found["std"], spread)
    assert found["paper"] == {"routing": [0.32, 0.08], "no_routing": [0.13, 0.13]}[name]
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

  def train(config, block, images, seeds):
    trained.extend(seeds)
    return [dict(kept) for _ in seeds]

  path = workdir / "parts" / "routing-seed_1.json"
  kept = json.loads(path.read_text())
  monkeypatch.setattr(study, "train", train)
  config = routing_splitting.get_config("tiny")
  config.seeds, config.run = (1, 0, 2), ("routing",)
  experiment.run(config, workdir)
  assert trained == [2]
  results = json.loads((workdir / "results.json").read_text())
  assert list(results["settings"]["routing"]["certificate_mse"]) == ["1", "0", "2"]
  config.training.num_epochs = 5
  with pytest.raises(ConfigError, match=r"training.num_epochs \(4 there, 5 here\)"):
    experiment.run(config, workdir)


def test_the_papers_size_is_the_papers():
  config = routing_splitting.get_config("paper")
  study.check(config)
  assert config.run == tuple(study.PAPER)
  init = study.autoencoder.init
  shapes = study.jax.eval_shape(
    lambda key: init(
      key,
      784,
      hidden=config.model.hidden,
      latent=config.model.latent,
      separate_decoders=False,
    ),
    study.jax.random.key(0),
  )
  count = {
    name: sum(math.prod(x.shape) for x in study.jax.tree.leaves(tree))
    for name, tree in shapes.items()
  }
  # The authors' networks, counted by hand.
  assert count == {
    "encoder": 2_673_152,
    "decoder_0": 2_673_936,
    "certificate_0": 2_665_744,
    "certificate_1": 2_665_744,
  }


@pytest.mark.parametrize(
  "field, value, message",
  [
    ("seeds", (), "config.seeds: expected at least one integer"),
    ("seeds", (1, 1), "none twice"),
    ("model.latent", 7, "config.model.latent: expected an even number"),
    ("model.hidden", (), "config.model.hidden: expected at least one integer"),
    ("model.hidden", (8, "a"), r"config.model.hidden: .* got \(8, 'a'\)"),
    ("training.learning_rate", 0.0, "config.training.learning_rate: .* above 0"),
    ("training.batch_size", 0, "config.training.batch_size"),
    ("run", ("routing", "routed"), "config.run: expected some of config.settings"),
    ("settings.routing.masks", ((1.0, 0.0),), r"settings.routing.masks: .*\(2, 2\)"),
    ("settings.routing.seen", (0.0, 0.0), "0 or 1, one of them 1"),
  ],
)
def test_a_wrong_field_is_named(field, value, message):
  config = routing_splitting.get_config("tiny")
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ConfigError, match=message):
    study.check(config)
