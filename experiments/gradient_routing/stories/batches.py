"""Batches of stories as arrays: first the rows about the topic, then the others."""

from typing import NamedTuple

import numpy as np

from experiments.gradient_routing.stories import corpus
from experiments.gradient_routing.stories.config import Train
from undo_jax.data import packing
from undo_jax.data.rows import InMemory

NAMES = corpus.Stories._fields


class Loaded(NamedTuple):
  """The stories of one seed."""

  train: dict[str, InMemory]  # "forget", "retain": a row for each story.
  held_out: dict[str, InMemory]
  # "inputs", "targets", "mask" [S, B, L]; "story" [S, B], its row in `train`.
  batches: dict[str, np.ndarray]


def load(data: corpus.Data, train: Train, seed: int) -> Loaded:
  """Return the stories of a config and their order in training.

  Args:
    data: the stories, and how they become rows.
    train: the rows in a batch, forget before retain, and the number of batches.
    seed: for made-up stories, for what is held out and for the order.

  Raises:
    ConfigError: if there are too few stories.
  """
  tokenizer = corpus.make_tokenizer(data.tokenizer)
  stories = corpus.collect(data, seed)

  def encode(part):
    return {
      name: corpus.encode(texts, tokenizer, data.length)
      for name, texts in part._asdict().items()
    }

  trained, held_out = encode(stories.train), encode(stories.held_out)
  rng = np.random.default_rng([seed, *b"order"])
  batches = []
  for name, rows in zip(NAMES, (train.forget_rows, train.retain_rows), strict=True):
    number = train.num_steps * rows
    order = _epochs(rng, len(trained[name]), number).reshape(train.num_steps, rows)
    batches.append(batch(trained[name], order) | {"story": order})
  joined = {k: np.concatenate([b[k] for b in batches], axis=1) for k in batches[0]}
  return Loaded(trained, held_out, joined)


def _epochs(rng: np.random.Generator, size: int, number: int) -> np.ndarray:
  """Return `number` indices below `size`; every epoch has its own order."""
  epochs = [rng.permutation(size) for _ in range(-(-number // size))]
  return np.concatenate(epochs)[:number]


def batch(rows: InMemory, indices: np.ndarray) -> dict[str, np.ndarray]:
  """Return "inputs", "targets" and "mask" [*indices, L] of rows."""
  flat = indices.reshape(-1)
  parts = packing.to_batch({"tokens": rows.tokens[flat], "mask": rows.mask[flat]})
  return {k: x.reshape(*indices.shape, x.shape[-1]) for k, x in parts.items()}
