"""The steering scalar: what its route does, what is added, what is measured."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import routing_steering
from experiments.routing_steering import run
from undo_jax.data import tokenizers
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder, Output
from undo_jax.studies.steering import study
from undo_jax.utils.types import ConfigError

CONFIG = routing_steering.get_config("tiny")
MODEL = dataclasses.replace(ModelConfig(**CONFIG.model), num_layers=3)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def params():
  return jax.jit(Decoder(MODEL).init)(KEY)


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
    objective = study.routed_by_target(
      Decoder(MODEL).apply, MODEL, layers=(0, 1), dimension=3, weight=weight
    )

    def loss(params):
      frozen = {"chosen_V": chosen_V}
      return objective(params, frozen, {**batch, "mask": mask}, KEY)[0].mean()

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


def test_steering_adds_a_constant_to_the_residual_stream(params):
  tokens = jnp.array([[2, 5, 6]])
  apply = jax.jit(lambda p: Decoder(MODEL).apply(p, tokens, capture=(1,)).captured[1])
  added = apply(study.steered(params, 0, 3, 2.5)) - apply(params)
  expected = np.zeros(MODEL.width)
  expected[3] = 2.5
  np.testing.assert_allclose(added, np.broadcast_to(expected, added.shape), atol=1e-6)


def test_the_unit_is_the_root_mean_square_of_what_counts():
  hidden = np.random.default_rng(0).standard_normal((2, 3, 4))

  def apply(params, tokens, capture):
    del params, tokens
    return Output(jnp.zeros(()), dict.fromkeys(capture, jnp.asarray(hidden)))

  mask = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
  got = study.stream_size(apply, 1)({}, {"inputs": None, "mask": mask})
  expected = sum((hidden[b, t] ** 2).mean() ** 0.5 for b, t in ((0, 0), (0, 1), (1, 0)))
  np.testing.assert_allclose(got, expected / 3, rtol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_the_projection_ranks_by_the_share_of_the_unembedding(tied):
  """By hand: rows (x, 1) have the share x / sqrt(x^2 + 1)."""
  tokenizer = tokenizers.make(CONFIG.data.tokenizer)
  names = (" forest", " log", " fox", " shell", " crab", " Tom")
  forest, log, fox, shell, crab, unseen = (tokenizer.encode(name)[0] for name in names)
  x_V = np.full(CONFIG.model.vocab_size, 0.0)
  x_V[[forest, log, fox, shell, crab, unseen]] = [-3.0, -5.0, 1.0, -1.0, 2.0, -9.0]
  seen_V = np.zeros(CONFIG.model.vocab_size, bool)
  seen_V[[forest, log, fox, shell, crab]] = True
  rows = np.stack([x_V, np.ones_like(x_V)], axis=1)
  config = CONFIG.copy_and_resolve_references()
  config.model.tied = tied
  other = {"embedding": rows[::-1], "head": {"kernel": rows.T}}
  found, sign = study.projection(config, {"embedding": rows} if tied else other, seen_V)
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
