"""The routed objective: which gradient goes where."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.gradient_routing import steering as config_file
from experiments.gradient_routing.steering import objective
from experiments.gradient_routing.steering.config import Config, Routing
from experiments.shared import typed
from tests import minimal
from undo_jax.models.decoder import Decoder

CONFIG = typed.read(Config, config_file.get_config("tiny"))
MODEL = dataclasses.replace(CONFIG.model, num_layers=3)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def params():
  return minimal.params(MODEL)


def test_only_the_dimension_learns_from_the_token(params):
  """One position alone, so that no other hands the gradient on by attention."""
  batch = {
    "inputs": jnp.array([[5], [6]]),
    "targets": jnp.array([[9], [7]]),
    "mask": jnp.ones((2, 1)),
  }
  chosen_V = jnp.zeros(MODEL.vocab_size, bool).at[9].set(True)

  @jax.jit
  def grads(mask, chosen_V, weight):
    routing = Routing(word="", layers=(0, 1), dimension=3, weight=weight)
    routed = objective.make(Decoder(MODEL).apply, MODEL, routing)

    def loss(params):
      frozen = {"chosen_V": chosen_V}
      return routed(params, frozen, {**batch, "mask": mask}, KEY)[0].mean()

    return jax.grad(loss)(params)["layers"]["mlp"]["down"]["bias"]

  token, other = jnp.array([[1.0], [0.0]]), jnp.array([[0.0], [1.0]])
  of_token, plain = grads(token, chosen_V, 4.0), grads(token, chosen_V, 1.0)
  of_other = grads(other, chosen_V, 4.0)
  unrouted = grads(token, jnp.zeros_like(chosen_V), 4.0)
  # Layers 0 and 1 are routed, layer 2 comes after them.
  for layer in (0, 1):
    np.testing.assert_array_equal(np.flatnonzero(of_token[layer]), [3])
  np.testing.assert_allclose(of_token[2], unrouted[2], rtol=1e-5)
  np.testing.assert_allclose(of_token[1, 3], 4.0 * unrouted[1, 3], rtol=1e-5)
  # The weight counts once on the way through both.
  np.testing.assert_allclose(of_token[:2], 4.0 * plain[:2], rtol=1e-5)
  assert np.all(np.asarray(of_other) != 0)
