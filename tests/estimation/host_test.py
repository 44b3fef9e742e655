"""What a run takes of the memory here: counted by hand, refused in one line."""

import psutil
import pytest

from tests import children, minimal
from undo_jax.estimation import host
from undo_jax.models.config import num_params
from undo_jax.running import runs
from undo_jax.utils.types import ConfigError


def declared(*, edited=False):
  config = minimal.only(minimal.config(), ("base",))
  config.attacks.interpolation_to_base.update(run=edited, models=("base",))
  config.references.filtered = config.references.unlearned = None
  return runs.declare(config)


def test_arguments_are_the_state_and_what_is_frozen(capsys):
  run = declared(edited=True)
  names = {stage.name for stage in run.plan(0)}
  edit = "interpolation_to_base_base"
  estimates = {each.name: each for each in host.check(run.config, run.mesh, names)}
  assert set(estimates) == {"base", "evaluation", "relearn_base", edit}
  weights = 4 * num_params(run.config.model)
  # Parameters and Adam's two moments, whole on each device; in the attack parameters
  # of two members, of which one at a time has moments.
  for name, copies in {"base": 3, "evaluation": 1}.items():
    rest = estimates[name].argument_bytes - copies * weights
    assert 0 < rest < 0.1 * weights
    assert (estimates[name].aliased_bytes >= 3 * weights) == (copies == 3)
    assert estimates[name].temporary_bytes > 0
  attack = estimates["relearn_base"]
  assert 4 * weights < attack.argument_bytes < 4.5 * weights
  # The model and the base; the edited one is beside them while it is scored.
  assert 2 * weights < estimates[edit].argument_bytes < 2.1 * weights
  beside = estimates[edit].temporary_bytes - estimates["evaluation"].temporary_bytes
  assert 0.9 * weights < beside < 2 * weights
  printed = capsys.readouterr().out
  assert all(line.split()[-7] == "yes" for line in printed.splitlines()[2:])


def test_what_does_not_fit_is_refused_in_one_line(monkeypatch):
  run = declared()
  free = psutil.virtual_memory()._replace(available=8 * 2**16)
  monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
  with pytest.raises(ConfigError, match="GiB a device, .* lower batch_size") as error:
    host.check(run.config, run.mesh, {"base"})
  assert str(error.value).startswith("base: expected at most 6.1e-05 GiB")
  assert "\n" not in str(error.value)


@pytest.mark.processes
@pytest.mark.parametrize("command", ["undo", "unlearn"])
def test_a_dry_run_compiles_and_writes_nothing(tmp_path, command):
  workdir = tmp_path / "run"
  names = ("data_filtering", "oracle_matching", "undo", "unlearn_and_distill")
  fewer = {f"models.{name}.run": False for name in names}
  fewer["references.filtered"] = None
  status, printed, said = children.run(
    command, "--dry_run", f"--workdir={workdir}", *minimal.flags(**fewer)
  )
  assert status == 0, said
  names = [line.split("  ")[0] for line in printed.splitlines()[2:]]
  assert "max_ent" in names and ("relearn_base" in printed) == (command == "undo")
  assert not workdir.exists()
