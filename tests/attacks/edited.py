"""A small model with a base, and its edits, for tests of them."""

import json

import jax
import numpy as np

from undo_jax import attacks, testing
from undo_jax.running import programs
from undo_jax.utils import trees

MODEL = testing.config()  # Two layers.
PARAMS, BASE = testing.weights(MODEL), testing.weights(MODEL, seed=1)
KEY = jax.random.key(3)


def edited(
  name, strength, options=None, *, params=PARAMS, base=None, mesh=None, key=KEY
):
  """Return what an edit makes of a model, as NumPy's arrays."""
  mesh = mesh or testing.mesh(1)
  edit = programs.edit(MODEL, mesh, name, json.dumps(options or {}), strength)
  assert attacks.EDITS.get(name).reads_base == (base is not None)
  return jax.device_get(edit(params, base, key))


def matrices(params, paths):
  """Yield each matrix in float64 with its path, those of stacked layers apart."""
  leaves = dict(zip(trees.paths(params), jax.tree.leaves(params), strict=True))
  for path, leaf in leaves.items():
    if any(part in path for part in paths):
      stacked = np.asarray(leaf, np.float64).reshape(-1, *leaf.shape[-2:])
      for layer, matrix in enumerate(stacked):
        yield f"{path} {layer}", matrix


def others(params, paths):
  """Return the leaves that are not of these paths."""
  leaves = zip(trees.paths(params), jax.tree.leaves(params), strict=True)
  return {p: np.asarray(x) for p, x in leaves if not any(part in p for part in paths)}


def assert_others_stay(params, paths):
  """Assert that an edit has changed nothing but the leaves of these paths."""
  before, after = others(PARAMS, paths), others(params, paths)
  assert before.keys() == after.keys()
  for path, leaf in before.items():
    np.testing.assert_array_equal(after[path], leaf)


def pairs(params, paths):
  """Return (path, matrix before, matrix after) of each matrix; there are several."""
  before, after = dict(matrices(PARAMS, paths)), dict(matrices(params, paths))
  made = [(path, before[path], after[path]) for path in before]
  assert len(made) > 7 * (MODEL.num_layers - 1)
  return made
