"""Results made of parts by hand: errors, their spread, the mean image, the table."""

import dataclasses

import numpy as np
import pytest

from configs.gradient_routing import splitting as config_file
from experiments.gradient_routing.splitting import results
from experiments.gradient_routing.splitting.config import Config
from experiments.shared import typed
from undo_jax.data.images import Images

IMAGES = Images(
  train=np.array([[0.0, 0.0], [1.0, 0.0]], np.float32),
  train_labels=np.array([0, 1]),
  test=np.array([[0.5, 1.0], [0.5, 0.0], [1.5, 0.0]], np.float32),
  test_labels=np.array([0, 1, 1]),
  num_classes=2,
  shape=(1, 2),
)


@pytest.fixture
def assembled():
  config = typed.read(Config, config_file.get_config("tiny"))
  config = dataclasses.replace(config, run=("routing", "second_group_only"))
  scores = {"certificate_mae": [[9.0, 9.0], [9.0, 9.0]], "autoencoder_mse": [9.0, 9.0]}
  parts = {
    results.part_name(name, seed): {
      "scores": scores | {"certificate_mse": [[9.0, 9.0], [0.25 + seed, 0.5]]}
    }
    for name in config.run
    for seed in config.seeds
  }
  return results.assemble(config, IMAGES, parts)


def test_the_mean_and_the_spread_are_the_second_halfs(assembled):
  of_setting = assembled["settings"]["routing"]
  assert of_setting["mean"] == [0.75, 0.5]
  np.testing.assert_allclose(of_setting["std"], [0.5**0.5, 0.0])
  assert of_setting["certificate_mse"]["1"] == [[9.0, 9.0], [1.25, 0.5]]


def test_the_mean_image_knows_nothing(assembled):
  """The mean is (0.5, 0): by group its squared errors, averaged over pixels."""
  assert assembled["mean_image"] == [0.5, 0.25]


def test_samples_are_the_first_of_each_class():
  labels = np.array([3, 1, 1, 0, 2, 0])
  assert results.sample_rows(labels).tolist() == [3, 1, 4, 0]


def test_the_table_holds_the_papers_numbers(assembled):
  lines = results.table(assembled).splitlines()
  assert [line.split() for line in lines[1:]] == [
    "routing 0.750 +- 0.707 0.500 +- 0.000 0.32 0.08".split(),
    "second_group_only 0.750 +- 0.707 0.500 +- 0.000 0.27 0.11".split(),
    "(mean image) 0.500 0.250".split(),
  ]
