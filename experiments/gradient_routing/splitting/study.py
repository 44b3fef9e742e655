"""What the study computes: a part is a setting and a seed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import functools
import logging
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from experiments.gradient_routing.splitting import autoencoder, figures, training
from experiments.gradient_routing.splitting import results as results_lib
from experiments.gradient_routing.splitting.config import (
  Config,
  Model,
  Setting,
  Training,
)
from experiments.gradient_routing.splitting.results import Part, part_name
from experiments.shared import typed
from experiments.shared.running import Outcome, Study
from undo_jax.data import images as images_lib
from undo_jax.data.images import Images
from undo_jax.training import population
from undo_jax.utils import streams

LOGGER = logging.getLogger("undo_jax")
Scores = Mapping[str, np.ndarray]  # Scores of a population, each with a leading axis R.


def make(config: ConfigDict) -> Study[Part]:
  """Return the study of a config, or raise ConfigError."""
  checked = typed.read(Config, config)
  images = images_lib.load(checked.data.path)
  return Study(
    parts=[part_name(name, seed) for name in checked.run for seed in checked.seeds],
    compute=functools.partial(compute, checked, images),
    finish=functools.partial(finish, checked, images),
    free=("run", "replicas_at_once"),
  )


def finish(config: Config, images: Images, parts: Mapping[str, Part]) -> Outcome:
  """Return the results of all parts."""
  results = results_lib.assemble(config, images, parts)
  drawn = figures.draw(results, images, parts)
  return Outcome(results, drawn, results_lib.table(results))


def compute(
  config: Config, images: Images, missing: Sequence[str]
) -> Iterator[tuple[str, Part]]:
  """Train the missing parts; the seeds of a setting are populations.

  Args:
    config: of the study.
    images: the training images.
    missing: names of parts.

  Yields:
    (name, result) of each part: final scores, learning curve, samples.
  """
  for name in config.run:
    seeds = [seed for seed in config.seeds if part_name(name, seed) in missing]
    for start in range(0, len(seeds), config.replicas_at_once):
      together = seeds[start : start + config.replicas_at_once]
      LOGGER.info("%s: seeds %s", name, ", ".join(map(str, together)))
      results = train(config, config.settings[name], images, together)
      for seed, result in zip(together, results, strict=True):
        yield part_name(name, seed), result


def train(
  config: Config, setting: Setting, images: Images, seeds: Sequence[int]
) -> list[Part]:
  """Train one population: a setting with several seeds; return their results."""
  programs = _programs(
    images.train.shape[1], config.model, config.training, setting.separate_decoders
  )
  weights = autoencoder.make_weights(setting, config.model.latent)
  train_images, test_images = autoencoder.groups(images)
  keys = [
    jnp.stack([streams.key(seed, name) for seed in seeds]) for name in ("init", "data")
  ]
  states, epochs, curve = programs.init(*keys), 0, []
  scores, certified = {}, np.empty(0)
  rows = results_lib.sample_rows(images.test_labels)
  while epochs < config.training.num_epochs:
    count = min(config.training.evaluate_every, config.training.num_epochs - epochs)
    states = programs.epochs(states, train_images, weights, count)
    epochs += count
    scores, certified = jax.device_get(programs.scores(states, test_images, rows))
    curve.append((epochs, scores["certificate_mse"]))
    second = scores["certificate_mse"][:, 1].mean(0)
    LOGGER.info(
      "  epoch %d: certificate of the second half, MSE %.3f and %.3f", epochs, *second
    )
  return [_part(i, scores, curve, certified) for i in range(len(seeds))]


class _Programs(NamedTuple):
  """The compiled programs of a population; the settings are their arguments."""

  init: Callable[[jax.Array, jax.Array], training.State]
  epochs: training.Epochs
  # (states, images, rows) -> (scores, the certificates' reconstructions of the rows).
  scores: Callable[
    [training.State, autoencoder.Batch, np.ndarray],
    tuple[dict[str, jax.Array], jax.Array],
  ]


@functools.lru_cache(maxsize=2)
def _programs(pixels: int, model: Model, chosen: Training, separate: bool) -> _Programs:
  optimizer = training.make_optimizer(chosen.learning_rate, chosen.weight_decay)

  def init(init_key, data_key):
    params = autoencoder.init(
      init_key,
      pixels,
      hidden=model.hidden,
      latent=model.latent,
      separate_decoders=separate,
    )
    return training.State(params, optimizer.init(params), data_key)

  def scores(state, images, rows):
    errors, certified_HxBxP = autoencoder.scores(state.params, images)
    return errors, certified_HxBxP[:, rows]

  epochs = training.make_epochs(optimizer, chosen.batch_size)
  return _Programs(
    jax.jit(jax.vmap(init)),
    jax.jit(population.over_replicas(epochs), donate_argnums=0),
    jax.jit(population.over_replicas(scores)),
  )


def _part(
  index: int,
  scores: Scores,
  curve: Sequence[tuple[int, np.ndarray]],
  certified_RxHxSxP: np.ndarray,
) -> Part:
  """Return one seed's result in a form for JSON, with pixels of samples as bytes."""
  bytes_HxSxP = np.clip(np.round((certified_RxHxSxP[index] + 1) * 127.5), 0, 255)
  return {
    "scores": {name: np.asarray(s[index]).tolist() for name, s in scores.items()},
    "curve": {
      "epochs": [epochs for epochs, _ in curve],
      "certificate_mse": [mse[index].tolist() for _, mse in curve],
    },
    "samples": bytes_HxSxP.astype(int).tolist(),
  }
