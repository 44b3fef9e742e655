"""Checkpoints: the newest alone, whole, into any sharding, parameters by themselves."""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from undo_jax import testing
from undo_jax.training.checkpointing import Checkpoints, load_params

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
