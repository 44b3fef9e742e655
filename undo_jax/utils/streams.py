"""Named random streams: one seed, and each stream can be redrawn alone."""

from collections.abc import Mapping
import zlib

import jax
import numpy as np

NAMES = ("init", "data", "noise", "distill_data", "attack", "eval")


def root(seed: int, overrides: Mapping[str, int | None], name: str) -> int:
  """Return the seed the stream starts from: its override, else the run's."""
  if name not in NAMES:
    raise ValueError(f"unknown stream {name!r}; the streams are {', '.join(NAMES)}")
  override = overrides.get(name)
  return seed if override is None else override


def key(stream_seed: int, name: str) -> jax.Array:
  """Return the typed PRNG key of a stream: fold_in(key(seed), crc32(name))."""
  return jax.random.fold_in(jax.random.key(stream_seed), zlib.crc32(name.encode()))


def integer(stream_seed: int, name: str) -> int:
  """Return an int32 seed of a stream, for numpy and Grain."""
  sequence = np.random.SeedSequence([stream_seed, zlib.crc32(name.encode())])
  return int(sequence.generate_state(1)[0] >> 1)
