"""A run in gs://: what it leaves there, stopped and resumed, is what a disk has."""

import json
import os
import signal
import threading
import time

import pytest

from tests import minimal
from tests.object_store import ObjectStore
from undo_jax.distributed import preemption, sharding
from undo_jax.running.runs import run_single
from undo_jax.training.writers import read_jsonl
from undo_jax.utils import files, leases


@pytest.fixture(scope="module")
def store():
  server = ObjectStore()
  with pytest.MonkeyPatch.context() as patch:
    for name, value in server.environment().items():
      patch.setenv(name, value)
    yield server
  server.close()


def test_files_of_a_store_are_whole_or_not_there(store):
  directory = files.path("gs://bucket/files")
  files.write_json(directory / "a" / "x.json", {"x": 1})
  with pytest.raises(ZeroDivisionError), files.new_file(directory / "a" / "y") as file:
    file.write("part")
    raise ZeroDivisionError
  assert store.names("bucket") == ["files/a/x.json"]
  assert files.read_json(directory / "a" / "x.json") == {"x": 1}
  assert files.tree(directory) == [directory / "a" / "x.json"]


def test_a_directory_comes_here_and_goes_back(store, tmp_path):
  del store
  there = files.path("gs://bucket/there")
  (tmp_path / "deep").mkdir()
  (tmp_path / "deep" / "x").write_bytes(b"\x00\xff")
  (tmp_path / "y").write_text("y")
  files.copy_tree(tmp_path, there)
  here = files.here(there)
  assert [p.relative_to(here).as_posix() for p in files.tree(here)] == ["deep/x", "y"]
  assert (here / "deep" / "x").read_bytes() == b"\x00\xff"
  assert files.here(tmp_path) == tmp_path
  mirror = files.Mirror(there)
  mirror.fetch("y")
  assert (mirror.local / "y").read_text() == "y"
  (mirror.local / "y").write_text("z")
  mirror.sync()  # Too early.
  assert (there / "y").read_text() == "y"
  mirror.sync(now=True)
  assert (there / "y").read_text() == "z"


def test_a_lease_in_a_store_is_one_s_until_it_shows_no_sign_of_life(store):
  times = {"beat_seconds": 0.2, "expiry_seconds": 1.0}
  directory = files.path("gs://bucket/leases")
  all_leases = [leases.Lease(directory, **times) for _ in range(4)]

  def take_all(rest):
    taken = []

    def take(lease):
      if lease.take():
        taken.append(lease)

    threads = [threading.Thread(target=take, args=(lease,)) for lease in rest]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    return taken

  (first,) = take_all(all_leases)
  others = [lease for lease in all_leases if lease is not first]
  end = time.monotonic() + 1.5
  while time.monotonic() < end:
    assert not take_all(others)
    time.sleep(0.1)
  # The first one is cut off from the store: its uploads are refused.
  with pytest.MonkeyPatch.context() as patch:
    write = files.write_bytes
    mine = str(directory / "1.json")

    def refuse(path, data):
      if str(path) == mine:
        raise ConnectionError("away")
      write(path, data)

    patch.setattr(files, "write_bytes", refuse)
    while not (taken := take_all(others)):
      time.sleep(0.1)
  assert len(taken) == 1 and not first.is_held(ask=True)
  names = [name for name in store.names("bucket") if name.startswith("leases/")]
  assert names == ["leases/1.json", "leases/2.json"]
  taken[0].release()
  assert take_all([first]) == [first]
  first.release()


def test_what_another_process_writes_after_a_listing_is_seen(store):
  directory = files.path("gs://bucket/listed")
  files.write_text(directory / "a", "a")
  assert [path.name for path in directory.iterdir()] == ["a"]
  assert not (directory / "b").exists()
  store.put("bucket", "listed/b", b"b", {})
  store.put("bucket", "listed/a", b"longer", {})
  assert (directory / "b").exists() and (directory / "a").read_text() == "longer"


def relearn(workdir):
  return run_single("relearn", minimal.config(), workdir, models=["base"])


@pytest.mark.usefixtures("one_device")
def test_a_run_in_a_store_stops_and_goes_on_as_on_a_disk(store, tmp_path, monkeypatch):
  expected = relearn(tmp_path)
  put_batch = sharding.put_batch

  def stopping(batch, mesh, **kwargs):
    os.kill(os.getpid(), signal.SIGTERM)
    return put_batch(batch, mesh, **kwargs)

  before = signal.getsignal(signal.SIGTERM)
  preemption.listen()
  monkeypatch.setattr(sharding, "put_batch", stopping)
  try:
    for stopped in ("base", "relearn_base"):
      with pytest.raises(preemption.Preempted):
        relearn("gs://bucket/run")
      names = store.names("bucket")
      saved = [name for name in names if name.startswith(f"run/stages/{stopped}-")]
      assert any("/checkpoints/" in name for name in saved)
      assert not any(name.endswith("done.json") for name in saved)
      preemption.listen()
      monkeypatch.setattr(sharding, "put_batch", put_batch)
      if stopped == "base":
        run_single("pretrain", minimal.config(), "gs://bucket/run", models=["base"])
        monkeypatch.setattr(sharding, "put_batch", stopping)
  finally:
    signal.signal(signal.SIGTERM, before)
  assert relearn("gs://bucket/run") == expected
  for file in files.tree(tmp_path):
    name = file.relative_to(tmp_path).as_posix()
    if name.endswith(("done.json", "config.json")):
      remote = store.objects["bucket", f"run/{name}"][0]
      assert json.loads(remote) == files.read_json(file)
  (path,) = tmp_path.glob("stages/base-*/metrics.jsonl")
  text = store.objects["bucket", f"run/{path.relative_to(tmp_path)}"][0].decode()
  losses = [
    [(row["step"], row["loss"]) for row in rows if row["kind"] == "train"]
    for rows in (map(json.loads, text.splitlines()), read_jsonl(path))
  ]
  assert losses[0] == losses[1]
