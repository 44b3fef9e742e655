"""Parts of a run: a stage alone, from a checkpoint, and requests that cannot be met."""

import pytest

from tests import minimal
from undo_jax.plan import stages, translation
from undo_jax.plan.config import parse
from undo_jax.running.runs import declare, run_single
from undo_jax.utils.types import ConfigError


def test_a_stage_alone_is_a_part_of_the_whole_run(chain):
  root, base, _ = chain
  assert sorted(p.name.rsplit("-")[0] for p in (root / "base/stages").iterdir()) == [
    "base",
    "data",
  ]
  plan = translation.plan(parse(minimal.config()), 0)
  assert base.name == f"base-{stages.identities(plan)['base']}"


def test_a_run_takes_all_devices():
  assert declare(minimal.config()).mesh.shape["data"] == 8
  mesh = declare(minimal.config(mesh__fsdp=2)).mesh
  assert dict(mesh.shape) == {"replica": 1, "data": 4, "fsdp": 2, "tensor": 1}


@pytest.mark.usefixtures("one_device")
def test_pretraining_goes_on_from_a_checkpoint(chain, tmp_path):
  _, base, _ = chain
  first = run_single(
    "pretrain", minimal.config(), tmp_path, checkpoint=base, models=["data_filtering"]
  )
  assert list(first) == ["data", "model", "data_filtering"]
  # Nothing is left to do the second time.
  again = run_single(
    "pretrain", minimal.config(), tmp_path, checkpoint=base, models=["data_filtering"]
  )
  assert again == first


def test_wrong_requests_are_one_clear_line(chain, tmp_path):
  _, base, _ = chain
  with pytest.raises(ConfigError, match="'nothing' is none of data, base"):
    run_single("pretrain", minimal.config(), tmp_path, models=["nothing"])
  config = minimal.config(data__tokenizer="bytes")
  with pytest.raises(ConfigError, match="vocab_size: expected at least 259"):
    run_single("evaluate", config, tmp_path, checkpoint=base)
  config = minimal.config(models__rmu__run=True, models__rmu__start="max_ent")
  with pytest.raises(ConfigError, match="starts from base, max_ent; give it as"):
    run_single("unlearn", config, tmp_path, checkpoint=base)
  assert list(tmp_path.iterdir()) == []
