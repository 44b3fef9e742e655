"""Unlearning methods and a prompted teacher on 1 and 8 devices, all in one program."""

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
WHOLE = ["forward_kl, prompted"]  # Of a batch without parts.


def losses(mesh):
  """Return the loss of each method."""
  fns = {name: make(name) for name in (*NAMES, *WHOLE)}

  def every(params, frozen, batch, key):
    given = {name: batch["forget"] if name in WHOLE else batch for name in fns}
    return {
      name: fn(params, frozen, given[name], key)[0].mean() for name, fn in fns.items()
    }

  rows = {
    name: jax.device_get(part(k))
    for k, name in enumerate(("forget", "retain", "adversary", "environment"))
  }
  everywhere = sharding.replicated(mesh)
  given = jax.tree.map(
    lambda x: sharding.put_whole(np.asarray(x), everywhere), (draw_params(1), FROZEN)
  )
  values = jax.jit(every)(*given, sharding.put_batch(rows, mesh), KEY)
  return jax.device_get(values)


def test_losses_do_not_depend_on_the_devices():
  """Their gradients' sums over devices are the compiler's: tests/invariance_test.py."""
  one, many = (losses(testing.mesh(n, data=n)) for n in (1, 8))
  assert set(one) == {*NAMES, *WHOLE} and len(NAMES) > 15
  for name in one:
    np.testing.assert_allclose(many[name], one[name], rtol=1e-5, err_msg=name)
