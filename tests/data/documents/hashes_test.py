"""Equal texts have equal hashes; overlaps are those of Python's sets."""

import hashlib

import numpy as np
import pytest

from undo_jax.data.documents import files as document_files
from undo_jax.data.documents import hashes as document_hashes
from undo_jax.data.documents.hashes import Hashes


def test_hash_is_blake2b_of_the_folded_text():
  expected = hashlib.blake2b("the straße cafe\u0301".encode(), digest_size=8).digest()
  folded = hashlib.blake2b("the strasse caf\u00e9".encode(), digest_size=8).digest()
  value = document_hashes.text_hash("  The\n STRASSE\u00a0 cafe\u0301 ")
  assert value == int.from_bytes(folded, "little")
  assert value != int.from_bytes(expected, "little")


def test_pieces_have_the_hash_of_the_whole(monkeypatch):
  text = " ".join(f"word{n}" for n in range(100))
  whole = document_hashes.text_hash(text)
  monkeypatch.setattr(document_files, "PIECE_CHARACTERS", 20)
  assert document_hashes.text_hash(text.replace(" ", "\n ")) == whole


def splitmix64(value):
  """The published mixing function, in Python's integers."""
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
  value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
  return value ^ (value >> 31)


def held_out(hashes, validation, test=0.0, *, seed):
  return document_hashes.held_out(
    np.array(hashes, np.uint64), validation=validation, test=test, seed=seed
  )


def test_held_out_by_the_formula():
  hashes = [int(h) for h in np.random.default_rng(0).integers(0, 2**63, 500)]
  for seed, validation, test in (
    (0, 0.1, 0.2),
    (7, 0.5, 0.0),
    (2**40, 0.03, 0.9),
    (1, 0.0, 0.0),
  ):
    gamma = (seed + 1) * 0x9E3779B97F4A7C15
    mixed = [splitmix64((h + gamma) % 2**64) / 2**64 for h in hashes]
    expected = [
      1 if x < validation else 2 if x < validation + test else 0 for x in mixed
    ]
    assert held_out(hashes, validation, test, seed=seed).tolist() == expected


def test_held_out_shares_and_seeds():
  hashes = np.arange(100_000, dtype=np.uint64)  # As unlike to hashes as can be.
  one, other = (held_out(hashes, 0.1, seed=seed) == 1 for seed in (0, 1))
  deviation = np.sqrt(100_000 * 0.1 * 0.9)
  assert abs(one.sum() - 10_000) < 5 * deviation
  # Two seeds divide independently of each other.
  assert abs((one & other).sum() - 1000) < 5 * np.sqrt(1000)


def records(values):
  array = np.zeros(len(values), document_hashes.RECORD)
  array["hash"], array["number"] = values, np.arange(1, len(values) + 1)
  return array


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_sorted_part_by_part_as_all_at_once(tmp_path, monkeypatch, at_once):
  monkeypatch.setattr(document_hashes, "SORTED_AT_ONCE", at_once)
  values = np.random.default_rng(0).integers(0, 2**64, 100, np.uint64)
  values[::3] = values[0]
  (tmp_path / "a.unsorted").write_bytes(records(values).tobytes())
  document_hashes.sort(tmp_path / "a.unsorted", tmp_path / "a.npy")
  ordered = np.load(tmp_path / "a.npy")
  expected = sorted(zip(values.tolist(), range(1, 101), strict=True))
  assert ordered[["hash", "number"]].tolist() == expected


@pytest.mark.parametrize("at_once", [1, 3, 1000])
@pytest.mark.parametrize(
  "sizes", [(40, 60), (60, 40), (50, 1), (1, 1), (30, 0), (0, 0)]
)
def test_overlap_is_that_of_sets(monkeypatch, at_once, sizes):
  monkeypatch.setattr(document_hashes, "SORTED_AT_ONCE", at_once)
  rng = np.random.default_rng(sizes)
  a, b = (np.sort(rng.integers(0, 50, size)).astype(np.uint64) for size in sizes)
  same = set(a.tolist()) & set(b.tolist())
  overlap = document_hashes.overlap(
    Hashes(records(a), ("a.txt",)), Hashes(records(b), ("b.parquet",)), num_examples=4
  )
  assert overlap.count == len(same)
  places = [
    (
      f"a.txt, line {a.tolist().index(h) + 1}",
      f"b.parquet, row {b.tolist().index(h) + 1}",
    )
    for h in sorted(same)
  ]
  assert list(overlap.examples) == places[:4]
