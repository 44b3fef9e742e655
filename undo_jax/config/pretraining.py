"""Models that a run begins with."""

from undo_jax.config.blocks import Config
from undo_jax.config.entries import like, look
from undo_jax.config.optimizers import optimizer
from undo_jax.config.recipes import recipe


def pretrain(
  *, mixture: str, optimizer: Config, batch_size: int, num_microbatches: int = 1
) -> Config:
  """Return pretraining from random weights; it counts as given, so it costs nothing."""
  entry = recipe(
    phase="pretrain",
    mixture=mixture,
    optimizer=optimizer,
    batch_size=batch_size,
    num_microbatches=num_microbatches,
  )
  entry.is_counted = False
  look(entry, "base", "#111111", "s")
  return entry


def given(checkpoint: str) -> Config:
  """Return a model that is taken from a checkpoint: a stage's, or Hugging Face's."""
  unused = optimizer(num_steps=1, learning_rate=0.0)
  entry = recipe(phase="pretrain", mixture={}, optimizer=unused, batch_size=1)
  entry.checkpoint = checkpoint
  entry.is_counted = False
  look(entry, "base", "#111111", "s")
  return entry


def finetune(*, start: str, mixture: str, optimizer: Config, batch_size: int) -> Config:
  """Return training by cross-entropy that goes on from another model.

  It teaches what is then to be forgotten, so like pretraining it costs nothing.
  """
  entry = pretrain(mixture=mixture, optimizer=optimizer, batch_size=batch_size)
  entry.start = start
  return entry


def data_filtering(base: Config, *, mixture: str, **changes: object) -> Config:
  """Return pretraining like another entry's, on a mixture without forget data.

  To make the mixture, all pretraining data of the model `base` had to be labelled or,
  for a mixture of selected rows, those that the selection labels.
  """
  labels = {"sorts": "base"}
  entry = like(base, labels=labels, is_counted=True, **changes)
  entry.mixture.batch = mixture
  look(entry, "data filtering", "#666666", "*")
  return entry
