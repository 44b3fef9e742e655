"""Where activations lie: on eight devices, in every kind of step."""

import re

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

from undo_jax import testing
from undo_jax.distributed import placement, sharding
from undo_jax.running import programs
from undo_jax.training.optimizers import OptimizerConfig

MESH = testing.mesh(8, data=2, fsdp=4)


def layout(fn, *args):
  """Return the sharding of a function's result inside of `on`."""
  return jax.jit(placement.on(MESH, fn))(*args).sharding


def test_rows_are_spread_as_stated_and_axes_that_do_not_fit_are_left_out():
  def fn(x):
    return placement.constrain(x * 2, placement.ROWS, None)

  for rows, spec in ((16, P(("data", "fsdp"))), (6, P("data")), (5, P())):
    x = jax.device_put(jnp.ones((rows, 3)), sharding.replicated(MESH))
    placed = layout(fn, x)
    assert placed.is_equivalent_to(NamedSharding(MESH, spec), 2), (rows, placed)


def test_outside_of_a_mesh_nothing_is_stated():
  text = str(jax.make_jaxpr(lambda x: placement.constrain(x, "data"))(jnp.ones(8)))
  assert "sharding" not in text


def test_a_gathered_matrix_is_whole_and_its_gradient_in_parts():
  stored = NamedSharding(MESH, P("fsdp", None))
  kernel = jax.device_put(jnp.arange(32.0).reshape(8, 4), stored)

  def value(kernel):
    whole = placement.gather(kernel, ("fsdp", "tensor"))
    return jnp.sum(jnp.cos(whole))

  assert layout(
    lambda k: placement.gather(k, ("fsdp", "tensor")), kernel
  ).is_fully_replicated
  assert layout(jax.grad(value), kernel).is_equivalent_to(stored, 2)
  grad = jax.jit(placement.on(MESH, jax.grad(value)))(kernel)
  np.testing.assert_allclose(grad, -np.sin(np.arange(32.0).reshape(8, 4)), rtol=1e-6)


def test_no_device_holds_a_batch_or_the_unembedding_whole():
  """All arrays of a compiled step are a device's own part."""
  config = testing.config(vocab_size=512, logits_chunk=4, remat="full")
  optimizer = OptimizerConfig(learning_rate=1e-3, num_steps=1)
  step = programs.training(config, MESH, "cross_entropy", (), optimizer, 1)
  rows, length = 48, 20
  batch = {
    name: jax.ShapeDtypeStruct(
      (rows, length), dtype, sharding=sharding.batch_sharding(MESH)
    )
    for name, dtype in (("inputs", "int32"), ("targets", "int32"), ("mask", "float32"))
  }
  key = jax.eval_shape(lambda: jax.random.key(0))
  text = step.step.lower(step.abstract, (), batch, key).compile().as_text()
  arrays = [
    tuple(map(int, dims.split(","))) for dims in re.findall(r"\[([\d,]+)\]", text)
  ]
  assert (6, length, 16) in arrays  # Hidden states of a device's rows.
  assert (24, 4, 128) in arrays  # Logits: a quarter of them for four devices' rows.
  assert not [shape for shape in arrays if rows in shape]
  assert not [shape for shape in arrays if 512 in shape and 16 in shape]
