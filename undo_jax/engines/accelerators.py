"""What a worker takes: chips by kind and shape, written as --topology has them."""

import dataclasses
import re

from undo_jax.utils.errors import ConfigError

TPUS = ("v2", "v3", "v4", "v5e", "v5p", "v6e", "v7x")
GPUS = ("gpu", "a100", "h100")  # "gpu": of any kind.


@dataclasses.dataclass(frozen=True)
class Accelerator:
  """The hosts and chips of one stage."""

  kind: str  # Of TPUS or GPUS, or "cpu".
  shape: str  # Of a TPU slice its topology, else HOSTSxCHIPS.

  @property
  def is_tpu(self) -> bool:
    """Whether it is a TPU slice, whose hosts the engine knows."""
    return self.kind in TPUS

  @property
  def num_hosts(self) -> int:
    """Hosts, of what is no slice."""
    return int(self.shape.split("x")[0])

  @property
  def per_host(self) -> int:
    """GPUs or CPUs of each."""
    return int(self.shape.split("x")[1])


def parse(text: str) -> Accelerator:
  """Return what a user names.

  Args:
    text: v6e:4x4, a TPU slice; h100:8 or gpu:8, GPUs of one host, h100:4x8, of four;
      cpu:1, likewise.

  Raises:
    ConfigError: if it is none of these.
  """
  kind, _, shape = text.partition(":")
  if kind in TPUS and re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", shape):
    return Accelerator(kind, shape)
  if kind in (*GPUS, "cpu") and re.fullmatch(r"[1-9]\d*(x[1-9]\d*)?", shape):
    return Accelerator(kind, shape if "x" in shape else f"1x{shape}")
  raise ConfigError(
    f"--accelerator: expected {', '.join(TPUS)} with a topology such as v6e:4x4, or "
    f"{', '.join(GPUS)}, cpu with a number or HOSTSxNUMBER such as h100:8 or h100:4x8, "
    f"got {text!r}"
  )
