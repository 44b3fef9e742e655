"""Slices of TPUs as JAX shows their chips, without a TPU or its library."""

import dataclasses
import itertools

# The shapes of Google Cloud's documentation from 4 chips to 256.
FLAT = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
DEEP = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x4x12", "4x8x8")
DEEP += ("4x4x16",)
SHAPES = {"v5e": FLAT, "v6e": FLAT, "v5p": DEEP}
KINDS = {"v5e": "TPU v5 lite", "v6e": "TPU v6 lite", "v5p": "TPU v5"}


@dataclasses.dataclass(frozen=True)
class Chip:
  """What arranging chips in a mesh reads of a jax.Device."""

  id: int
  device_kind: str
  coords: tuple[int, int, int]
  platform: str = "tpu"
  core_on_chip: int = 0
  process_index: int = 0
  slice_index: int = 0


def chips(generation: str, shape: str, slice_index: int = 0) -> list[Chip]:
  """Return the chips of a slice, x fastest."""
  x, y, z = (*map(int, shape.split("x")), 1)[:3]
  places = itertools.product(range(z), range(y), range(x))
  return [
    Chip(number, KINDS[generation], place[::-1], slice_index=slice_index)
    for number, place in enumerate(places)
  ]


def meshes(count: int) -> list[dict[str, int]]:
  """Return every way to lay chips out over the four axes."""
  sizes = [size for size in range(1, count + 1) if count % size == 0]
  return [
    {"replica": a, "data": b, "fsdp": c, "tensor": count // (a * b * c)}
    for a, b, c in itertools.product(sizes, repeat=3)
    if count % (a * b * c) == 0
  ]
