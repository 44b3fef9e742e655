"""Predictions in files: in parts, joined, on a disk and in a store, damaged."""

import itertools

import numpy as np
import pytest

from tests.object_store import ObjectStore
from undo_jax.data import predictions
from undo_jax.utils import files
from undo_jax.utils.errors import ConfigError

ASKED = predictions.layout(300, top_k=2, dtype="float16")
ROWS, LENGTH = 5, 4


def draw():
  """Return tokens below 300 and log-probabilities, one too small for 16 bits."""
  rng = np.random.default_rng(0)
  log_probs = np.float32(rng.normal(size=(ROWS, LENGTH, 3)))
  log_probs[0, 0, 2] = -1e9
  tokens = rng.integers(300, size=(ROWS, LENGTH, 2))
  return {"teacher_tokens": tokens, "teacher_log_probs": log_probs}


def write(directory, arrays, bounds):
  for start, stop in bounds:
    assert predictions.num_written(directory, "a", ASKED, ROWS) == start
    part = {name: array[start:stop] for name, array in arrays.items()}
    predictions.write_part(directory, "a", start, predictions.cast(part, ASKED))


def load(directory, **changes):
  sizes = {"rows": ROWS, "length": LENGTH} | changes
  return predictions.load(directory, "a", ASKED, **sizes)


@pytest.fixture(params=["disk", "store"])
def directory(request, tmp_path):
  if request.param == "disk":
    yield tmp_path
    return
  store = ObjectStore()
  with pytest.MonkeyPatch.context() as patch:
    for name, value in store.environment().items():
      patch.setenv(name, value)
    yield files.path("gs://bucket/predictions")
  store.close()


def test_what_was_written_in_parts_is_read_as_one(directory):
  arrays = draw()
  write(directory, arrays, [(0, 3), (3, 5)])
  predictions.join(directory, "a", ASKED)
  assert predictions.num_written(directory, "a", ASKED, ROWS) == ROWS
  loaded = load(files.here(directory))
  assert {name: array.dtype for name, array in loaded.items()} == {
    "teacher_tokens": np.uint16,
    "teacher_log_probs": np.float16,
  }
  np.testing.assert_array_equal(loaded["teacher_tokens"], arrays["teacher_tokens"])
  expected = np.maximum(arrays["teacher_log_probs"], -65504)
  np.testing.assert_allclose(loaded["teacher_log_probs"], expected, rtol=2**-11)
  # As plain numpy reads them.
  plain = np.load(files.here(directory) / "a.teacher_tokens.npy")
  np.testing.assert_array_equal(plain, arrays["teacher_tokens"])
  names = [path.name for path in files.tree(directory)]
  assert names == ["a.teacher_log_probs.npy", "a.teacher_tokens.npy"]


def test_a_part_without_its_last_array_does_not_count(tmp_path):
  arrays = draw()
  write(tmp_path, arrays, [(0, 2)])
  first = {"teacher_tokens": np.zeros((3, LENGTH, 2), np.uint16)}
  predictions.write_part(tmp_path, "a", 2, first)
  write(tmp_path, arrays, [(2, 4), (4, 5)])
  predictions.join(tmp_path, "a", ASKED)
  np.testing.assert_array_equal(
    load(tmp_path)["teacher_tokens"], arrays["teacher_tokens"]
  )


def test_what_is_not_as_it_was_written_is_named(tmp_path):
  write(tmp_path, draw(), [(0, 5)])
  predictions.join(tmp_path, "a", ASKED)
  path = tmp_path / "a.teacher_tokens.npy"
  with pytest.raises(ConfigError, match=r"expected uint16 \(6, 4, 2\), got uint16 \(5"):
    load(tmp_path, rows=6)
  path.write_bytes(path.read_bytes()[:-33])  # The checksum and a byte.
  with pytest.raises(ConfigError, match=f"^{path} is damaged, expected uint16"):
    load(tmp_path)
  np.save(path, np.array([{}]), allow_pickle=True)
  with pytest.raises(ConfigError, match="got .*Python objects"):
    load(tmp_path)
  path.unlink()
  with pytest.raises(ConfigError, match="got .*No such file"):
    load(tmp_path)


def flips(data):
  """Yield what is left of bytes when one bit of each has changed."""
  for index, byte in enumerate(data):
    yield data[:index] + bytes([byte ^ 1 << index % 8]) + data[index + 1 :]


def test_a_changed_bit_of_any_byte_is_found(tmp_path):
  write(tmp_path, draw(), [(0, 3), (3, 5)])
  predictions.join(tmp_path, "a", ASKED)
  predictions.check(tmp_path, "a", ASKED)
  for name in ASKED:
    path = tmp_path / f"a.{name}.npy"
    before = path.read_bytes()
    # Without its checksum alone a file is as one from before there were any.
    sizes = (size for size in range(0, len(before), 5) if size != len(before) - 32)
    for data in itertools.chain(flips(before), (before[:size] for size in sizes)):
      path.write_bytes(data)
      with pytest.raises(ConfigError, match="delete the directory of its stage") as got:
        load(tmp_path)
        predictions.check(tmp_path, "a", ASKED)
      assert str(got.value).startswith(f"{path} is ")
    path.write_bytes(before)


def test_a_changed_bit_of_a_part_is_found_before_it_is_joined(tmp_path):
  write(tmp_path, draw(), [(0, 5)])
  for path in files.tree(tmp_path):
    before = path.read_bytes()
    for data in (*itertools.islice(flips(before), 0, None, 3), b"", before[:-1]):
      path.write_bytes(data)
      with pytest.raises(ConfigError, match=f"^{path} is not as it was written"):
        predictions.join(tmp_path, "a", ASKED)
      for joined in tmp_path.glob("a.*.npy"):
        joined.unlink()
    path.write_bytes(before)
  predictions.join(tmp_path, "a", ASKED)
  predictions.check(tmp_path, "a", ASKED)


def test_files_from_before_there_were_checksums_are_read(tmp_path):
  write(tmp_path, draw(), [(0, 5)])
  predictions.join(tmp_path, "a", ASKED)
  for name, array in load(tmp_path).items():
    np.save(tmp_path / f"a.{name}.npy", np.array(array))
  predictions.check(tmp_path, "a", ASKED)
  assert load(tmp_path)["teacher_tokens"].shape == (ROWS, LENGTH, 2)


@pytest.mark.parametrize(
  ("vocab_size", "top_k", "expected"),
  [
    (32, 0, {"teacher_log_probs": (32, np.float32)}),
    (32, 32, {"teacher_log_probs": (32, np.float32)}),
    (256, 4, {"teacher_tokens": (4, np.uint8), "teacher_log_probs": (5, np.float32)}),
    (257, 1, {"teacher_tokens": (1, np.uint16), "teacher_log_probs": (2, np.float32)}),
    (65537, 1, {"teacher_tokens": (1, np.uint32), "teacher_log_probs": (2, "f4")}),
  ],
)
def test_tokens_are_of_the_smallest_dtype(vocab_size, top_k, expected):
  assert predictions.layout(vocab_size, top_k=top_k, dtype="float32") == expected
