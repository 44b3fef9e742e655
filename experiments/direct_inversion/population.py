"""The models of all seeds: trained, without one class, unlearned, and by UNDO.

The weights under each name have a leading axis S of seeds.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.direct_inversion import model as model_lib
from experiments.direct_inversion import schedule, training
from experiments.direct_inversion.config import Config
from experiments.direct_inversion.training import Rows, Task
from undo_jax import interpolation
from undo_jax.data.images import Images
from undo_jax.utils import streams
from undo_jax.utils.types import Params

BASE, ORACLE, UNLEARNED = "base", "oracle", "unlearned"


class Groups(NamedTuple):
  """Training images of the class that is unlearned, and the others."""

  everything: Rows
  forget: Rows
  retain: Rows


def undo_name(alpha: float) -> str:
  """Return the name of the model that UNDO makes at an alpha."""
  return f"UNDO, alpha {alpha:g}"


def names(config: Config) -> list[str]:
  """Return the names of all models, in the order of the tables."""
  undone = [undo_name(alpha) for alpha in config.undo.alphas]
  return [BASE, UNLEARNED, *undone, ORACLE]


def make_task(config: Config, images: Images) -> Task:
  """Return what all trainings share."""
  bars_T = schedule.alpha_bars(config.schedule.beta_start, config.schedule.beta_end)
  return Task(
    model=model_lib.Denoiser(
      pixels=images.train.shape[1],
      num_classes=images.num_classes,
      width=config.model.width,
      depth=config.model.depth,
    ),
    images_NxP=jnp.asarray(images.train),
    labels_N=jnp.asarray(images.train_labels),
    alpha_bars_T=jnp.asarray(bars_T, jnp.float32),
    batch_size=config.training.batch_size,
    label_dropout=config.training.label_dropout,
  )


def groups(images: Images, forgotten: int) -> Groups:
  """Return the rows of each group, filled up to the same length."""
  total = len(images.train_labels)

  def rows(is_in_N):
    index = np.flatnonzero(is_in_N)
    return Rows(jnp.asarray(np.resize(index, total)), jnp.asarray(len(index)))

  is_forgotten_N = images.train_labels == forgotten
  everything = rows(np.ones(total, bool))
  return Groups(everything, rows(is_forgotten_N), rows(~is_forgotten_N))


def keys(seeds: Sequence[int], stream: str) -> jax.Array:
  """Return the keys of a stream, [S]."""
  return jnp.stack([streams.key(seed, stream) for seed in seeds])


def make(config: Config, images: Images, seeds: Sequence[int]) -> dict[str, Params]:
  """Train all models of some seeds; return them by name, see `names`.

  Models of a seed begin with the same weights. UNDO's models share the direction of the
  noise, the batches and the teacher, which predicts once for all alphas.
  """
  task = make_task(config, images)
  of = groups(images, config.unlearning.label)
  data_S = keys(seeds, "data")
  base, oracle = _train(config, task, of, keys(seeds, "init"), data_S)
  unlearned = _unlearn(config, task, of, base, data_S)
  undone = _undo(
    config, task, of, unlearned, keys(seeds, "noise"), keys(seeds, "distill_data")
  )
  return {BASE: base, UNLEARNED: unlearned, **undone, ORACLE: oracle}


def _train(config, task, of, init_S, data_S) -> tuple[Params, Params]:
  """Return the models that see all classes, and those that lack one."""
  block = config.training

  def train(init_key, data_key, rows):
    zeros = jnp.zeros((1, task.model.pixels))
    params = task.model.init(init_key, zeros, jnp.zeros(1), 0)
    loss = training.denoising(task, rows)
    return training.descend(
      loss,
      params,
      data_key,
      num_updates=block.num_updates,
      learning_rate=block.learning_rate,
    )

  both = jax.tree.map(lambda *rows: jnp.stack(rows), of.everything, of.retain)
  over_rows = jax.vmap(train, in_axes=(None, None, 0))
  trained = jax.jit(jax.vmap(over_rows, in_axes=(0, 0, None)))(init_S, data_S, both)
  return tuple(jax.tree.map(lambda x, i=i: x[:, i], trained) for i in range(2))


def _unlearn(config, task, of, base, data_S) -> Params:
  block = config.unlearning

  def unlearn(params, key):
    loss = training.unlearning(task, params, of.forget, of.retain, block.label)
    return training.descend(
      loss,
      params,
      jax.random.fold_in(key, 1),
      num_updates=block.num_updates,
      learning_rate=block.learning_rate,
    )

  return jax.jit(jax.vmap(unlearn))(base, data_S)


def _undo(config, task, of, unlearned, noise_S, data_S) -> dict[str, Params]:
  """Return the students by name, noised toward random weights and then distilled."""
  block = config.undo

  def undo(teacher, noise_key, data_key, alpha):
    student = interpolation.toward_init(
      teacher, noise_key, alpha=alpha, beta=block.beta, rules=model_lib.NOISE_RULES
    )
    loss = training.distilling(task, teacher, of.everything, config.unlearning.label)
    return training.descend(
      loss,
      student,
      data_key,
      num_updates=block.num_updates,
      learning_rate=block.learning_rate,
    )

  over_alphas = jax.vmap(undo, in_axes=(None, None, None, 0))
  over_seeds = jax.jit(jax.vmap(over_alphas, in_axes=(0, 0, 0, None)))
  students = over_seeds(unlearned, noise_S, data_S, jnp.asarray(block.alphas))
  return {
    undo_name(alpha): jax.tree.map(lambda x, i=index: x[:, i], students)
    for index, alpha in enumerate(block.alphas)
  }
