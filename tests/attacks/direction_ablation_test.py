"""Direction ablation against means in NumPy, and against an edit of the weights."""

import jax
import numpy as np
import pytest

from undo_jax import attacks, testing
from undo_jax.models.decoder import Decoder
from undo_jax.utils.types import ConfigError

PARTS = ("forget", "retain")
BATCH = {n: testing.batch(jax.random.key(i), rows=6) for i, n in enumerate(PARTS)}
BATCH = jax.device_get(BATCH)
TOKENS = BATCH["forget"]["inputs"]
EDIT = attacks.EDITS.get("direction_ablation")
CAPTURES = {"capture": ("embedding", "residual")}
FAMILIES = {
  "gemma": testing.config(),
  "llama": testing.config(post_norms=False, norm_offset=False, tied=False),
}
CACHE = {}


def computed(family):
  """Return weights, the direction, hidden states and what is scored."""
  if family not in CACHE:
    model, beside = FAMILIES[family], EDIT.beside
    params, decoder = testing.weights(model), Decoder(model)
    assert beside is not None

    @jax.jit
    def compute(params):
      directions = beside.find(model, params, BATCH, 1.0, jax.random.key(0), None)
      apply = beside.using(model, 1.0, None, decoder.apply)
      hidden = {
        part: decoder.apply(params, BATCH[part]["inputs"], capture=(2,)).captured[2]
        for part in PARTS
      }
      scored = apply(directions | {"base": params}, TOKENS, **CAPTURES)
      return directions["direction"], hidden, scored

    CACHE[family] = (params, *jax.device_get(compute(params)))
  return CACHE[family]


def test_the_direction_is_the_difference_of_the_means_over_scored_positions():
  _, direction, hidden, _ = computed("gemma")
  means = {
    part: np.float64(hidden[part])[BATCH[part]["mask"] > 0].mean(axis=0)
    for part in PARTS
  }
  difference = means["forget"] - means["retain"]
  expected = difference / np.linalg.norm(difference)
  np.testing.assert_allclose(direction, expected, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_left_along_the_direction_in_any_layer(family):
  _, direction, hidden, scored = computed(family)
  assert np.abs(np.float64(hidden["forget"]) @ direction).max() > 0.1
  for name, states in scored.captured.items():
    along = np.float64(states) @ direction
    assert np.abs(along).max() < 1e-5 * np.abs(states).max(), name


def test_it_is_an_edit_of_all_matrices_that_write_to_the_stream():
  params, direction, _, scored = computed("llama")
  keep = np.eye(len(direction)) - np.outer(direction, direction)
  edited = jax.tree.map(np.array, params)
  edited["embedding"] = np.float32(edited["embedding"] @ keep)
  for block, name in (("attention", "out"), ("mlp", "down")):
    kernel = edited["layers"][block][name]["kernel"]
    edited["layers"][block][name]["kernel"] = np.float32(kernel @ keep)
  logits = jax.jit(Decoder(FAMILIES["llama"]).apply)(edited, TOKENS).logits
  np.testing.assert_allclose(scored.logits, logits, atol=2e-4)


@pytest.mark.parametrize("layer", [-1.0, 2.0, 0.5])
def test_a_layer_that_is_not_there_is_told_in_one_line(layer):
  expected = r"strengths: expected layers, whole numbers in \[0, 2\), got "
  with pytest.raises(ConfigError, match=expected) as error:
    attacks.check_edit(FAMILIES["gemma"], "direction_ablation", {}, [layer])
  assert "\n" not in str(error.value)
