"""What tests are given: a small batch with pads, a mesh over some devices."""

import jax
import numpy as np

from undo_jax import testing


def test_rows_are_shifted_by_one_and_end_in_pads_of_varying_number():
  batch = testing.batch(jax.random.key(0), rows=64, length=5, vocab=9)
  inputs, targets, mask = (np.asarray(batch[k]) for k in ("inputs", "targets", "mask"))
  np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
  assert inputs.shape == mask.shape == (64, 5)
  assert inputs.min() == 0 and inputs.max() == 8
  assert set(mask.sum(1)) == {1, 2, 3, 4, 5}  # Some of each, none without any.
  assert (np.diff(mask, axis=1) <= 0).all()


def test_a_mesh_lies_over_the_first_devices():
  assert dict(testing.mesh(4).shape)["data"] == 4
  mesh = testing.mesh(4, data=2, fsdp=2)
  assert mesh.devices.ravel().tolist() == jax.devices()[:4]


def test_changes_of_the_model_leave_the_rest():
  assert testing.config(width=32).width == 32
  assert testing.config(width=testing.CONFIG.width) == testing.CONFIG
