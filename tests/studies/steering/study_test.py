"""The steering scalar: what its route does, what is added, what is measured."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import routing_steering
from experiments.routing_steering import run
from undo_jax.data import tokenizers
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder
from undo_jax.studies.steering import study
from undo_jax.types import ConfigError

CONFIG = routing_steering.get_config("tiny")
MODEL = ModelConfig(**CONFIG.model)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def params():
  return jax.jit(Decoder(MODEL).init)(KEY)


def test_only_the_dimension_learns_from_the_token(params):
  """One position alone, so that no other hands the gradient on by attention."""
  objective = study.routed_by_target(
    Decoder(MODEL).apply,
    MODEL,
    layers=(0,),
    dimension=3,
    word_weight=4.0,
    others_weight=0.5,
  )
  batch = {
    "inputs": jnp.array([[5], [6]]),
    "targets": jnp.array([[9], [7]]),
    "mask": jnp.ones((2, 1)),
  }
  chosen_V = jnp.zeros(MODEL.vocab_size, bool).at[9].set(True)

  @jax.jit
  def grads(mask, routed):
    def loss(params):
      frozen = {"chosen_V": chosen_V, "routed": routed}
      return objective(params, frozen, {**batch, "mask": mask}, KEY)[0].mean()

    return jax.grad(loss)(params)["layers"]["mlp"]["down"]["bias"]

  token, other = jnp.array([[1.0], [0.0]]), jnp.array([[0.0], [1.0]])
  of_token, of_other = grads(token, True), grads(other, True)
  control_token, control_other = grads(token, False), grads(other, False)
  # Layer 0 is routed, layer 1 comes after it.
  np.testing.assert_array_equal(np.flatnonzero(of_token[0]), [3])
  np.testing.assert_allclose(of_token[0, 3], 4.0 * control_token[0, 3], rtol=1e-5)
  np.testing.assert_allclose(of_token[1], control_token[1], rtol=1e-5)
  expected = np.array(control_other[0])
  expected[3] *= 0.5
  np.testing.assert_allclose(of_other[0], expected, rtol=1e-5)
  assert np.all(np.asarray(control_token) != 0) and np.all(expected != 0)


def test_steering_adds_a_constant_to_the_residual_stream(params):
  tokens = jnp.array([[2, 5, 6]])
  apply = jax.jit(lambda p: Decoder(MODEL).apply(p, tokens, capture=(1,)).captured[1])
  added = apply(study.steered(params, 0, 3, 2.5)) - apply(params)
  expected = np.zeros(MODEL.width)
  expected[3] = 2.5
  np.testing.assert_allclose(added, np.broadcast_to(expected, added.shape), atol=1e-6)


def test_the_projection_ranks_by_the_share_of_the_unembedding():
  """By hand: rows (x, 1) have the share x / sqrt(x^2 + 1)."""
  tokenizer = tokenizers.make(CONFIG.data.tokenizer)
  names = (" forest", " log", " fox", " shell", " crab", " Tom")
  forest, log, fox, shell, crab, unseen = (tokenizer.encode(name)[0] for name in names)
  x_V = np.full(CONFIG.model.vocab_size, 0.0)
  x_V[[forest, log, fox, shell, crab, unseen]] = [-3.0, -5.0, 1.0, -1.0, 2.0, -9.0]
  seen_V = np.zeros(CONFIG.model.vocab_size, bool)
  seen_V[[forest, log, fox, shell, crab]] = True
  embedding = np.stack([x_V, np.ones_like(x_V)], axis=1)
  found, sign = study.projection(CONFIG, {"embedding": embedding}, seen_V)
  assert sign == -1.0
  assert [token for token, _ in found["nearest"]] == [
    " log",
    " forest",
    " shell",
    " fox",
    " crab",
  ]
  assert found["rank"] == 2
  np.testing.assert_allclose(found["score"], 3 / 10**0.5)
  np.testing.assert_allclose(found["nearest"][3][1], -1 / 2**0.5)
  # Of the pairs log > shell, log > crab, fox < shell, fox > crab.
  assert found["auc"] == 0.75


def test_tiny_ends_in_results_and_figures_and_resumes(tmp_path, monkeypatch):
  run(CONFIG, tmp_path)
  results = json.loads((tmp_path / "results.json").read_text())
  for name in study.MODELS:
    found = results["models"][name]["0"]
    assert list(found["steering"]) == ["0", "5"]
    assert all(0 <= x["word"] <= 1 for x in found["steering"].values())
    assert 1 <= found["rank"] <= CONFIG.model.vocab_size
  routed, control = (results["models"][name]["0"] for name in study.MODELS)
  assert routed["losses"] != control["losses"]
  for name in ("projection", "steering"):
    png = (tmp_path / f"figures/{name}.png").read_bytes()
    assert png.startswith(b"\x89PNG")
  monkeypatch.setattr(study, "run_seed", None)
  run(CONFIG, tmp_path)


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("routing.word", "xyz", "config.routing.word: expected a word that"),
    ("routing.layers", (9,), "config.routing.layers: expected layers in"),
    ("routing.dimension", 16, "config.routing.dimension: expected an index below 16"),
    ("steering.layer", 2, "config.steering.layer: expected a layer below 2"),
    ("steering.strengths", (5.0,), "config.steering.strengths: .* one of them 0"),
    ("steering.strengths", (0.0, "a"), "config.steering.strengths: .* one number"),
    ("model.mlp_bias", False, "config.model.mlp_bias: expected True"),
  ],
)
def test_a_wrong_field_is_named_before_compute(tmp_path, field, value, message):
  config = routing_steering.get_config("tiny")
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ConfigError, match=message):
    run(config, tmp_path)
  assert not list(tmp_path.iterdir())
