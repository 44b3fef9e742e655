"""Files of a finished run that a disk has changed: the same results, or one line."""

import shutil

import numpy as np
import pytest

from tests import chains, minimal, sharing
from undo_jax.checkpoints import cards
from undo_jax.data import rows
from undo_jax.running.runs import run_single
from undo_jax.training import checkpointing
from undo_jax.utils.errors import ConfigError


def flipped(data, rng):
  changed = bytearray(data)
  changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
  return bytes(changed)


# Of a file a bit, of the next one half, and so on.
DAMAGES = (
  flipped,
  lambda data, rng: data[: len(data) // 2],
  lambda data, rng: b"[" * 100_000,
  lambda data, rng: b"",
  lambda data, rng: b"\xff" + data,
  lambda data, rng: b"null",
)


def unlearned(workdir):
  rows.source.cache_clear()  # Holds rows that were read before.
  run = run_single("unlearn", minimal.config(), workdir, models=["max_ent"])
  return run["max_ent"]


@pytest.mark.usefixtures("one_device")
def test_a_run_goes_on_from_damaged_files_to_the_same_or_names_one(chain, tmp_path):
  finished, rng = chain[0] / "base", np.random.default_rng(0)
  expected = chain[2]["max_ent"]
  # Of a checkpoint, tests/training/checkpointing_test.py damages every file.
  files = [
    f for f in finished.rglob("*") if f.is_file() and "checkpoints" not in f.parts
  ]
  assert len(files) > 15
  for number, file in enumerate(sorted(files)):
    workdir = shutil.copytree(finished, tmp_path / str(number))
    target = workdir / file.relative_to(finished)
    damage = DAMAGES[number % len(DAMAGES)]
    target.write_bytes(damage(file.read_bytes() or b"empty", rng))
    try:
      assert unlearned(workdir) == expected, target
    except ConfigError as error:
      message = str(error)
      assert "\n" not in message
      # The file, or for data the directory that holds it.
      assert str(target) in message or any(
        str(parent) in message for parent in target.parents if "stages" in parent.parts
      ), message
    shutil.rmtree(workdir)


@pytest.mark.parametrize("name", ["config.json", "done.json"])
def test_another_letter_in_a_record_of_a_stage_is_seen(chain, tmp_path, name):
  workdir = shutil.copytree(chain[0] / "base", tmp_path / "run")
  (path,) = workdir.glob(f"stages/data-*/{name}")
  path.write_text(path.read_text().replace("e", "d", 1))  # In the name of a setting.
  with pytest.raises(ConfigError, match=rf"{path} is damaged"):
    cards.history(chains.directory(workdir, "base"))
  path.unlink()
  if name == "config.json":  # A stage without the other one is not finished.
    with pytest.raises(ConfigError, match=rf"{path} is gone; bring it back"):
      cards.history(chains.directory(workdir, "base"))


class Killed(Exception):
  """Stands for a kill: nothing after it runs."""


def unlearn(chain, workdir):
  """Unlearn by MaxEnt with a checkpoint after each update."""
  config = minimal.config(checkpoint_every=1)
  base = chains.directory(chain[0] / "base", "base")
  run_single("unlearn", config, workdir, checkpoint=base, models=["max_ent"])


@pytest.mark.usefixtures("one_device")
def test_a_killed_stage_goes_on_from_the_checkpoint_before_a_damaged_one(
  chain, tmp_path, monkeypatch, caplog
):
  """And then has its last checkpoint alone, the same as if nothing had happened."""

  def kill(directory):
    if directory.exists():  # A stage with a model.
      raise Killed

  with monkeypatch.context() as patch, pytest.raises(Killed):
    patch.setattr(checkpointing, "keep_newest", kill)
    unlearn(chain, tmp_path)
  stage = sharing.stage(tmp_path, "max_ent")
  kept = [path.name for path in sorted((stage / "checkpoints").iterdir())]
  assert kept == ["1", "2"] and not (stage / "done.json").exists()
  part = next((stage / "checkpoints" / "2" / "rest").rglob("d/*"))
  part.write_bytes(flipped(part.read_bytes(), np.random.default_rng(0)))
  unlearn(chain, tmp_path)
  assert f"{part} is not as it was written and is removed" in caplog.text
  assert [path.name for path in (stage / "checkpoints").iterdir()] == ["2"]
  whole = sharing.stage(chain[0] / "unlearned", "max_ent")
  assert (stage / "done.json").read_bytes() == (whole / "done.json").read_bytes()
  one, other = (
    sharing.checkpoint(workdir, "max_ent")
    for workdir in (tmp_path, chain[0] / "unlearned")
  )
  assert one.keys() == other.keys()
  for name, array in one.items():
    assert array.tobytes() == other[name].tobytes(), name


@pytest.mark.usefixtures("one_device")
def test_a_finished_stage_without_its_record_is_run_again(chain, tmp_path, caplog):
  """Its parameters alone are left, from which training cannot go on."""
  unlearn(chain, tmp_path)
  done = sharing.stage(tmp_path, "max_ent") / "done.json"
  record, weights = done.read_bytes(), sharing.checkpoint(tmp_path, "max_ent")
  done.unlink()
  unlearn(chain, tmp_path)
  assert "is removed; the stage goes on from update 0" in caplog.text
  assert done.read_bytes() == record
  for name, array in sharing.checkpoint(tmp_path, "max_ent").items():
    assert array.tobytes() == weights[name].tobytes(), name
