"""Soft prompts: what is scored is a model on embeddings before every row."""

import jax
import numpy as np
import pytest
import scipy.special

from tests.attacks.tiny import KEY, draw_params
from undo_jax import attacks, testing
from undo_jax.models.decoder import Decoder
from undo_jax.objectives import chunked

BATCH = jax.device_get(testing.batch(KEY, rows=3, length=10))
MODEL = testing.config(num_layers=1, sliding_window=6)
FAMILIES = {
  "scaled": MODEL,
  "plain": testing.config(num_layers=1, scale_embedding=False, logits_chunk=4),
}
TOKENS = np.array([3, 1, 4, 1], np.int32)
PARAMS = draw_params()


def members(model, size=4):
  return attacks.members_of(model, "soft_prompt", {"tokens": size})


@pytest.mark.parametrize("model", FAMILIES.values(), ids=FAMILIES)
def test_a_prompt_of_embeddings_is_the_model_on_their_tokens(model):
  """Logit, chosen ones, and the loss of the rows alone, whose gradient reaches all."""
  embedding = np.asarray(PARAMS["embedding"], np.float64)
  prompt = embedding[TOKENS] / np.sqrt(np.mean(embedding**2))
  rows = np.concatenate([np.tile(TOKENS, (3, 1)), BATCH["inputs"]], axis=1)
  parts, places = members(model), np.array([[0, 9]] * 3)

  @jax.jit
  def compute(prompt):
    def value(prompt):
      loss, _ = parts.objective({"prompt": prompt}, {"base": PARAMS}, BATCH, KEY)
      return loss.sum, loss.count

    tree = parts.weights({"prompt": prompt}, {"base": PARAMS})

    def logits(**how):
      deferred = parts.apply(tree, BATCH["inputs"], **how).logits
      return chunked.mapped(lambda logits: logits, deferred)

    return (
      Decoder(model).apply(PARAMS, rows).logits[:, len(TOKENS) :],
      logits(),
      logits(positions_BxP=places),
      jax.value_and_grad(value, has_aux=True)(prompt),
    )

  expected, whole, chosen, ((loss, count), gradient) = compute(np.float32(prompt))
  np.testing.assert_allclose(whole, expected, atol=2e-4)
  np.testing.assert_allclose(chosen, expected[:, [0, 9]], atol=2e-4)
  log_p = scipy.special.log_softmax(np.asarray(expected, np.float64), axis=-1)
  nll = -np.take_along_axis(log_p, BATCH["targets"][..., None], -1)[..., 0]
  np.testing.assert_allclose(loss, np.sum(nll * BATCH["mask"]), rtol=1e-4)
  assert count == np.sum(BATCH["mask"])
  assert np.all(np.linalg.norm(gradient, axis=1) > 1e-6)


def test_a_prompt_begins_at_embeddings_of_the_vocabulary():
  start = members(MODEL, 30).start(PARAMS, KEY)["prompt"]
  known = np.asarray(PARAMS["embedding"]) / np.sqrt(np.mean(PARAMS["embedding"] ** 2))
  distance = np.abs(np.asarray(start)[:, None] - known[None]).max(-1)
  assert start.shape == (30, 16) and np.all(distance.min(1) < 1e-5)
  assert len(set(distance.argmin(1).tolist())) > 5
