"""Checkpoints: the newest alone, whole, into any sharding, parameters by themselves."""

import errno
import os
import pathlib
import signal
import threading

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
from orbax.checkpoint import v1 as ocp
import pytest

from undo_jax import testing
from undo_jax.distributed import preemption
from undo_jax.training import checkpointing
from undo_jax.training.checkpointing import (
  CHECKSUMS,
  Checkpoints,
  keep_newest,
  keep_params,
  load_params,
)
from undo_jax.utils import files
from undo_jax.utils.errors import ConfigError

PARAMS = {"kernel": jnp.arange(32.0).reshape(8, 4)}
REST = {"step": jnp.int32(3), "moment": jnp.ones(8)}


def on(sharding, tree):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
  )


def test_the_newest_alone_is_kept_and_written_once(tmp_path):
  checkpoints = Checkpoints(tmp_path / "checkpoints")
  assert checkpoints.latest() is None
  assert checkpoints.save(3, PARAMS, REST)
  newer = {"kernel": 2 * PARAMS["kernel"]}
  assert checkpoints.save(5, newer, REST)
  assert not checkpoints.save(5, PARAMS, REST)
  checkpoints.close()
  again = Checkpoints(tmp_path / "checkpoints")
  assert again.latest() == 5
  whole = NamedSharding(testing.mesh(1), P())
  params, rest = again.restore(5, on(whole, PARAMS), on(whole, REST))
  again.close()
  np.testing.assert_array_equal(params["kernel"], newer["kernel"])
  np.testing.assert_array_equal(rest["moment"], REST["moment"])
  assert rest["step"] == 3
  kept = [path.name for path in (tmp_path / "checkpoints").iterdir() if path.is_dir()]
  assert len(kept) == 1 and "5" in kept[0]


class Late:
  """A writer that reads what it is to save after training has gone on."""

  gate = None

  def __init__(self, checkpointer, step, items):
    self.save = lambda: SAVE(checkpointer, step, items).result()

  def result(self):
    assert Late.gate.wait(60)
    return self.save()


SAVE = ocp.training.Checkpointer.save_checkpointables_async


@pytest.mark.parametrize("devices", [1, 8])
def test_what_is_saved_stays_while_training_goes_on(tmp_path, monkeypatch, devices):
  """Its buffers are donated, and written over in place, before the writer reads."""
  monkeypatch.setattr(
    ocp.training.Checkpointer,
    "save_checkpointables_async",
    lambda *args: Late(*args),  # Bound to the checkpointer, which a class is not.
  )
  monkeypatch.setattr(Late, "gate", threading.Event())
  add = jax.jit(lambda x: x + 1, donate_argnums=0)
  start = np.arange(8 * 512, dtype=np.float32).reshape(8, 512)
  where = NamedSharding(testing.mesh(devices, data=devices), P("data"))
  array = add(jax.device_put(start, where))
  history = np.zeros(512)
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(1, {"kernel": array}, {"history": history})
  address = lambda x: x.addressable_shards[0].data.unsafe_buffer_pointer()  # noqa: E731
  before = address(array)
  array, history[:] = add(array), 5.0
  assert address(array) == before
  Late.gate.set()
  abstract = on(where, {"kernel": start})
  read, rest = checkpoints.restore(1, abstract, {"history": history})
  checkpoints.close()
  np.testing.assert_array_equal(read["kernel"], start + 1)
  np.testing.assert_array_equal(rest["history"], 0)


def test_of_a_finished_stage_the_parameters_alone_are_left(tmp_path):
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(1, PARAMS, REST)
  checkpoints.finish()
  checkpoints.close()
  keep_params(tmp_path)
  keep_params(tmp_path)  # There is nothing left to remove, which is no error.
  assert not any("rest" in path.name for path in (tmp_path / "1").iterdir())
  whole = NamedSharding(testing.mesh(1), P())
  loaded = load_params(tmp_path, on(whole, PARAMS))
  np.testing.assert_array_equal(loaded["kernel"], PARAMS["kernel"])


def test_without_memory_for_a_copy_training_waits(tmp_path, monkeypatch):
  copies, apart = [], checkpointing._apart
  monkeypatch.setattr(
    checkpointing, "_apart", lambda leaf: (copies.append(1), apart(leaf))[1]
  )
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(1, PARAMS, REST)
  assert copies
  copies.clear()
  monkeypatch.setattr(checkpointing, "LARGEST_COPY", 0.0)
  checkpoints.save(2, PARAMS, REST)
  assert not copies and (tmp_path / "2" / CHECKSUMS).exists()
  checkpoints.close()


def test_one_save_is_pending_at_most(tmp_path, monkeypatch):
  order, gate = [], threading.Event()
  save, write = (
    ocp.training.Checkpointer.save_checkpointables_async,
    checkpointing._write_checksums,
  )

  def begin(self, step, items):
    order.append(f"begin {step}")
    return save(self, step, items)

  def end(directory):
    assert gate.wait(60)
    order.append(f"end {directory.name}")
    write(directory)

  monkeypatch.setattr(ocp.training.Checkpointer, "save_checkpointables_async", begin)
  monkeypatch.setattr(checkpointing, "_write_checksums", end)
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(1, PARAMS, REST)
  assert order == ["begin 1"]  # It returned before the checksums were there.
  threading.Timer(0.1, gate.set).start()
  checkpoints.save(2, PARAMS, REST)
  assert checkpoints.latest() == 2
  assert order == ["begin 1", "end 1", "begin 2", "end 2"]
  assert (tmp_path / "2" / CHECKSUMS).exists()
  checkpoints.close()


@pytest.mark.parametrize("then", ["save", "finish", "latest"])
def test_what_ends_a_save_is_raised_afterwards_once(tmp_path, monkeypatch, then):
  def fail(directory):
    raise OSError(errno.ENOSPC, f"no room for {directory.name}")

  monkeypatch.setattr(checkpointing, "_write_checksums", fail)
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(1, PARAMS, REST)
  how = {"save": (2, PARAMS, REST)}.get(then, ())
  with pytest.raises(OSError, match="no room for 1"):
    getattr(checkpoints, then)(*how)
  checkpoints.finish()
  checkpoints.close()


def test_what_orbax_could_not_write_is_raised_too(tmp_path, monkeypatch, caplog):
  """Or logged, where another error may have closed the checkpoints."""
  for is_finished in (True, False):
    checkpoints = Checkpoints(tmp_path / str(is_finished))
    with monkeypatch.context() as patched:
      patched.setattr(os, "rename", refuse)
      patched.setattr(pathlib.Path, "rename", refuse)
      checkpoints.save(1, PARAMS, REST)
      if is_finished:
        with pytest.raises(OSError, match="no room"):
          checkpoints.finish()
      else:
        caplog.clear()
      checkpoints.close()
  assert "was not saved" in caplog.text and "no room" in caplog.text


def refuse(*args, **kwargs):
  raise OSError(errno.ENOSPC, "no room")


def test_parameters_are_read_by_themselves_into_other_shardings(tmp_path):
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(1, PARAMS, REST)
  checkpoints.close()
  parts = NamedSharding(testing.mesh(8, data=8), P("data"))
  params = load_params(tmp_path, on(parts, PARAMS))
  assert {s.data.shape for s in params["kernel"].addressable_shards} == {(1, 4)}
  np.testing.assert_array_equal(params["kernel"], PARAMS["kernel"])
  with pytest.raises(FileNotFoundError, match="no complete checkpoint in .*none"):
    load_params(tmp_path / "none", on(parts, PARAMS))


def flip(file, rng):
  data = bytearray(file.read_bytes())
  if data:
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
  file.write_bytes(data or b"x")


def test_a_bit_that_the_disk_has_changed_is_found_in_any_file(tmp_path):
  directory = tmp_path / "checkpoints"
  checkpoints = Checkpoints(directory)
  checkpoints.save(1, PARAMS, REST)
  checkpoints.finish()
  rng = np.random.default_rng(0)
  whole = NamedSharding(testing.mesh(1), P())
  written = [f for f in files.tree(directory / "1") if f.name != CHECKSUMS]
  assert len(written) > 5
  for file in written:
    before = file.read_bytes()
    for damage in (flip, lambda f, _: f.unlink(), lambda f, _: f.write_bytes(b"")):
      damage(file, rng)
      if file.exists() and file.read_bytes() == before:
        continue  # It was empty.
      with pytest.raises(ConfigError, match="is not as it was written") as error:
        checkpoints.restore(1, on(whole, PARAMS), on(whole, REST))
      assert str(error.value).startswith(f"{file} ")
      with pytest.raises(ConfigError, match="is not as it was written"):
        checkpoints.saved(1, "rest")
      if "rest" in file.parts:  # Not read for the parameters alone.
        load_params(directory, on(whole, PARAMS))
      else:
        with pytest.raises(ConfigError, match="is not as it was written"):
          load_params(directory, on(whole, PARAMS))
      file.write_bytes(before)
  checkpoints.restore(1, on(whole, PARAMS), on(whole, REST))
  saved = checkpoints.saved(1, "rest")
  assert {name: (x.shape, x.dtype) for name, x in saved.items()} == {
    name: (x.shape, x.dtype) for name, x in REST.items()
  }
  (directory / "1" / CHECKSUMS).unlink()  # Killed before they were written.
  checkpoints.restore(1, on(whole, PARAMS), on(whole, REST))
  checkpoints.close()


def test_sigterm_while_a_model_is_read_ends_the_process_by_its_status(
  tmp_path, monkeypatch
):
  """Orbax takes SystemExit inside of its event loop for an error of its own."""
  checkpoints = Checkpoints(tmp_path / "checkpoints")
  checkpoints.save(1, PARAMS, REST)
  checkpoints.close()
  before = signal.getsignal(signal.SIGTERM)
  preemption.listen()
  read = ocp.training.Checkpointer.load_checkpointables

  def terminated(*args):
    os.kill(os.getpid(), signal.SIGTERM)
    signal.sigtimedwait([], 1)  # Python handles it before its next line.
    loaded.append(read(*args))
    return loaded[0]

  loaded = []
  monkeypatch.setattr(ocp.training.Checkpointer, "load_checkpointables", terminated)
  try:
    with pytest.raises(SystemExit) as status:
      load_params(
        tmp_path / "checkpoints", on(NamedSharding(testing.mesh(1), P()), PARAMS)
      )
  finally:
    preemption.listen()
    signal.signal(signal.SIGTERM, before)
  assert status.value.code == preemption.EXIT_STATUS and loaded


def test_a_finished_stage_keeps_its_newest_alone(tmp_path):
  checkpoints = Checkpoints(tmp_path, num_kept=2)
  for step in (2, 9, 10):
    checkpoints.save(step, PARAMS, REST)
  checkpoints.close()
  assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "9"]
  keep_newest(tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ["10"]
  keep_newest(tmp_path)
  keep_newest(tmp_path / "none")
  assert load_params(tmp_path, on(NamedSharding(testing.mesh(1), P()), PARAMS))
