"""What tests are given: a small batch with pads, a mesh over some devices."""

import jax
import numpy as np

from undo_jax import testing
from undo_jax.models.decoder import Decoder
from undo_jax.utils import trees


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


def test_parameters_are_distributed_as_fresh_ones():
  config = testing.config(width=32, norm_offset=False, qkv_bias=True, init_std=0.3)
  params = testing.params(config)
  shapes = jax.eval_shape(Decoder(config).init, jax.random.key(0))
  assert jax.tree.structure(params) == jax.tree.structure(shapes)
  pairs = zip(jax.tree.leaves(params), jax.tree.leaves(shapes), strict=True)
  for path, (leaf, shape) in zip(trees.paths(shapes), pairs, strict=True):
    assert (leaf.shape, leaf.dtype) == (shape.shape, shape.dtype)
    if path.endswith(("scale", "bias")):
      np.testing.assert_array_equal(leaf, float(path.endswith("scale")), path)
    else:  # Standard error of the standard deviation of n normal draws: 1/sqrt(2n).
      assert abs(np.std(leaf) / 0.3 - 1) < 5 / np.sqrt(2 * leaf.size), path
  gate, up = (np.asarray(params["layers"]["mlp"][n]["kernel"]) for n in ("gate", "up"))
  other = np.asarray(testing.params(config, seed=1)["layers"]["mlp"]["up"]["kernel"])
  assert np.all(gate != up) and np.all(up != other)
  offset = testing.params(testing.config())["final_norm"]["scale"]
  np.testing.assert_array_equal(offset, 0.0)
  # Drawn once, but nobody changes what others get.
  params["embedding"] = None
  assert testing.params(config)["embedding"] is testing.params(config)["embedding"]
