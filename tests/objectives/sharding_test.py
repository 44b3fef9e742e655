"""Every unlearning method is the same on 1 and 8 devices, all in one program."""

import jax
import numpy as np

from tests.objectives.toy import CASES, FROZEN, KEY, draw_params, make, part
from undo_jax import objectives, testing
from undo_jax.distributed import sharding

# Those whose statistics are of what is in a batch, not sums over it, too.
NAMES = [
  name
  for name, (method, _) in CASES.items()
  if objectives.REGISTRY.get(method).is_unlearning
]


def losses_and_gradients(mesh):
  """Returns the loss of each method, and the gradient of their sum."""
  fns = {name: make(name) for name in NAMES}

  def total(params, frozen, batch, key):
    found = {name: fn(params, frozen, batch, key)[0].mean() for name, fn in fns.items()}
    return sum(found.values()), found

  rows = {
    name: jax.device_get(part(k))
    for k, name in enumerate(("forget", "retain", "adversary"))
  }
  everywhere = sharding.replicated(mesh)
  given = jax.tree.map(
    lambda x: sharding.put_whole(np.asarray(x), everywhere), (draw_params(1), FROZEN)
  )
  fn = jax.jit(jax.value_and_grad(total, has_aux=True))
  (_, found), grads = fn(*given, sharding.put_batch(rows, mesh), KEY)
  return jax.device_get((found, grads))


def test_losses_and_gradients_do_not_depend_on_the_devices():
  one, many = (losses_and_gradients(testing.mesh(n, data=n)) for n in (1, 8))
  assert set(one[0]) == set(NAMES) and len(NAMES) > 15
  for name in NAMES:
    np.testing.assert_allclose(many[0][name], one[0][name], rtol=1e-5, err_msg=name)
  for got, expected in zip(*map(jax.tree.leaves, (many[1], one[1])), strict=True):
    size = np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5 * size)
