"""Noise in proportion to a matrix: how large, how distributed, of which draw."""

import jax
import numpy as np
from scipy import stats

from tests.attacks import edited as lib
from tests.attacks.edited import PARAMS, assert_others_stay, edited, pairs
from undo_jax import attacks

MATRICES = ("kernel", "embedding")


def test_each_matrix_is_perturbed_by_parts_of_its_own_rms():
  # Layers of other sizes: each has its own RMS.
  grown = jax.tree.map(np.array, PARAMS)
  grown["layers"]["mlp"]["up"]["kernel"][1] *= 10
  noised = edited("weight_noise", 0.1, params=grown)
  before = dict(lib.matrices(grown, MATRICES))
  drawn = []
  for path, after in lib.matrices(noised, MATRICES):
    rms = np.sqrt(np.mean(before[path] ** 2))
    drawn.append((after - before[path]).ravel() / (0.1 * rms))
    # Of n normal numbers the RMS is 1 to within 1 / sqrt(2 n), here five of these.
    spread = np.sqrt(np.mean(drawn[-1] ** 2))
    assert abs(spread - 1) < 5 / np.sqrt(2 * len(drawn[-1])), path
  assert stats.kstest(np.concatenate(drawn), "norm").pvalue > 0.01
  for one, other in zip(drawn, drawn[1:], strict=False):
    shared = min(len(one), len(other))
    assert abs(np.corrcoef(one[:shared], other[:shared])[0, 1]) < 0.25


def test_strengths_scale_one_draw_and_what_is_no_matrix_stays():
  weak, strong = edited("weight_noise", 0.1), edited("weight_noise", 0.3)
  for (path, before, a), (_, _, b) in zip(
    pairs(weak, MATRICES), pairs(strong, MATRICES), strict=True
  ):
    np.testing.assert_allclose(b - before, 3 * (a - before), atol=1e-5, err_msg=path)
  assert_others_stay(weak, MATRICES)


def test_another_key_is_another_draw():
  one, other = (
    edited("weight_noise", 0.1, key=jax.random.key(seed))["embedding"]
    for seed in (0, 1)
  )
  assert attacks.EDITS.get("weight_noise").is_random and np.all(one != other)
