"""The whole study in :tiny, its results, figures and tables; images of other sizes."""

import json

import numpy as np
import pytest

from configs.direct_inversion import digits as config_file
from experiments.direct_inversion import judge, probes, study
from experiments.direct_inversion import results as results_lib
from experiments.direct_inversion.inversion import Hyperparameters
from experiments.direct_inversion.model import Denoiser
from experiments.shared import running
from undo_jax.utils.errors import ConfigError


def write_idx(directory, size):
  """Write MNIST's four files, of random images."""
  rng = np.random.default_rng(0)
  for part, count in (("train", 30), ("t10k", 20)):
    images = rng.integers(256, size=(count, *size), dtype=np.uint8)
    labels = np.arange(count, dtype=np.uint8) % 10
    for kind, array in (("images", images), ("labels", labels)):
      head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
      path = directory / f"{part}-{kind}-idx{array.ndim}-ubyte"
      path.write_bytes(head + array.tobytes())
  return images


def test_tiny_ends_in_results_and_figures_and_resumes(tmp_path):
  config = config_file.get_config("tiny")
  running.run(study.make, config, tmp_path)
  results = json.loads((tmp_path / "results.json").read_text())
  first, second = results["seeds"]
  assert first["judge_accuracy"] > 0.98
  models = ["base", "unlearned", "UNDO, alpha 0.5", "oracle"]
  assert list(first["inversion"]) == list(first["samples"]) == models
  assert list(first["relearning"]) == models[1:]
  assert np.shape(first["relearning"]["oracle"]) == (2, 2)
  assert first["samples"] != second["samples"] or first["edit"] != second["edit"]
  for part in results["seeds"]:
    assert max(part["reconstruction"]["shifted"]) < 1e-4 < min(part["edit"]["error"][0])
    assert np.shape(part["edit"]["pictures"]) == (2, 2, 64)
    pixels = np.ravel(part["inversion"]["base"]["pictures"]["class"])
    assert pixels.min() >= 0 and pixels.max() <= 255
  for name in ("edit", "inversion", "recovery", "relearning", "reconstruction"):
    assert b"<svg" in (tmp_path / f"figures/{name}.svg").read_bytes()[:200]
  tables = results_lib.table(results).split("\n\n")
  assert [len(table.splitlines()) for table in tables] == [1, 5, 4, 6, 6, 6, 6, 5]
  before = (tmp_path / "parts/seed_1.json").stat().st_mtime_ns
  running.run(study.make, config, tmp_path)
  assert (tmp_path / "parts/seed_1.json").stat().st_mtime_ns == before


def test_images_of_a_directory_are_shrunk_to_means_of_squares(tmp_path):
  held_out = write_idx(tmp_path, (6, 8))
  images = judge.load(str(tmp_path), 2)
  assert images.shape == (3, 4)
  square = held_out[3, 2:4, 6:8].mean() * 2 / 255 - 1
  assert images.test[3].reshape(3, 4)[1, 3] == pytest.approx(square, abs=1e-5)
  config = config_file.get_config("tiny")
  config.data.update(path=str(tmp_path), shrink=2)
  assert study.make(config).parts == ["seed_0", "seed_1"]
  config.data.shrink = 4
  with pytest.raises(ConfigError, match="data.shrink: expected a divisor of 6 and 8"):
    study.make(config)


def test_images_of_another_size_than_the_models_are_refused():
  chosen = Hyperparameters(**config_file.get_config("tiny").edit)
  probe = probes.Probe(Denoiser(64, 10, 8, 1), np.ones(1000), chosen)
  with pytest.raises(ValueError, match=r"model's size, \[B, 64\], got \[2, 49\]"):
    probe.inverted({}, np.zeros((2, 49)))


def test_likelihood_of_normal_draws_is_their_entropy():
  draws = np.random.default_rng(0).standard_normal(100_000)
  entropy = 0.5 * np.log(2 * np.pi * np.e)
  assert probes.nats_per_pixel(draws) == pytest.approx(entropy, abs=0.01)


@pytest.mark.parametrize(
  "field, value, message",
  [
    ("edit.num_inference_steps", 30, "edit.num_inference_steps: expected a divisor of"),
    (
      "edit.noise_merge_lambda",
      2.0,
      r"noise_merge_lambda: expected a number in \[0",
    ),
    ("probe.noise_merge_lambdas", (-0.1,), "probe.noise_merge_lambdas: expected a num"),
    ("reconstruction.num_steps", (3,), "reconstruction.num_steps: expected divisors"),
    ("unlearning.label", 10, "unlearning.label: expected a class of held-out images"),
    ("edit.inversion_prompt", "12", "edit.inversion_prompt: expected"),
    ("schedule.beta_end", 0.0, "config.schedule: expected 0 < beta_start < beta_end"),
    ("undo.alphas", (0.0,), "undo.alphas: expected at least one number, all above 0"),
    ("data.path", "nowhere", "config.data.path: expected a directory"),
  ],
)
def test_a_wrong_config_is_refused(tmp_path, field, value, message):
  config = config_file.get_config("tiny")
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ConfigError, match=message):
    running.run(study.make, config, tmp_path)
  assert not list(tmp_path.iterdir())
