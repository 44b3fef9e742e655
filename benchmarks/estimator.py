"""The estimator against programs whose answer is known.

COMMAND, about a minute, with the extra `tpu-compile` and no TPU:

  python -m benchmarks.estimator --topology=v5e:2x2

Prints the FLOPs and the bytes a chip sends, as counted, over those there are, and the
compiler's seconds over those of the FLOPs at the datasheet's peak.
"""

import os
import sys

from absl import app, flags
import jax
import jax.numpy as jnp

from undo_jax.distributed import sharding
from undo_jax.estimation import topologies
from undo_jax.estimation.estimate import estimate
from undo_jax.utils import tables

_TOPOLOGY = flags.DEFINE_string("topology", "v5e:2x2", "As of experiments.compile.")
SIZE = 8192


def programs(mesh):
  """Yield (name, program, arguments, FLOPs, bytes a chip sends, chips that share)."""

  def square(*axes, leading=()):
    where = jax.NamedSharding(mesh, jax.P(*(None for _ in leading), *axes))
    return jax.ShapeDtypeStruct((*leading, SIZE, SIZE), jnp.bfloat16, sharding=where)

  def turns(a, weights):
    return jax.lax.scan(lambda c, weight: (c @ weight, None), a, weights)[0]

  def compiled(fn, *axes):
    return jax.jit(fn, out_shardings=jax.NamedSharding(mesh, jax.P(*axes)))

  flops, others = 2 * SIZE**3, SIZE**2 * 2 * (mesh.size - 1) / mesh.size
  # What all chips do alike is counted once, but each takes as long as one.
  args = square(), square()
  yield "product", compiled(jnp.matmul), args, flops, 0, 1
  args = square(), square(leading=(12,))
  yield "12 products", compiled(turns), args, 12 * flops, 0, 1
  args = square(None, "fsdp"), square("fsdp")
  yield "reduced product", compiled(jnp.matmul), args, flops, 2 * others, mesh.size
  args = square("fsdp"), square("fsdp", leading=(12,))
  yield "12 gathered", compiled(turns, "fsdp"), args, 12 * flops, 12 * others, mesh.size


def main(argv):
  del argv
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  jax.config.update("jax_platforms", "cpu")
  devices, chip = topologies.get(_TOPOLOGY.value)
  mesh = sharding.make_mesh(data=1, fsdp=-1, devices=devices)
  rows = []
  for name, program, args, flops, sent, divided in programs(mesh):
    estimated = estimate(name, program, args, chip, len(devices))
    counted = estimated.counted.flops / flops
    moved = estimated.totals.sent_bytes + estimated.totals.hidden_bytes
    share = f"{moved / sent:.3f}" if sent else "-"
    peak = flops / divided / chip.flops_per_second
    seconds = estimated.totals.cycles / chip.cycles_per_second / peak
    rows.append([name, f"{counted:.3f}", share, f"{seconds:.2f}"])
    print(*rows[-1], file=sys.stderr, flush=True)
  print(tables.text(["program", "FLOPs", "sent", "seconds over the peak"], rows))


if __name__ == "__main__":
  app.run(main)
