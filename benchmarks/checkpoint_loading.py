"""Memory and rate of loading a Hugging Face checkpoint.

COMMAND, about a minute and 2 GB of disk:

  python -m benchmarks.checkpoint_loading --gigabytes=2

Writes a random Gemma-2 checkpoint of about that size to a temporary directory and
loads it in a fresh process, which reports its largest resident memory: whole, and
beyond what the process held before loading, as multiples of the checkpoint's size.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from absl import app, flags

_GIGABYTES = flags.DEFINE_float("gigabytes", 2.0, "Size of the tensors, 1e9 bytes.")
_DTYPE = flags.DEFINE_enum(
  "dtype", "float32", ["float32", "bfloat16"], "As stored; loaded in the same."
)
_WORKER = flags.DEFINE_string("worker", None, "Internal: a checkpoint to load.")
# Of gemma-2-2b: a third of the weights are the embedding, the largest array.
WIDTH, MLP_WIDTH, VOCABULARY = 1024, 4096, 160_000


def write(directory: pathlib.Path, size: float, dtype: str) -> None:
  """Write a checkpoint of at least `size` bytes."""
  import jax

  from undo_jax.models import huggingface
  from undo_jax.models.config import ModelConfig, num_params
  from undo_jax.models.decoder import Decoder

  itemsize = 4 if dtype == "float32" else 2
  num_layers = 1
  while True:
    config = ModelConfig(
      vocab_size=VOCABULARY,
      num_layers=num_layers,
      width=WIDTH,
      num_heads=8,
      num_kv_heads=4,
      head_dim=256,
      mlp_width=MLP_WIDTH,
    )
    if num_params(config) * itemsize >= size:
      break
    num_layers += 1
  params = Decoder(config).init(jax.random.key(0))
  huggingface.save(directory, config, params, dtype=dtype)


def load(directory: str) -> dict[str, float]:
  """Load the checkpoint and reports bytes and seconds."""
  import jax

  from undo_jax.models import huggingface

  jax.block_until_ready(jax.numpy.zeros(1))
  before = _peak()
  start = time.perf_counter()
  _, params = huggingface.load(directory)
  seconds = time.perf_counter() - start
  size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
  return {"size": size, "before": before, "peak": _peak(), "seconds": seconds}


def _peak() -> int:
  """Return the largest resident memory so far, from /proc, in bytes."""
  status = pathlib.Path("/proc/self/status").read_text()
  (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
  return 1024 * int(line.split()[1])


def main(argv: list[str]) -> None:
  """Write a checkpoint, load it in another process and print the figures."""
  del argv
  if _WORKER.value is not None:
    print(json.dumps(load(_WORKER.value)))
    return
  with tempfile.TemporaryDirectory() as root:
    directory = pathlib.Path(root) / "checkpoint"
    # In another process too: freed memory would stay with this one.
    pid = os.fork()
    if not pid:
      write(directory, _GIGABYTES.value * 1e9, _DTYPE.value)
      os._exit(0)
    if os.waitpid(pid, 0)[1]:
      sys.exit("the checkpoint could not be written")
    command = [sys.executable, "-m", "benchmarks.checkpoint_loading"]
    done = subprocess.run(
      [*command, f"--worker={directory}"], check=True, stdout=subprocess.PIPE
    )
  answer = json.loads(done.stdout)
  size, peak = answer["size"], answer["peak"]
  print(
    f"{_DTYPE.value}, {size / 1e9:.2f} GB: peak {peak / 1e9:.2f} GB = "
    f"{peak / size:.2f} x the checkpoint, {(peak - answer['before']) / size:.2f} x "
    f"beyond the {answer['before'] / 1e9:.2f} GB before; "
    f"{answer['seconds']:.1f} s, {size / 1e6 / answer['seconds']:.0f} MB/s"
  )


if __name__ == "__main__":
  app.run(main)
