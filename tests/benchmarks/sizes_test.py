"""The models of the benchmarks are those whose sizes the README tells."""

from benchmarks.sizes import MODELS
from undo_jax.models.config import num_params


def test_sizes_stay():
  counts = {name: num_params(model) for name, model in MODELS.items()}
  assert counts == {
    "tiny": 419_040,
    "small": 1_247_360,
    "middle": 1_494_144,
    "large": 7_905_536,
    "largest": 29_377_024,
  }
