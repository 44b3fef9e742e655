"""What the dimension stands for and what is added to it, by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.gradient_routing import steering as config_file
from experiments.gradient_routing.steering import measures
from experiments.gradient_routing.steering.config import Config
from experiments.gradient_routing.stories import corpus
from experiments.shared import typed
from tests import minimal
from undo_jax.models.decoder import Decoder, Output

CONFIG = typed.read(Config, config_file.get_config("tiny"))
MODEL = dataclasses.replace(CONFIG.model, num_layers=3)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def params():
  return jax.device_put(minimal.params(MODEL))


def test_steering_adds_a_constant_to_the_residual_stream(params):
  tokens = jnp.array([[2, 5, 6]])
  apply = jax.jit(lambda p: Decoder(MODEL).apply(p, tokens, capture=(1,)).captured[1])
  added = apply(measures.steered(params, 0, 3, 2.5)) - apply(params)
  expected = np.zeros(MODEL.width)
  expected[3] = 2.5
  np.testing.assert_allclose(added, np.broadcast_to(expected, added.shape), atol=1e-6)


def test_the_unit_is_the_root_mean_square_of_what_counts():
  hidden = np.random.default_rng(0).standard_normal((2, 3, 4))

  def apply(params, tokens, capture):
    del params, tokens
    return Output(jnp.zeros(()), dict.fromkeys(capture, jnp.asarray(hidden)))

  mask = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
  got = measures.stream_size(apply, 1)({}, {"inputs": None, "mask": mask})
  expected = sum((hidden[b, t] ** 2).mean() ** 0.5 for b, t in ((0, 0), (0, 1), (1, 0)))
  np.testing.assert_allclose(got, expected / 3, rtol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_the_projection_ranks_by_the_share_of_the_unembedding(tied):
  """By hand: rows (x, 1) have the share x / sqrt(x^2 + 1)."""
  tokenizer = corpus.make_tokenizer(CONFIG.data.tokenizer)
  names = (" forest", " log", " fox", " shell", " crab", " Tom")
  forest, log, fox, shell, crab, unseen = (tokenizer.encode(name)[0] for name in names)
  x_V = np.full(CONFIG.model.vocab_size, 0.0)
  x_V[[forest, log, fox, shell, crab, unseen]] = [-3.0, -5.0, 1.0, -1.0, 2.0, -9.0]
  seen_V = np.zeros(CONFIG.model.vocab_size, bool)
  seen_V[[forest, log, fox, shell, crab]] = True
  rows = np.stack([x_V, np.ones_like(x_V)], axis=1)
  model = dataclasses.replace(CONFIG.model, tied=tied)
  config = dataclasses.replace(CONFIG, model=model)
  other = {"embedding": rows[::-1], "head": {"kernel": rows.T}}
  shown, sign = measures.projection(
    config, {"embedding": rows} if tied else other, seen_V
  )
  assert sign == -1.0
  assert [token for token, _ in shown["nearest"]] == [
    " log",
    " forest",
    " shell",
    " fox",
    " crab",
  ]
  assert shown["rank"] == 2
  np.testing.assert_allclose(shown["score"], 3 / 10**0.5)
  np.testing.assert_allclose(shown["nearest"][3][1], -1 / 2**0.5)
  # Of the pairs log > shell, log > crab, fox < shell, fox > crab.
  assert shown["auc"] == 0.75
