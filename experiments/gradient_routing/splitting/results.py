"""The results of the study: results.json and its table."""

from collections.abc import Mapping
from typing import TypedDict

import numpy as np

from experiments.gradient_routing.splitting.config import Config
from undo_jax.data.images import Images
from undo_jax.utils import tables

# MSE of the second half's certificate on digits 0-4 and 5-9 of MNIST, from the paper's
# table 2. The table says MAE, but the paper's code computes MSE.
PAPER = {
  "routing": (0.32, 0.08),
  "routing_separate_decoders": (0.33, 0.07),
  "routing_no_correlation": (0.28, 0.11),
  "routing_no_penalties": (0.32, 0.32),
  "routing_no_penalties_separate_decoders": (0.09, 0.08),
  "routing_first_half_only": (0.23, 0.13),
  "second_group_only": (0.27, 0.11),
  "second_group_only_no_penalties": (0.08, 0.08),
  "no_routing": (0.13, 0.13),
  "no_routing_no_penalties": (0.08, 0.09),
}
_NUM_SAMPLES = 10  # Test images whose reconstructions are kept.


class Curve(TypedDict):
  """The certificates' errors, [H, G], after some of the epochs."""

  epochs: list[int]
  certificate_mse: list[list[list[float]]]


class Part(TypedDict):
  """A setting and a seed."""

  scores: dict[str, list]  # See autoencoder.scores.
  curve: Curve
  samples: list  # Pixels as bytes [H, S, P]: the certificates' reconstructions.


class SettingResult(TypedDict):
  """A setting's errors: for each seed, certificates [H, G] and autoencoder [G]."""

  certificate_mse: dict[str, list[list[float]]]
  certificate_mae: dict[str, list[list[float]]]
  autoencoder_mse: dict[str, list[float]]
  mean: list[float]  # MSE of the second half's certificate, by group.
  std: list[float] | None  # With n - 1 degrees of freedom; None for one seed.
  paper: tuple[float, float] | None  # The paper's, on MNIST.


class Results(TypedDict):
  """The content of results.json."""

  metric: str  # What the numbers are.
  seeds: list[int]
  mean_image: list[float]
  settings: dict[str, SettingResult]


def part_name(setting: str, seed: int) -> str:
  """Return the name of the part of a setting and a seed."""
  return f"{setting}-seed_{seed}"


def assemble(config: Config, images: Images, parts: Mapping[str, Part]) -> Results:
  """Return every seed of every setting, their mean and spread."""
  return {
    "metric": "mean squared error of pixels in [-1, 1] on test images; the "
    "certificate of the second half on the first and on the second group of classes",
    "seeds": list(config.seeds),
    "mean_image": mean_image_error(images),
    "settings": {name: _setting_result(config, parts, name) for name in config.run},
  }


def _setting_result(
  config: Config, parts: Mapping[str, Part], name: str
) -> SettingResult:
  scores = {seed: parts[part_name(name, seed)]["scores"] for seed in config.seeds}
  second_SxG = np.array([s["certificate_mse"][1] for s in scores.values()])

  def by_seed(metric):
    return {str(seed): of_seed[metric] for seed, of_seed in scores.items()}

  return {
    "certificate_mse": by_seed("certificate_mse"),
    "certificate_mae": by_seed("certificate_mae"),
    "autoencoder_mse": by_seed("autoencoder_mse"),
    "mean": second_SxG.mean(0).tolist(),
    "std": second_SxG.std(0, ddof=1).tolist() if len(scores) > 1 else None,
    "paper": PAPER.get(name),
  }


def mean_image_error(images: Images) -> list[float]:
  """Return the mean training image's MSE on each group, which needs no knowledge."""
  first = images.num_classes // 2
  error = np.square(images.test - images.train.mean(0)).mean(1)
  return [
    float(error[images.test_labels < first].mean()),
    float(error[images.test_labels >= first].mean()),
  ]


def sample_rows(labels: np.ndarray) -> np.ndarray:
  """Return the first test image of some classes, spread evenly over all classes."""
  classes = np.unique(labels)
  chosen = classes[np.linspace(0, len(classes) - 1, _NUM_SAMPLES).round().astype(int)]
  return np.array([int(np.argmax(labels == label)) for label in dict.fromkeys(chosen)])


def table(results: Results) -> str:
  """Return the table of settings beside the paper's numbers, for the terminal."""
  rows = []
  for name, of_setting in results["settings"].items():
    spread = of_setting["std"] or (0.0, 0.0)
    pairs = zip(of_setting["mean"], spread, strict=True)
    paper = "  ".join(f"{x:.2f}" for x in of_setting["paper"] or ())
    rows.append([name, *(f"{mean:.3f} +- {std:.3f}" for mean, std in pairs), paper])
  rows.append(["(mean image)", *(f"{x:.3f}" for x in results["mean_image"]), ""])
  return tables.text(["setting", "first", "second", "paper (MNIST)"], rows)
