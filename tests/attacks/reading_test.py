"""Diagnostics: the lens of the last layer is the model, a probe's update is by hand."""

import jax
import numpy as np
import pytest

from undo_jax import attacks, testing
from undo_jax.models.decoder import Decoder
from undo_jax.objectives import chunked
from undo_jax.utils.types import ConfigError

MODEL = testing.config()
PARAMS = testing.weights(MODEL)
KEY = jax.random.key(0)
BATCH = jax.device_get(testing.batch(KEY, rows=4))
PLACES = np.array([[0, 5]] * 4)


def test_the_lens_is_the_model_at_its_last_layer_and_another_one_before():
  beside = attacks.EDITS.get("logit_lens").beside
  assert beside is not None and not beside.reads

  @jax.jit
  def compute(params):
    apply = Decoder(MODEL).apply
    lenses = [beside.using(MODEL, float(k), None, apply) for k in range(2)]
    tree = beside.find(MODEL, params, {}, 1.0, KEY, None) | {"base": params}
    # A model of one layer, the first, has the same final norm and unembedding.
    first = params | {"layers": jax.tree.map(lambda x: x[:1], params["layers"])}
    short = Decoder(testing.config(num_layers=1)).apply(first, BATCH["inputs"])
    whole = apply(params, BATCH["inputs"])
    lens = [each(tree, BATCH["inputs"]) for each in lenses]
    chosen = lenses[0](tree, BATCH["inputs"], positions_BxP=PLACES)
    return short.logits, whole.logits, lens[0].logits, lens[1].logits, chosen.logits

  short, whole, first, last, chosen = compute(PARAMS)
  np.testing.assert_allclose(last, whole, atol=1e-5)
  np.testing.assert_allclose(first, short, atol=1e-5)
  np.testing.assert_allclose(chosen, np.asarray(first)[:, [0, 5]], atol=1e-5)
  assert np.abs(first - last).max() > 0.1


@pytest.mark.parametrize("chunk", [None, 5])
def test_a_probes_gradient_is_by_hand(chunk):
  """At 0 it is the mean of (1 / V - one-hot) times the layer's output over its rms."""
  model = testing.config(logits_chunk=chunk)
  members = attacks.members_of(model, "probe", {"layer": 0})
  assert members.apply is not None
  V = model.vocab_size

  @jax.jit
  def compute(params):
    start = members.start(params, KEY)

    def value(trained):
      return members.objective(trained, {"base": params}, BATCH, KEY)[0].mean()

    hidden = Decoder(model).apply(params, BATCH["inputs"], capture=(1,)).captured[1]
    trained = {"kernel": start["kernel"] + 0.1, "bias": np.arange(V) / V}
    tree = members.weights(trained, {"base": params})
    how = {"positions_BxP": PLACES}
    logits = members.apply(tree, BATCH["inputs"], **how).logits
    scored = chunked.mapped(lambda logits: logits, logits)
    return jax.value_and_grad(value)(start), hidden, scored

  (loss, gradient), hidden, scored = jax.device_get(compute(PARAMS))
  np.testing.assert_allclose(loss, np.log(V), rtol=1e-5)
  h = np.float64(hidden)
  h /= np.sqrt(np.mean(h**2, axis=-1, keepdims=True) + 1e-6)
  kept = BATCH["mask"] > 0
  error = 1 / V - np.eye(V)[BATCH["targets"][kept]]
  np.testing.assert_allclose(gradient["bias"], error.mean(axis=0), atol=1e-5)
  expected = h[kept].T @ error / kept.sum()
  np.testing.assert_allclose(gradient["kernel"], expected, atol=1e-5)
  expected = 0.1 * h[:, [0, 5]].sum(-1, keepdims=True) + np.arange(V) / V
  np.testing.assert_allclose(scored, expected, atol=1e-4)


@pytest.mark.parametrize("layer", [2.0, -1.0, 0.5])
def test_a_lens_of_a_layer_that_is_not_there_is_refused(layer):
  expected = r"strengths: expected layers, whole numbers in \[0, 2\), got "
  with pytest.raises(ConfigError, match=expected):
    attacks.check_edit(MODEL, "logit_lens", {}, [layer])


def test_who_reads_is_said():
  edits = [name for name in attacks.EDITS if attacks.EDITS.get(name).is_reading]
  trained = [n for n in attacks.REGISTRY if attacks.REGISTRY.get(n).is_reading]
  assert (edits, trained) == (["logit_lens"], ["probe"])
