"""Tests of compute accounting against the traced and the compiled model."""

import functools
import itertools

import jax
import jax.numpy as jnp
import pytest

from undo_jax import objectives, testing
from undo_jax.frontier.compute import Compute, training
from undo_jax.hardware.flops import count, forward_flops
from undo_jax.models.gemma2 import Gemma2
from undo_jax.models.presets import PRESETS
from undo_jax.objectives.routed import Routing

CONFIGS = {
  "one layer": testing.config(num_layers=1, num_kv_heads=4, vocab_size=48),
  "wide heads": testing.config(num_layers=3, width=24, num_heads=2, head_dim=20),
  "0.1b": PRESETS["gemma2_0.1b"],
}


@functools.cache
def weights(config):
  return jax.eval_shape(Gemma2(config).init, jax.random.key(0))


def abstract(config, batch_size, length):
  tokens = jax.ShapeDtypeStruct((batch_size, length), jnp.int32)
  mask = jax.ShapeDtypeStruct((batch_size, length), jnp.float32)
  return weights(config), {"inputs": tokens, "targets": tokens, "mask": mask}


def logits(config, params, tokens):
  return Gemma2(config).apply(params, tokens).logits


@pytest.mark.parametrize(
  ("name", "length"), [*((name, 12) for name in CONFIGS), ("wide heads", 1)]
)
def test_forward_flops_are_those_of_all_matrix_products(name, length):
  config = CONFIGS[name]
  params, batch = abstract(config, 1, length)
  jaxpr = jax.make_jaxpr(functools.partial(logits, config))(params, batch["inputs"])
  assert forward_flops(config, length) == count(jaxpr).flops


OPTIONS = {
  "cross_entropy": {},
  "forward_kl": {},
  "forward_kl, mixed": {"base_share": 0.5},
  "forward_kl, prompted": {"prompt": (5, 3, 4), "base_share": 0.5},
  "grad_diff": {"retain_weight": 1.0},
  "max_ent": {"retain_weight": 1.0},
  "max_ent, kl": {"retain_weight": 1.0, "retain_loss": "kl"},
  "invariant": {"around": "grad_diff", "retain_weight": 1.0},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_training_flops_are_those_of_all_matrix_products(name):
  config, rows, length = testing.config(), 3, 12
  params, part = abstract(config, rows, length)
  name, options = name.split(",")[0], OPTIONS[name]
  method = objectives.method(name, options)
  batch = part if method.trains == ("batch",) else dict.fromkeys(method.trains, part)
  objective = objectives.make(name, Gemma2(config).apply, **options)

  def loss(params, other, batch):
    frozen = dict.fromkeys(("teacher", "base", "reference"), other)
    return objective(params, frozen, batch, None)[0].mean()

  jaxpr = jax.make_jaxpr(jax.grad(loss))(params, params, batch)
  cost = training(config, method, updates=5, batch_size=rows, length=length)
  assert cost.flops == 5 * count(jaxpr).flops
  assert cost.updates == 5
  assert cost.tokens == 5 * rows * length * len(method.trains)
  twice = training(
    config, method, updates=5, batch_size=rows, length=length, gradients=2
  )
  assert twice == Compute(5, 2 * cost.tokens, 2 * cost.flops)


ROUTED = {
  "routed": {"coherence_weight": 0.2},
  "routed, alone": {},
  "routed_forward_kl": {"coherence_weight": 0.2},
  "sgtm": {},
  "sgtm_forward_kl": {},
}


@pytest.mark.parametrize("name", ROUTED)
def test_routed_flops_are_those_of_all_matrix_products(name):
  config, rows, length = testing.config(), 6, 12
  params, batch = abstract(config, rows, length)
  name, options = name.split(",")[0], ROUTED[name]
  routing = Routing(config, mlp_units=8, kv_heads=1)
  objective = objectives.make(name, Gemma2(config).apply, routing=routing, **options)
  if name.startswith("sgtm"):  # Its parts are the rows of one batch.
    parts = {"forget": 1, "retain": 2, "unlabelled": 3}
    batch = {part: abstract(config, size, length)[1] for part, size in parts.items()}
  else:
    batch["source"] = jax.ShapeDtypeStruct((rows,), jnp.int32)

  def loss(params, teacher, batch):
    return objective(params, {"teacher": teacher}, batch, None)[0].mean()

  method = objectives.method(name, options)
  trained = dict.fromkeys(batch, params) if method.gradient_masks else params
  jaxpr = jax.make_jaxpr(jax.grad(loss))(trained, params, batch)
  cost = training(config, method, updates=1, batch_size=rows, length=length)
  assert cost.flops == count(jaxpr).flops


def test_representation_noise_also_unembeds_every_hidden_state():
  config, rows, length = testing.config(num_layers=3), 2, 12
  options = {"retain_weight": 1.0, "alpha": 1.0, "beta": 1.0}
  noise = objectives.method("max_ent_rep_noise", options)
  plain = objectives.method("max_ent", {"retain_weight": 1.0})
  with_lens, without = (
    training(config, method, updates=7, batch_size=rows, length=length)
    for method in (noise, plain)
  )
  # Four hidden states, each with a product forward and two backward.
  lens = 3 * 4 * 2 * length * config.vocab_size * config.width
  assert with_lens.flops == without.flops + 7 * rows * lens
  assert with_lens.tokens == without.tokens


def test_the_compiler_counts_the_same_flops():
  # It counts elementwise work too: some tens of operations an entry of the
  # activations, where the products take twice the width of the matrix, 256 and
  # more; so a few percent of the whole.
  config = testing.config(
    num_layers=2,
    width=128,
    head_dim=32,
    mlp_width=512,
    vocab_size=512,
    scan_unroll=2,  # The compiler counts the body of a loop once.
  )
  length = 32
  params, batch = abstract(config, 1, length)
  objective = objectives.make("cross_entropy", Gemma2(config).apply)

  def loss(params):
    return objective(params, None, batch_of_zeros(batch), None)[0].mean()

  counted = jax.jit(jax.grad(loss)).lower(params).compile().cost_analysis()["flops"]
  assert 1.0 <= counted / (3 * forward_flops(config, length)) < 1.05


def batch_of_zeros(shapes):
  return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)


COSTS = [Compute(1, 20, 300), Compute(4, 50, 6000), Compute(7, 0, 1)]


def test_costs_add_up_along_a_lineage():
  for one, two in itertools.product(COSTS, repeat=2):
    assert one + two == Compute(
      one.updates + two.updates, one.tokens + two.tokens, one.flops + two.flops
    )
  assert sum(COSTS, Compute()) == Compute(12, 70, 6301)


def test_flops_are_exact_integers_beyond_float64():
  cost = training(
    PRESETS["gemma2_2b"],
    objectives.method("cross_entropy", {}),
    updates=10**6 + 1,
    batch_size=1024,
    length=2048,
  )
  assert isinstance(cost.flops, int)
  one_row = forward_flops(PRESETS["gemma2_2b"], 2048)
  assert cost.flops == 3 * 1024 * (10**6 + 1) * one_row
  assert cost.flops > 2**53
