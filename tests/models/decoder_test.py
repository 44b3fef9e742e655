"""Tests of the decoder against its definition in numpy."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from undo_jax import testing
from undo_jax.models.config import num_params
from undo_jax.models.decoder import NODES, Decoder, partition_rules, shapes
from undo_jax.models.presets import PRESETS
from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.utils import trees

B, L = 3, 7


def draw_params(config, seed: int = 0):
  """Draw parameters at which every part of the model matters.

  Fresh ones would hide much: their scores are near zero (no softcap, no scale
  seen) and their norms' scales zero.
  """
  rng = np.random.default_rng(seed)

  def draw(path, shape):
    std = 0.5 if path.endswith("scale") else 1.5 / math.sqrt(shape.shape[-2])
    std = 1.0 if path == "embedding" else std
    return (std * rng.standard_normal(shape.shape)).astype(np.float32)

  return trees.map_with_path(draw, shapes(config))


def draw_tokens(config, seed: int = 1, shape=(B, L)):
  rng = np.random.default_rng(seed)
  return rng.integers(0, config.vocab_size, shape).astype(np.int32)


def reference(config, params, tokens, mlps=None):
  """Compute logits and hidden states in float64, one head and row at a time.

  What the MLPs' units and the MLPs put out is appended to `mlps`, row by row for each
  layer a pair ([L, F], [L, D]).
  """
  c = config
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)

  def norm(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + c.norm_epsilon) * (1 + scale)

  def softcap(x, cap):
    return x if cap is None else cap * np.tanh(x / cap)

  def gelu_tanh(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

  def rotate(x):  # [L, K]; pairs (j, j + K/2) turn by t * theta^(-2j/K).
    half = c.head_dim // 2
    y = np.empty_like(x)
    for t in range(len(x)):
      for j in range(half):
        angle = t * c.rope_theta ** (-2 * j / c.head_dim)
        cos, sin = np.cos(angle), np.sin(angle)
        y[t, j] = x[t, j] * cos - x[t, j + half] * sin
        y[t, j + half] = x[t, j + half] * cos + x[t, j] * sin
    return y

  def attention(x, weights, n):
    q, k, v = (x @ weights[name]["kernel"][n] for name in ("query", "key", "value"))
    K, heads = c.head_dim, []
    for h in range(c.num_heads):
      g = h // (c.num_heads // c.num_kv_heads)
      q_h = rotate(q[:, h * K : (h + 1) * K]) / math.sqrt(c.query_pre_attn_scalar)
      k_g, v_g = rotate(k[:, g * K : (g + 1) * K]), v[:, g * K : (g + 1) * K]
      scores = softcap(q_h @ k_g.T, c.attention_softcap)
      head = np.zeros_like(v_g)
      for t in range(len(x)):
        first = max(0, t - c.sliding_window + 1) if n % 2 == 0 else 0
        e = np.exp(scores[t, first : t + 1] - scores[t, first : t + 1].max())
        head[t] = e / e.sum() @ v_g[first : t + 1]
      heads.append(head)
    return np.concatenate(heads, -1) @ weights["out"]["kernel"][n]

  def mlp(x, weights, n):
    gate, up, down = (weights[name]["kernel"][n] for name in ("gate", "up", "down"))
    units = gelu_tanh(x @ gate) * (x @ up)
    return units, units @ down

  logits, hidden = [], []
  layers = p["layers"]
  for row in np.asarray(tokens):
    x = p["embedding"][row] * math.sqrt(c.width)
    states, pairs = [x], []
    for n in range(c.num_layers):
      scale = {
        name: layers[name]["scale"][n] for name in layers if name.endswith("_norm")
      }
      y = attention(norm(x, scale["pre_attention_norm"]), layers["attention"], n)
      x = x + norm(y, scale["post_attention_norm"])
      pairs.append(mlp(norm(x, scale["pre_mlp_norm"]), layers["mlp"], n))
      y = pairs[-1][1]
      x = x + norm(y, scale["post_mlp_norm"])
      states.append(x)
    hidden.append(states)
    if mlps is not None:
      mlps.append(pairs)
    x = norm(x, p["final_norm"]["scale"])
    logits.append(softcap(x @ p["embedding"].T, c.logit_softcap))
  return np.array(logits), np.array(hidden).swapaxes(0, 1)


REFERENCE_CONFIGS = {
  "grouped": testing.config(attention_softcap=2.0, logit_softcap=5.0),
  "one head each, window 3, odd layers": testing.config(
    num_layers=3,
    width=20,
    num_heads=3,
    num_kv_heads=3,
    head_dim=4,
    vocab_size=11,
    sliding_window=3,
    logit_softcap=3.0,
  ),
  "one key head, window 1, one layer, no softcaps": testing.config(
    num_layers=1,
    num_kv_heads=1,
    sliding_window=1,
    attention_softcap=None,
    logit_softcap=None,
  ),
  "three queries a key, window 5, other constants": testing.config(
    num_layers=4,
    width=12,
    num_heads=6,
    num_kv_heads=2,
    head_dim=10,
    mlp_width=18,
    sliding_window=5,
    attention_softcap=1.0,
    logit_softcap=None,
    rope_theta=50.0,
    norm_epsilon=0.1,
    query_pre_attn_scalar=3.0,
  ),
  "window as long as the row": testing.config(
    sliding_window=L, attention_softcap=None, logit_softcap=8.0
  ),
}


def assert_close_to(got, expected):
  error = np.abs(np.asarray(got, np.float64) - expected).max()
  assert error <= 1e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.optimized
@pytest.mark.parametrize("name", REFERENCE_CONFIGS)
def test_logits_and_hidden_states_are_those_of_the_definition(name):
  config = REFERENCE_CONFIGS[name]
  params, tokens = draw_params(config), draw_tokens(config)
  capture = tuple(range(config.num_layers + 1))
  apply = jax.jit(functools.partial(Decoder(config).apply, capture=capture))
  got = apply(params, tokens)
  logits, hidden = reference(config, params, tokens)
  assert got.logits.dtype == jnp.float32
  assert set(got.captured) == set(capture)
  assert_close_to(got.logits, logits)
  for k in capture:
    assert_close_to(got.captured[k], hidden[k])


def test_presets_have_the_published_numbers_of_parameters():
  for name, total in {
    "gemma2_0.1b": 112_904_000,
    "gemma2_0.3b": 328_772_352,
    "gemma2_0.6b": 601_957_376,
    "gemma2_0.9b": 933_346_560,
    "gemma2_2b": 2_614_341_888,
  }.items():
    assert num_params(PRESETS[name]) == total
  leaves = jax.tree.leaves(shapes(PRESETS["gemma2_2b"]))
  assert sum(math.prod(leaf.shape) for leaf in leaves) == total


@pytest.fixture(scope="module")
def fresh():
  config = testing.config(width=32, mlp_width=64, vocab_size=64, init_std=0.05)
  return config, jax.device_get(jax.jit(Decoder(config).init)(jax.random.key(0)))


def test_fresh_norms_are_zero_and_matrices_normal(fresh):
  config, params = fresh
  for path, leaf in zip(trees.paths(params), jax.tree.leaves(params), strict=True):
    assert leaf.dtype == jnp.float32
    if path.endswith("scale"):
      assert not np.any(leaf), path
    else:
      # Standard error of the standard deviation of n normal draws: 1/sqrt(2n).
      n = leaf.size
      assert abs(np.std(leaf) / config.init_std - 1) < 5 / math.sqrt(2 * n), path
      assert abs(np.mean(leaf)) < 5 * config.init_std / math.sqrt(n), path


def test_fresh_layers_differ(fresh):
  kernel = np.asarray(fresh[1]["layers"]["mlp"]["gate"]["kernel"])
  assert np.mean(kernel[0] == kernel[1]) < 0.01


def test_every_parameter_has_a_partition_rule(fresh):
  # Without a default the matcher fails on a parameter without a rule.
  specs = trees.match(fresh[1], partition_rules(fresh[0]))
  assert specs["layers"]["mlp"]["down"]["kernel"] == (None, "tensor", "fsdp")


BASE = testing.config(num_layers=3, sliding_window=3, logit_softcap=5.0)
TOKENS = draw_tokens(BASE)
ONES = np.ones(B, np.float32)


def ones(name):
  """Return a mask of ones for a node."""
  if name == "attention/heads":
    return np.ones((3, B, 1, BASE.num_heads, BASE.head_dim), np.float32)
  width = BASE.mlp_width if name == "mlp/hidden" else BASE.width
  return np.ones((3, B, 1, width), np.float32)


def loss_of(config, params, routes, weights_B):
  output = Decoder(config).apply(params, TOKENS, routes=routes)
  mask_BxL = jnp.broadcast_to(weights_B[:, None], (B, L))
  return cross_entropy(output.logits, TOKENS, mask_BxL).sum


def compiled(config):
  return jax.jit(jax.value_and_grad(functools.partial(loss_of, config)))


@pytest.fixture(scope="module")
def base():
  params = draw_params(BASE)
  return params, *jax.device_get(compiled(BASE)(params, {}, ONES))


@pytest.fixture(scope="module")
def routed(base):
  """Los and gradients with every node routed, compiled once; masks default to 1."""
  fn = compiled(BASE)

  def run(weights_B=ONES, **masks):
    every = {name: ones(name) for name in NODES}
    return jax.device_get(fn(base[0], every | masks, weights_B))

  return run


def assert_close(got, expected):
  """Compare trees to float32 accuracy of the largest entry of each leaf."""
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=3e-6 * np.abs(y).max()),
    got,
    expected,
  )


@pytest.mark.parametrize("policy", ["dots", "full"])
def test_recomputing_is_really_done(policy):
  config = dataclasses.replace(BASE, remat=policy)
  jaxpr = jax.make_jaxpr(functools.partial(loss_of, config))(shapes(BASE), {}, ONES)
  assert "remat" in str(jaxpr) or "checkpoint" in str(jaxpr)


def test_unrolling_and_recomputing_change_no_result(base):
  """All is recomputed by the eight devices of routes_test.py."""
  params, loss, grads = base
  # Two does not divide the three layers.
  config = dataclasses.replace(BASE, remat="dots", scan_unroll=2)
  got = compiled(config)(params, {}, ONES)
  assert_close(got, (loss, grads))


def test_a_position_depends_on_those_before_it_alone():
  config = testing.config(sliding_window=3)
  params = draw_params(config)
  # All tokens differ, so that the embedding's rows stand for the positions.
  tokens = np.arange(L, dtype=np.int32)[None]
  probe = np.random.default_rng(5).standard_normal(16).astype(np.float32)

  def hidden(embedding):
    # Hidden states do not go through the unembedding, which is the same matrix.
    changed = params | {"embedding": embedding}
    captured = Decoder(config).apply(changed, tokens, capture=(1, 2)).captured
    return jnp.stack([captured[1][0] @ probe, captured[2][0] @ probe])

  jacobian = jax.jit(jax.jacrev(hidden))(params["embedding"])
  reached = np.abs(np.asarray(jacobian)).max(-1)[:, :, :L] > 0
  causal = np.tri(L, dtype=bool)
  # Layer 0 looks three positions back, layer 1 everywhere.
  np.testing.assert_array_equal(reached[0], causal & ~np.tri(L, k=-3, dtype=bool))
  np.testing.assert_array_equal(reached[1], causal)


def test_logits_are_bounded_by_the_softcap():
  cap = 5.0
  config = testing.config(num_layers=1, logit_softcap=cap)
  params = jax.tree.map(lambda x: 10 * x, draw_params(config))
  free, _ = reference(
    dataclasses.replace(config, logit_softcap=None), params, TOKENS[:1]
  )
  assert np.abs(free).max() > 10 * cap
  logits = jax.jit(Decoder(config).apply)(params, TOKENS[:1]).logits
  assert 0.999 * cap < np.abs(logits).max() <= cap


def test_bfloat16_compute_stays_close_and_parameters_float32(base):
  params = base[0]
  model = Decoder(dataclasses.replace(BASE, dtype="bfloat16"))

  def loss(params):
    return jnp.sum(model.apply(params, TOKENS).logits ** 2)

  low = jax.jit(functools.partial(model.apply, capture=(3,)))(params, TOKENS)
  for tree in (shapes(model.config), jax.eval_shape(jax.grad(loss), params)):
    assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype("float32")}
  assert low.logits.dtype == jnp.float32
  assert low.captured[3].dtype == jnp.bfloat16
  logits, hidden = reference(BASE, params, TOKENS)
  # Three layers of some ten roundings by up to 2^-9 each: sqrt(30) * 2^-9 ~ 1 %.
  for got, expected in ((low.logits, logits), (low.captured[3], hidden[3])):
    difference = np.asarray(got, np.float64) - expected
    error = np.sqrt(np.mean(difference**2) / np.mean(expected**2))
    assert 1e-3 < error < 0.03


@pytest.mark.parametrize("capture", [(0,), (3, 0)])
def test_only_what_was_asked_for_is_captured(capture):
  apply = functools.partial(Decoder(BASE).apply, capture=capture)
  captured = jax.eval_shape(apply, shapes(BASE), TOKENS).captured
  assert {k: state.shape for k, state in captured.items()} == dict.fromkeys(
    capture, (B, L, BASE.width)
  )


@pytest.mark.parametrize(
  "capture", [("mlp/hidden", "final_norm"), ("mlp/out",), ("residual", "embedding")]
)
def test_what_is_captured_by_name_comes_alone(capture):
  apply = functools.partial(Decoder(BASE).apply, capture=capture)
  captured = jax.eval_shape(apply, shapes(BASE), TOKENS).captured
  expected = dict.fromkeys(("embedding", "final_norm"), (B, L, BASE.width))
  expected |= dict.fromkeys(("mlp/out", "residual"), (3, B, L, BASE.width))
  expected["mlp/hidden"] = (3, B, L, BASE.mlp_width)
  assert {k: state.shape for k, state in captured.items()} == {
    k: expected[k] for k in capture
  }


def final_norm(params, hidden):
  root = np.sqrt((hidden**2).mean(-1, keepdims=True) + BASE.norm_epsilon)
  return hidden / root * (1 + np.asarray(params["final_norm"]["scale"], np.float64))


def test_captures_by_name_are_those_of_the_definition():
  params = draw_params(BASE)
  capture = ("embedding", "mlp/hidden", "mlp/out", "residual", "final_norm")
  got = jax.jit(functools.partial(Decoder(BASE).apply, capture=capture))(params, TOKENS)
  mlps = []
  _, hidden = reference(BASE, params, TOKENS, mlps)
  for index, name in enumerate(("mlp/hidden", "mlp/out")):
    expected = np.array([[pair[index] for pair in pairs] for pairs in mlps])
    assert_close_to(got.captured[name], expected.swapaxes(0, 1))
  assert_close_to(got.captured["embedding"], hidden[0])
  assert_close_to(got.captured["residual"], hidden[1:])
  assert_close_to(got.captured["final_norm"], final_norm(params, hidden[-1]))


OTHER = draw_tokens(BASE, seed=5)


def test_layers_read_the_given_inputs_apart_from_each_other():
  params, apply = draw_params(BASE), Decoder(BASE).apply
  _, hidden = reference(BASE, params, OTHER)
  inputs = hidden[:-1].astype(np.float32)

  @jax.jit
  @functools.partial(jax.grad, has_aux=True)
  def of_second(params, inputs):
    """Return gradients of the second layer's output, and what was captured."""
    got = apply(
      params, TOKENS, capture=("residual", "final_norm"), layer_inputs_NxBxLxD=inputs
    ).captured
    return got["residual"][1].sum(), (got["residual"], got["final_norm"])

  # Fed with the states of other tokens, each layer goes one step on from them.
  grads, (got, normed) = jax.device_get(of_second(params, inputs))
  assert_close_to(got, hidden[1:])
  assert_close_to(normed, final_norm(params, hidden[-1]))
  inputs[1] += 1.0
  changed = np.asarray(of_second(params, inputs)[1][0]) != got
  assert [bool(changed[n].any()) for n in range(3)] == [False, True, False]
  for leaf in jax.tree.leaves(grads["layers"]):
    assert [bool(np.any(leaf[n])) for n in range(3)] == [False, True, False]


def test_what_is_added_to_hidden_states_is_there_and_in_all_that_follows():
  params, apply = draw_params(BASE), Decoder(BASE).apply
  rng = np.random.default_rng(0)
  added = {
    k: np.float32(rng.standard_normal((*TOKENS.shape, BASE.width))) for k in (0, 2)
  }

  @jax.jit
  def states(added, inputs=None):
    capture = ("embedding", "residual")
    given = {"added": added} if inputs is None else {"layer_inputs_NxBxLxD": inputs}
    got = apply(params, TOKENS, capture=capture, **given).captured
    return jnp.concatenate([got["embedding"][None], got["residual"]])

  pushed, plain = states(added), states({})
  assert_close_to(pushed[0], plain[0] + added[0])
  # One layer at a time, from what the one before it gave when it was pushed.
  alone = states({}, pushed[:-1])[1:]
  assert_close_to(pushed[1], alone[0])
  assert_close_to(pushed[2], alone[1] + added[2])
  assert_close_to(pushed[3], alone[2])


def test_the_gradient_of_what_is_added_is_that_of_finite_differences():
  params, apply = draw_params(BASE), Decoder(BASE).apply
  rng = np.random.default_rng(1)
  shape = (*TOKENS.shape, BASE.width)
  direction = np.float32(rng.standard_normal(shape))

  @jax.jit
  def loss(push):
    return jnp.mean(apply(params, TOKENS, added={1: push}).logits ** 2)

  got = float(jnp.sum(jax.grad(loss)(jnp.zeros(shape)) * direction))
  step = 1e-2
  expected = (loss(step * direction) - loss(-step * direction)) / (2 * step)
  np.testing.assert_allclose(got, expected, rtol=1e-2)


def test_the_logits_of_given_hidden_states_are_those_of_the_tokens_they_came_from():
  """Of a head of its own; that of the embedding is compared below."""
  config = dataclasses.replace(BASE, tied=False)
  params, apply = draw_params(config), jax.jit(Decoder(config).apply)
  last = jax.jit(functools.partial(Decoder(config).apply, capture=(3,)))(params, OTHER)
  got = apply(params, TOKENS, hidden_BxLxD=last.captured[3])
  np.testing.assert_allclose(got.logits, last.logits, rtol=0, atol=1e-5)
  assert got.captured == {}


def test_the_lens_reads_hidden_states_as_the_definition_does():
  params = draw_params(BASE)
  _, hidden = reference(BASE, params, TOKENS)
  got = jax.jit(Decoder(BASE).apply)(
    params, TOKENS, hidden_BxLxD=hidden[1].astype(np.float32)
  )
  logits = final_norm(params, hidden[1]) @ np.asarray(params["embedding"], np.float64).T
  assert_close_to(got.logits, BASE.logit_softcap * np.tanh(logits / BASE.logit_softcap))


# ---- Routes.

# Parameters of a layer whose gradient goes through a node alone; "pre" norms
# feed the attention or the MLP.
ATTENTION = {f"attention/{name}/kernel" for name in ("query", "key", "value")}
MLP = {"mlp/gate/kernel", "mlp/up/kernel"}
CLOSED = {
  "attention/heads": ATTENTION | {"pre_attention_norm/scale"},
  "attention/out": ATTENTION | {"pre_attention_norm/scale", "attention/out/kernel"},
  "mlp/hidden": MLP | {"pre_mlp_norm/scale"},
  "mlp/out": MLP | {"pre_mlp_norm/scale", "mlp/down/kernel"},
}
ALL = {
  *ATTENTION,
  *MLP,
  "attention/out/kernel",
  "mlp/down/kernel",
  *(
    f"{side}_{part}_norm/scale"
    for side in ("pre", "post")
    for part in ("attention", "mlp")
  ),
}
CLOSED["residual"] = ALL


def layer_grads(grads):
  layers = grads["layers"]
  return dict(zip(trees.paths(layers), jax.tree.leaves(layers), strict=True))


def test_masks_of_one_change_neither_value_nor_gradient(base, routed):
  assert_close(routed(), base[1:])


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("layer", [0, 2])
def test_a_closed_node_stops_exactly_the_gradients_behind_it(base, routed, node, layer):
  mask = ones(node)
  mask[layer] = 0.0
  loss, grads = routed(**{node: mask})
  np.testing.assert_allclose(loss, base[1], rtol=1e-6)
  for path, grad in layer_grads(grads).items():
    for n in range(3):
      # A closed residual stream cuts off all layers up to its own.
      stopped = path in CLOSED[node] and (
        n == layer or node == "residual" and n < layer
      )
      assert bool(np.any(grad[n])) is not stopped, (path, n)
  # Logits reach the embedding by themselves, whatever is closed.
  assert np.any(grads["embedding"])


@pytest.mark.parametrize("node", ["mlp/hidden", "mlp/out", "attention/out"])
def test_a_mask_on_the_last_layer_scales_the_gradients_behind_it(base, routed, node):
  mask = ones(node)
  scale = np.random.default_rng(2).uniform(-1, 1, mask.shape[-1]).astype(np.float32)
  mask[-1] = scale
  grads, unrouted = layer_grads(routed(**{node: mask})[1]), layer_grads(base[2])
  scaled, kept = {
    "mlp/hidden": (sorted(MLP), "mlp/down/kernel"),
    "mlp/out": (["mlp/down/kernel"], "post_mlp_norm/scale"),
    "attention/out": (["attention/out/kernel"], "mlp/gate/kernel"),
  }[node]
  for path in scaled:
    expected = np.asarray(scale)[None] * unrouted[path][-1]
    np.testing.assert_allclose(
      grads[path][-1], expected, rtol=0, atol=3e-6 * np.abs(expected).max()
    )
  np.testing.assert_allclose(
    grads[kept][-1],
    unrouted[kept][-1],
    rtol=0,
    atol=3e-6 * np.abs(unrouted[kept]).max(),
  )
  # Earlier layers get other gradients, since those pass through the closed node.
  assert not np.allclose(grads["mlp/up/kernel"][0], unrouted["mlp/up/kernel"][0])


def test_a_closed_head_gets_no_gradient(routed):
  closed = 1  # Shares its key/value head 0 with head 0, which stays open.
  K = BASE.head_dim
  mask = ones("attention/heads")
  mask[-1, ..., closed, :] = 0.0
  grads = layer_grads(routed(**{"attention/heads": mask})[1])
  query = np.asarray(grads["attention/query/kernel"][-1]).reshape(16, -1, K)
  assert [bool(np.any(query[:, h])) for h in range(4)] == [True, False, True, True]
  mask[-1, ..., 0, :] = 0.0
  grads = layer_grads(routed(**{"attention/heads": mask})[1])
  for name in ("key", "value"):
    kernel = np.asarray(grads[f"attention/{name}/kernel"][-1]).reshape(16, -1, K)
    assert [bool(np.any(kernel[:, g])) for g in range(2)] == [False, True]
  # What follows the heads learns from the closed ones too.
  out = np.asarray(grads["attention/out/kernel"][-1]).reshape(-1, K, 16)
  assert all(np.any(out[h]) for h in range(4))


def test_masks_of_rows_add_up_over_the_rows(routed):
  """A batch with a mask a row is the sum of its rows, each under its mask alone."""
  rng = np.random.default_rng(4)
  mask = rng.integers(0, 2, ones("mlp/hidden").shape).astype(np.float32)
  _, whole = routed(**{"mlp/hidden": mask})
  rows = [
    routed(
      np.eye(B, dtype=np.float32)[b],
      **{"mlp/hidden": np.broadcast_to(mask[:, b : b + 1], mask.shape)},
    )[1]
    for b in range(B)
  ]
  assert_close(jax.tree.map(lambda *parts: sum(parts), *rows), whole)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"routes": {"mlp": np.ones((3, 1, 1, 32))}}, "unknown route 'mlp'.*mlp/hidden"),
    ({"routes": {"mlp/out": np.ones((2, 1, 1, 16))}}, "3 layers as leading axis"),
    ({"routes": {"mlp/out": np.ones(())}}, r"3 layers as leading axis.*\(\)"),
    ({"routes": {"mlp/out": [1.0, 0.0, 1.0]}}, r"must be an array .*got \[1.0, 0.0"),
    ({"routes": {"mlp/out": np.ones((3, 1, 1, 15))}}, "must broadcast"),
    ({"routes": {"mlp/hidden": np.ones((3, 1, 1, 16))}}, "must broadcast"),
    ({"routes": {"attention/heads": np.ones((3, 1, 1, 4, 7))}}, "must broadcast"),
    ({"routes": {"residual": np.ones((3, 2, 1, 16))}}, "must broadcast"),
    ({"capture": (4,)}, r"lie in \[0, 3\], got \(4,\)"),
    ({"capture": (-1,)}, r"lie in \[0, 3\], got \(-1,\)"),
    ({"capture": ("mlp",)}, r"among embedding, mlp/hidden, .*got \('mlp',\)"),
    ({"capture": ("residual", 1)}, r"indices or names .*got \('residual', 1\)"),
  ],
)
def test_wrong_routes_and_captures_are_errors(base, arguments, message):
  with pytest.raises(ValueError, match=message):
    Decoder(BASE).apply(base[0], TOKENS, **arguments)
