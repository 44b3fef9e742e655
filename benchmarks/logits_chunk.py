"""Memory of a loss and its gradient against how many logits are there at a time.

COMMAND, with the extra `tpu-compile` and no TPU:

  python -m benchmarks.logits_chunk --topology=v5e:4x4

Compiles the three losses of hidden states with Gemma-2-2b's unembedding, in bfloat16,
112 rows of 1024 tokens over all chips, and prints for each number of positions of a
row the memory of a chip and the compiler's time. `whole` is the plain form.
"""

import os
import sys
from typing import Any

from absl import app, flags
import jax
import jax.numpy as jnp

from undo_jax.distributed import placement, sharding
from undo_jax.estimation import topologies
from undo_jax.estimation.estimate import estimate
from undo_jax.models.decoder import Decoder
from undo_jax.models.presets import PRESETS
from undo_jax.objectives import chunked
from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.objectives.distillation import forward_kl
from undo_jax.objectives.max_ent import uniform_kl
from undo_jax.utils import tables

_TOPOLOGY = flags.DEFINE_string("topology", "v5e:4x4", "As of experiments.compile.")
_ROWS = flags.DEFINE_integer("rows", 112, "Rows of a batch.")
_CHUNKS = flags.DEFINE_list("chunks", ["16", "64", "256", "1024", "whole"], "To try.")
LOSSES = {
  "cross-entropy": lambda x, y, targets, mask: cross_entropy(x, targets, mask),
  "forward KL": lambda x, y, targets, mask: forward_kl(x, y, mask),
  "uniform KL": lambda x, y, targets, mask: uniform_kl(x, mask),
}


def program(loss, chunk: int | None):
  """Return the loss of (weights, hidden states) and a teacher's, and its gradient."""
  decoder = Decoder(PRESETS["gemma2_2b"])

  def logits(params, hidden):
    weights = decoder.unembedding(params)
    if chunk is None:
      return decoder.unembed(weights, hidden)
    return chunked.Deferred(hidden, weights, decoder.unembed, chunk)

  def value(student, teacher, targets, mask):
    return loss(logits(*student), logits(*teacher), targets, mask).sum

  return jax.value_and_grad(value)


def arguments(mesh, rows: int, length: int = 1024) -> tuple[Any, ...]:
  """Return the shapes of the program's arguments."""
  config = PRESETS["gemma2_2b"]

  def shape(sizes, dtype, *axes):
    where = jax.NamedSharding(mesh, jax.P(*axes))
    return jax.ShapeDtypeStruct(sizes, dtype, sharding=where)

  def model(dtype):
    sizes = (config.vocab_size, config.width)
    embedding = shape(sizes, dtype, "tensor", "fsdp")
    hidden = shape((rows, length, config.width), jnp.bfloat16, placement.ROWS)
    return {"embedding": embedding}, hidden

  targets = shape((rows, length), jnp.int32, placement.ROWS)
  mask = shape((rows, length), jnp.float32, placement.ROWS)
  return model(jnp.float32), model(jnp.bfloat16), targets, mask


def main(argv):
  del argv
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  jax.config.update("jax_platforms", "cpu")
  devices, chip = topologies.get(_TOPOLOGY.value)
  mesh = sharding.make_mesh(data=1, fsdp=-1, devices=devices)
  args = arguments(mesh, _ROWS.value)
  rows = []
  for name, loss in LOSSES.items():
    for chunk in _CHUNKS.value:
      fn = program(loss, None if chunk == "whole" else int(chunk))
      jitted = jax.jit(placement.on(mesh, fn))
      estimated = estimate(name, jitted, args, chip, len(devices))
      memory = (estimated.temporary_bytes + estimated.output_bytes) / 2**30
      cells = [f"{memory:.2f}", f"{estimated.seconds:.3f}"]
      rows.append(
        [name, chunk, *([estimated.refusal, ""] if estimated.refusal else cells)]
      )
      print(*rows[-1], file=sys.stderr, flush=True)
  print(tables.text(["loss", "positions", "temporary GiB", "seconds"], rows))


if __name__ == "__main__":
  app.run(main)
