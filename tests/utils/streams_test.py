"""Tests of the named random streams."""

import itertools

import jax
import numpy as np
import pytest

from undo_jax.utils import streams


def crc32(text: str) -> int:
  """CRC-32 bit by bit, from its polynomial."""
  remainder = 0xFFFFFFFF
  for byte in text.encode():
    remainder ^= byte
    for _ in range(8):
      remainder = (remainder >> 1) ^ (0xEDB88320 if remainder & 1 else 0)
  return remainder ^ 0xFFFFFFFF


@pytest.mark.parametrize("name", streams.NAMES)
@pytest.mark.parametrize("override", [0, 7])
def test_an_override_moves_its_stream_alone(name, override):
  overrides = dict.fromkeys(streams.NAMES) | {name: override}
  seeds = {other: streams.root(3, overrides, other) for other in streams.NAMES}
  assert seeds.pop(name) == override
  assert set(seeds.values()) == {3}


def test_a_stream_without_override_starts_from_the_seed():
  assert streams.root(5, {}, "noise") == 5


def test_an_unknown_stream_is_an_error():
  with pytest.raises(ValueError, match="unknown stream 'nois'.*init, data, noise"):
    streams.root(0, {}, "nois")


@pytest.mark.parametrize("name", streams.NAMES)
def test_the_key_is_the_seed_folded_with_the_checksum_of_the_name(name):
  expected = jax.random.fold_in(jax.random.key(11), crc32(name))
  got = streams.key(11, name)
  assert jax.dtypes.issubdtype(got.dtype, jax.dtypes.prng_key)
  np.testing.assert_array_equal(jax.random.key_data(got), jax.random.key_data(expected))


def test_names_and_seeds_give_different_streams():
  cases = list(itertools.product(range(20), streams.NAMES))
  keys = {tuple(jax.random.key_data(streams.key(*case)).tolist()) for case in cases}
  integers = {streams.integer(*case) for case in cases}
  assert len(keys) == len(integers) == len(cases)


def test_integers_stay_what_they_were():
  # Data of earlier runs must be drawn again bit for bit.
  sequence = np.random.SeedSequence([3, crc32("data")])
  assert streams.integer(3, "data") == int(sequence.generate_state(1)[0]) // 2


def test_integers_fill_the_range_of_int32():
  draws = np.array([streams.integer(seed, "eval") for seed in range(200)])
  assert draws.min() >= 0
  assert draws.max() < 2**31
  # Of 200 uniform draws none in the upper quarter: 0.75^200 ~ 1e-25.
  assert draws.max() > 0.75 * 2**31
