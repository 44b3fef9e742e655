"""A small model and options of adapters, for tests of adversaries."""

import jax
import numpy as np

from undo_jax import testing

MODEL = testing.config(num_layers=1)
KEY = jax.random.key(1)
LORA = {"rank": 2, "alpha": 4.0, "targets": ["layers/mlp/(up|down)/kernel"]}


def equal(one, two):
  jax.tree.map(np.testing.assert_array_equal, one, two)


def draw_params():
  return testing.weights(MODEL)
