"""Batches of stories, some rows about the topic and then the others, as arrays."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from undo_jax.data import packing, stories, tokenizers
from undo_jax.data.documents import source as document_source
from undo_jax.data.rows import InMemory
from undo_jax.models.config import ModelConfig
from undo_jax.training.optimizers import OptimizerConfig
from undo_jax.utils import checks
from undo_jax.utils.types import ConfigError

NAMES = stories.Stories._fields


class Data(NamedTuple):
  """The stories of one seed."""

  train: dict[str, InMemory]  # "forget", "retain": a row for each story.
  held_out: dict[str, InMemory]
  # "inputs", "targets", "mask" [S, B, L]; "story" [S, B], of its kind in `train`.
  batches: dict[str, np.ndarray]


def load(config: Any, seed: int) -> Data:
  """Returns the stories of a config and their order in training.

  Args:
    config: with the blocks data (see data.stories.collect; and tokenizer, length) and
      train (num_steps; forget_rows and retain_rows of a batch, in this order).
    seed: of made-up stories, of what is held out and of the order.

  Raises:
    ConfigError: if there are too few stories.
  """
  tokenizer = tokenizers.make(config.data.tokenizer)
  corpus = stories.collect(config.data, seed)

  def encode(part):
    return {
      name: stories.encode(texts, tokenizer, config.data.length)
      for name, texts in part._asdict().items()
    }

  train, held_out = encode(corpus.train), encode(corpus.held_out)
  rng = np.random.default_rng([seed, *b"order"])
  steps = config.train.num_steps
  batches = []
  for name in NAMES:
    rows = config.train[f"{name}_rows"]
    order = _epochs(rng, len(train[name]), steps * rows).reshape(steps, rows)
    batches.append(batch(train[name], order) | {"story": order})
  joined = {k: np.concatenate([b[k] for b in batches], axis=1) for k in batches[0]}
  return Data(train, held_out, joined)


def _epochs(rng, size, number):
  """Returns `number` indices below `size`, every epoch in an order of its own."""
  epochs = [rng.permutation(size) for _ in range(-(-number // size))]
  return np.concatenate(epochs)[:number]


def batch(rows: InMemory, indices: np.ndarray) -> dict[str, np.ndarray]:
  """Returns "inputs", "targets" and "mask" [*indices, L] of rows."""
  flat = indices.reshape(-1)
  found = packing.to_batch({"tokens": rows.tokens[flat], "mask": rows.mask[flat]})
  return {k: x.reshape(*indices.shape, x.shape[-1]) for k, x in found.items()}


def optimizer_config(block: Any, **changes: Any) -> OptimizerConfig:
  """Returns the fields of a config's block that are those of an optimizer."""
  fields = {field.name for field in dataclasses.fields(OptimizerConfig)}
  found = {name: value for name, value in block.items() if name in fields}
  return OptimizerConfig(**(found | changes))


def check(config: Any) -> ModelConfig:
  """Returns the model's sizes.

  Raises:
    ConfigError: at the first field of data, model, train or seeds that cannot work.
  """
  checks.seeds(config)
  for name in ("num_forget", "num_retain", "num_held_out", "max_characters"):
    checks.at_least(config, f"data.{name}", 1)
  checks.at_least(config, "data.length", 2)
  checks.unit("data.held_out_fraction", config.data.held_out_fraction)
  if config.data.paths and not config.data.forget_words:
    checks.fail("data.forget_words", "the topic's words in these files", ())
  try:  # Before the workdir becomes this config's.
    document_source.find(config.data.paths)
  except ConfigError as error:
    raise ConfigError(f"config.data.paths: {error}") from None
  for name in ("num_steps", "forget_rows", "retain_rows"):
    checks.at_least(config, f"train.{name}", 1)
  optimizer_config(config.train)
  tokenizer = tokenizers.make(config.data.tokenizer)
  if config.model.vocab_size < tokenizer.vocab_size:
    checks.fail(
      "model.vocab_size",
      f"at least {tokenizer.vocab_size}, that of {config.data.tokenizer!r}",
      config.model.vocab_size,
    )
  return ModelConfig(**config.model)
