"""The study: its config's checks, its parts (a setting and a seed), its results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import functools
import logging
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from undo_jax.data.images import Images
from undo_jax.studies.splitting import autoencoder, training
from undo_jax.training import population
from undo_jax.utils import checks, streams

LOGGER = logging.getLogger("undo_jax")
# Of the config: which parts there are, and how they are computed.
FREE_FIELDS = ("run", "replicas_at_once")
# Certificate of the second half, MSE on digits 0-4 and 5-9 of MNIST: the paper's
# table 2, which says MAE; its code computes MSE.
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
_NUM_SAMPLES = 10  # Test images kept as the certificates see them.


def check(config: Any) -> None:
  """Raises ConfigError at the first field of the config that cannot work."""
  checks.seeds(config)
  for name in ("replicas_at_once", "model.latent", "training.num_epochs"):
    checks.at_least(config, name, 1)
  for name in ("training.batch_size", "training.evaluate_every"):
    checks.at_least(config, name, 1)
  if config.model.latent % 2:
    checks.fail("model.latent", "an even number, for two halves", config.model.latent)
  checks.integers(config, "model.hidden", 1)
  for name, smallest in (("learning_rate", 1e-30), ("weight_decay", 0.0)):
    value = config.training[name]
    if not checks.is_number(value) or value < smallest:
      expected = "a number of at least 0" if smallest == 0 else "a number above 0"
      checks.fail(f"training.{name}", expected, value)
  unknown = [name for name in config.run if name not in config.settings]
  if not config.run or unknown or len(set(config.run)) != len(config.run):
    known = ", ".join(config.settings)
    checks.fail("run", f"some of config.settings, none twice: {known}", config.run)
  for name in config.run:
    _check_setting(name, config.settings[name])


def part_names(config: Any) -> list[str]:
  """Returns the names of the parts, setting by setting."""
  return [part_name(setting, seed) for setting in config.run for seed in config.seeds]


def compute(
  config: Any, images: Images, missing: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
  """Trains the missing parts, the seeds of a setting as populations.

  Args:
    config: a checked config.
    images: what is trained on.
    missing: names of parts.

  Yields:
    (name, result) of each part: final scores, their learning curve, samples.
  """
  for setting in config.run:
    seeds = [seed for seed in config.seeds if part_name(setting, seed) in missing]
    for start in range(0, len(seeds), config.replicas_at_once):
      together = seeds[start : start + config.replicas_at_once]
      LOGGER.info("%s: seeds %s", setting, ", ".join(map(str, together)))
      results = train(config, config.settings[setting], images, together)
      for seed, result in zip(together, results, strict=True):
        yield part_name(setting, seed), result


def train(
  config: Any, block: Any, images: Images, seeds: Sequence[int]
) -> list[dict[str, Any]]:
  """Trains one population: a setting with several seeds; returns their results."""
  chosen = config.training
  programs = _programs(
    images.train.shape[1],
    tuple(config.model.hidden),
    config.model.latent,
    block.separate_decoders,
    chosen.batch_size,
    chosen.learning_rate,
    chosen.weight_decay,
  )
  setting = autoencoder.make_setting(block, config.model.latent)
  train_images, test_images = autoencoder.groups(images)
  keys = [
    jnp.stack([streams.key(seed, name) for seed in seeds]) for name in ("init", "data")
  ]
  states, epochs, curve, scores = programs.init(*keys), 0, [], {}
  samples = _sample_rows(images.test_labels)
  certified = None
  while epochs < chosen.num_epochs:
    count = min(chosen.evaluate_every, chosen.num_epochs - epochs)
    states = programs.epochs(states, train_images, setting, count)
    epochs += count
    scores, certified = jax.device_get(programs.scores(states, test_images, samples))
    curve.append((epochs, scores["certificate_mse"]))
    second = scores["certificate_mse"][:, 1].mean(0)
    LOGGER.info(
      "  epoch %d: certificate of the second half, MSE %.3f and %.3f", epochs, *second
    )
  return [_result(i, scores, curve, certified) for i in range(len(seeds))]


class _Programs(NamedTuple):
  """The compiled programs of a population; the settings are their arguments."""

  init: Callable[..., Any]
  epochs: Callable[..., Any]
  scores: Callable[..., Any]


@functools.lru_cache(maxsize=2)
def _programs(pixels, hidden, latent, separate, batch_size, rate, decay):
  optimizer = training.make_optimizer(rate, decay)

  def init(init_key, data_key):
    params = autoencoder.init(
      init_key, pixels, hidden=hidden, latent=latent, separate_decoders=separate
    )
    return training.State(params, optimizer.init(params), data_key)

  def scores(state, images, rows):
    found, certified_HxBxP = autoencoder.scores(state.params, images)
    return found, certified_HxBxP[:, rows]

  epochs = training.make_epochs(optimizer, batch_size)
  return _Programs(
    jax.jit(jax.vmap(init)),
    jax.jit(population.over_replicas(epochs), donate_argnums=0),
    jax.jit(population.over_replicas(scores)),
  )


def assemble(config: Any, images: Images, parts: Mapping[str, Any]) -> dict[str, Any]:
  """Returns results.json: every seed of every setting, their mean and spread.

  {"metric": what the numbers are, "seeds": [...], "mean_image": [MSE on each group],
   "settings": {name: {"certificate_mse": {seed: [[half 0: group 0, 1], [half 1]]},
     "mean": of the second half's [group 0, group 1], "std": ditto (ddof 1),
     "paper": ditto for MNIST, "autoencoder_mse": {seed: [group 0, group 1]}}}}
  """
  settings = {}
  for name in config.run:
    found = {seed: parts[part_name(name, seed)]["scores"] for seed in config.seeds}
    second_SxG = np.array([s["certificate_mse"][1] for s in found.values()])
    spread = second_SxG.std(0, ddof=1).tolist() if len(found) > 1 else None
    by_seed = {
      metric: {str(seed): scores[metric] for seed, scores in found.items()}
      for metric in ("certificate_mse", "certificate_mae", "autoencoder_mse")
    }
    settings[name] = {
      **by_seed,
      "mean": second_SxG.mean(0).tolist(),
      "std": spread,
      "paper": PAPER.get(name),
    }
  return {
    "metric": "mean squared error of pixels in [-1, 1] on test images; the "
    "certificate of the second half on the first and on the second group of classes",
    "seeds": list(config.seeds),
    "mean_image": mean_image_error(images),
    "settings": settings,
  }


def mean_image_error(images: Images) -> list[float]:
  """Returns the MSE on each group of the mean training image: knowing nothing."""
  first = images.num_classes // 2
  error = np.square(images.test - images.train.mean(0)).mean(1)
  return [
    float(error[images.test_labels < first].mean()),
    float(error[images.test_labels >= first].mean()),
  ]


def samples(images: Images) -> np.ndarray:
  """Returns the test images that parts keep as the certificates see them, [S, P]."""
  return images.test[_sample_rows(images.test_labels)]


def table(results: Mapping[str, Any]) -> str:
  """Returns the table of settings beside the paper's numbers, for the terminal."""
  lines = [f"{'setting':40} {'first':>15} {'second':>15}   paper (MNIST)"]
  for name, found in results["settings"].items():
    spread = found["std"] or (0.0, 0.0)
    cells = [f"{m:.3f} +- {s:.3f}" for m, s in zip(found["mean"], spread, strict=True)]
    paper = "  ".join(f"{x:.2f}" for x in found["paper"] or ())
    lines.append(f"{name:40} {cells[0]:>15} {cells[1]:>15}   {paper}")
  first, second = results["mean_image"]
  lines.append(f"{'(mean image)':40} {first:15.3f} {second:15.3f}")
  return "\n".join(lines)


def part_name(setting: str, seed: int) -> str:
  """Returns the name of the part of a setting and a seed."""
  return f"{setting}-seed_{seed}"


def _check_setting(name, block):
  for field in ("masks", "seen", "l1"):
    values = np.asarray(block[field], dtype=object)
    shape = (2, 2) if field == "masks" else (2,)
    if values.shape != shape or not all(checks.is_number(x) for x in values.flat):
      expected = f"numbers of the shape {shape}"
      checks.fail(f"settings.{name}.{field}", expected, block[field])
  if set(block.seen) - {0, 1} or not any(block.seen):
    checks.fail(f"settings.{name}.seen", "0 or 1, one of them 1", block.seen)
  if not checks.is_number(block.correlation):
    checks.fail(f"settings.{name}.correlation", "a number", block.correlation)


def _sample_rows(labels):
  """Returns the first test image of some classes, spread over all of them."""
  classes = np.unique(labels)
  chosen = classes[np.linspace(0, len(classes) - 1, _NUM_SAMPLES).round().astype(int)]
  return np.array([int(np.argmax(labels == label)) for label in dict.fromkeys(chosen)])


def _result(index, scores, curve, certified):
  """Returns one seed's result as JSON can hold it; sample pixels as bytes."""
  pixels = np.clip(np.round((certified[index] + 1) * 127.5), 0, 255).astype(int)
  return {
    "scores": {name: np.asarray(s[index]).tolist() for name, s in scores.items()},
    "curve": {
      "epochs": [epochs for epochs, _ in curve],
      "certificate_mse": [mse[index].tolist() for _, mse in curve],
    },
    "samples": pixels.tolist(),
  }
