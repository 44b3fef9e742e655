"""Tests of UNDO's noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from undo_jax import interpolation, testing
from undo_jax.models import decoder

KEY = jax.random.key(3)


@functools.partial(jax.jit, static_argnames=("rules", "trainable"))
def compiled(params, key, alpha, beta, **options):
  return interpolation.toward_init(params, key, alpha=alpha, beta=beta, **options)


def toward_init(params, key, *, alpha, beta, **options):
  """The function under test as stages run it, its strength and scale traced."""
  return jax.device_get(compiled(params, key, alpha, beta, **options))


ALL_XAVIER = ((".*", interpolation.xavier_uniform),)


def tree(seed: int = 0):
  """Two matrices, two stacked ones and norms, in the model's layout."""
  normal = np.random.default_rng(seed).standard_normal
  return jax.tree.map(
    np.float32,
    {
      "embedding": normal((400, 60)),
      "layers": {
        "mlp": {"kernel": normal((3, 60, 200))},
        "norm": {"scale": normal((3, 60))},
      },
      "final_norm": {"scale": normal(60)},
    },
  )


MATRICES = {
  "embedding": lambda t: t["embedding"],
  "stacked": lambda t: t["layers"]["mlp"]["kernel"],
}
NORMS = {
  "stacked": lambda t: t["layers"]["norm"]["scale"],
  "final": lambda t: t["final_norm"]["scale"],
}


def assert_same(one, two):
  jax.tree.map(np.testing.assert_array_equal, one, two)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_alpha_zero_returns_the_parameters_bit_for_bit(beta):
  assert_same(toward_init(tree(), KEY, alpha=0.0, beta=beta), tree())


@pytest.mark.parametrize("alpha", [0.1, 0.6, 1.0])
def test_beta_zero_only_shrinks(alpha):
  expected = jax.tree.map(lambda x: (np.float32(1) - np.float32(alpha)) * x, tree())
  assert_same(toward_init(tree(), KEY, alpha=alpha, beta=0.0), expected)


def test_alpha_and_beta_one_hold_nothing_of_the_parameters():
  fresh = toward_init(tree(0), KEY, alpha=1.0, beta=1.0)
  assert_same(fresh, toward_init(tree(1), KEY, alpha=1.0, beta=1.0))
  for name, at in MATRICES.items():
    matrix = np.asarray(at(fresh), np.float64)
    bound = np.sqrt(6 / (matrix.shape[-2] + matrix.shape[-1]))
    assert np.abs(matrix).max() <= np.float32(bound), name
    # Of n uniform draws, all within 0.999 of the bound: 0.999^24000 ~ 4e-11.
    assert np.abs(matrix).max() > 0.999 * bound, name
  for at in NORMS.values():
    np.testing.assert_array_equal(at(fresh), np.zeros_like(at(fresh)))


def check_moments(noise, std):
  """Check mean, standard deviation and kurtosis of uniform noise at 5 sigma."""
  noise = np.asarray(noise, np.float64) / std
  n = noise.size
  assert abs(noise.mean()) < 5 / np.sqrt(n)
  # A uniform variable of unit variance has E x^4 = 1.8 and E x^8 = 9.
  assert abs(noise.std() - 1) < 5 * np.sqrt((1.8 - 1) / (4 * n))
  assert abs((noise**4).mean() - 1.8) < 5 * np.sqrt((9 - 1.8**2) / n)


@pytest.mark.optimized
@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize(("alpha", "beta"), [(0.6, 0.1), (0.3, 1.0), (1.0, 1.0)])
def test_noise_has_the_standard_deviation_of_xavier(name, alpha, beta):
  # Zero parameters: the subtraction of large ones would round the noise.
  zeros = jax.tree.map(np.zeros_like, tree())
  noise = MATRICES[name](toward_init(zeros, KEY, alpha=alpha, beta=beta))
  check_moments(noise, alpha * beta * np.sqrt(2 / (noise.shape[-2] + noise.shape[-1])))


def test_the_noise_does_not_depend_on_the_parameters():
  zeros = jax.tree.map(np.zeros_like, tree())
  noise = toward_init(zeros, KEY, alpha=0.6, beta=0.5)
  got = toward_init(tree(), KEY, alpha=0.6, beta=0.5)
  for at in MATRICES.values():
    expected = 0.4 * np.asarray(at(tree()), np.float64) + np.asarray(at(noise))
    # One rounding of a product and one of a sum, of values up to 2.
    np.testing.assert_allclose(at(got), expected, rtol=0, atol=4e-7)


def test_noise_of_the_0_1b_query_kernel_has_the_published_scale():
  kernels = {"kernel": np.zeros((2, 320, 1024), np.float32)}
  noise = toward_init(kernels, KEY, alpha=0.6, beta=0.1, rules=ALL_XAVIER)
  noise = np.asarray(noise["kernel"])
  assert round(float(noise.std()), 5) == pytest.approx(0.00231, abs=1e-9)
  check_moments(noise, 0.6 * 0.1 * np.sqrt(2 / (320 + 1024)))


def test_stacked_layers_draw_independent_noise():
  noise = MATRICES["stacked"](toward_init(tree(), KEY, alpha=1.0, beta=1.0))
  correlation = np.corrcoef(np.asarray(noise, np.float64).reshape(3, -1))
  off_diagonal = correlation[~np.eye(3, dtype=bool)]
  assert np.abs(off_diagonal).max() < 5 / np.sqrt(noise[0].size)


@pytest.mark.parametrize("name", NORMS)
def test_norms_shrink_and_get_no_noise(name):
  got = NORMS[name](toward_init(tree(), KEY, alpha=0.6, beta=1.0))
  expected = (np.float32(1) - np.float32(0.6)) * NORMS[name](tree())
  np.testing.assert_array_equal(got, expected)


def test_the_default_rules_fit_the_model():
  shapes = decoder.shapes(testing.config(num_layers=1))
  params = jax.tree.map(lambda s: np.ones(s.shape, s.dtype), shapes)
  fresh = toward_init(params, KEY, alpha=1.0, beta=1.0)
  for path, leaf in jax.tree_util.tree_leaves_with_path(fresh):
    is_norm = "scale" in jax.tree_util.keystr(path)
    assert bool(np.any(leaf != 0)) is not is_norm


@pytest.mark.optimized
def test_the_same_key_gives_the_same_noise_and_another_key_another():
  one = toward_init(tree(), KEY, alpha=0.5, beta=0.5)
  assert_same(one, toward_init(tree(), KEY, alpha=0.5, beta=0.5))
  other = toward_init(tree(), jax.random.key(4), alpha=0.5, beta=0.5)
  for at in MATRICES.values():
    assert np.mean(np.asarray(at(one)) == np.asarray(at(other))) < 0.01


def test_parameters_of_one_shape_draw_different_noise():
  params = {name: np.zeros((30, 40), np.float32) for name in ("gate", "up")}
  noise = toward_init(params, KEY, alpha=1.0, beta=1.0, rules=ALL_XAVIER)
  assert np.mean(np.asarray(noise["gate"]) == np.asarray(noise["up"])) < 0.01


def test_the_noise_of_a_parameter_does_not_depend_on_the_others():
  whole = toward_init(tree(), KEY, alpha=0.5, beta=1.0)
  alone = {"layers": {"mlp": tree()["layers"]["mlp"]}}
  alone = toward_init(alone, KEY, alpha=0.5, beta=1.0, rules=ALL_XAVIER)
  assert_same(alone["layers"]["mlp"], whole["layers"]["mlp"])


def test_untouched_parameters_keep_their_value_at_every_alpha():
  rules = (("layers/.*", interpolation.untouched), *interpolation.XAVIER)
  got = toward_init(tree(), KEY, alpha=1.0, beta=1.0, rules=rules)
  assert_same(got["layers"], tree()["layers"])
  assert not np.array_equal(got["embedding"], tree()["embedding"])


def test_what_is_not_trained_keeps_its_value_and_the_rest_its_noise():
  trainable = (("layers/mlp/.*", 0, (0, 2), 1.0), ("final_norm/.*", None, None, 1.0))
  whole = toward_init(tree(), KEY, alpha=0.7, beta=1.0)
  got = toward_init(tree(), KEY, alpha=0.7, beta=1.0, trainable=trainable)
  expected = tree() | {"final_norm": whole["final_norm"]}
  expected["layers"]["mlp"]["kernel"] = np.stack(
    [t["layers"]["mlp"]["kernel"][n] for n, t in enumerate((whole, tree(), whole))]
  )
  assert_same(got, expected)


RULES = (
  ("layers/mlp/.*", (1,), 0.9),
  ("layers/.*", (0, 1), 0.2),
  ("embedding", (), 0.0),
)


def test_the_first_rule_that_names_an_entry_decides_its_alpha():
  got = jax.device_get(interpolation.alphas(tree(), 0.5, RULES))
  wide = jax.tree.map(lambda a, x: np.broadcast_to(a, x.shape), got, tree())
  by_layer = {"mlp": (0.2, 0.9, 0.5), "norm": (0.2, 0.2, 0.5)}
  for name, alphas in by_layer.items():
    (leaf,) = wide["layers"][name].values()
    expected = np.float32(alphas).reshape(3, *(1,) * (leaf.ndim - 1))
    np.testing.assert_array_equal(leaf, np.broadcast_to(expected, leaf.shape))
  assert np.all(wide["embedding"] == 0) and np.all(wide["final_norm"]["scale"] == 0.5)


def test_every_entry_is_noised_by_its_own_alpha():
  alphas = jax.tree.map(
    lambda x: np.float32(np.random.default_rng(x.size).random(x.shape)), tree()
  )
  noise = toward_init(jax.tree.map(np.zeros_like, tree()), KEY, alpha=1.0, beta=1.0)
  got = toward_init(tree(), KEY, alpha=alphas, beta=0.3)

  def check(x, a, drawn, actual):
    x, a, drawn = np.float64(x), np.float64(a), np.float64(drawn)
    expected = (1 - a) * x + a * 0.3 * drawn
    np.testing.assert_allclose(actual, expected, rtol=0, atol=4e-7)

  jax.tree.map(check, tree(), alphas, noise, got)
  ones = jax.tree.map(lambda x: np.full_like(x, 0.6), tree())
  both = (toward_init(tree(), KEY, alpha=a, beta=0.3) for a in (ones, np.float32(0.6)))
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-7, atol=1e-7), *both
  )


@pytest.mark.parametrize("rule", [("head", (), 0.1), ("layers/mlp/.*", (3,), 0.1)])
def test_an_alpha_of_no_parameter_or_layer_is_an_error(rule):
  with pytest.raises(ValueError, match="matches no parameter|lie in"):
    interpolation.alphas(tree(), 0.5, (rule,))


def test_any_function_may_draw_the_noise():
  rules = ((".*", lambda key, leaf: jnp.full_like(leaf, 2.0)),)
  got = toward_init({"a": jnp.ones(3)}, KEY, alpha=0.25, beta=0.5, rules=rules)
  np.testing.assert_array_equal(got["a"], np.full(3, 0.75 + 0.25 * 0.5 * 2.0))


def test_vmap_over_alpha_equals_a_loop():
  alphas = np.array([0.0, 0.2, 0.55, 1.0], np.float32)
  untraced = interpolation.toward_init
  over_alphas = jax.vmap(lambda a: untraced(tree(), KEY, alpha=a, beta=0.3))
  population = jax.device_get(jax.jit(over_alphas)(alphas))
  for r, alpha in enumerate(alphas):
    one = untraced(tree(), KEY, alpha=float(alpha), beta=0.3)
    member = jax.tree.map(lambda x, r=r: x[r], population)
    # alpha * beta is rounded to float32 here and not there.
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=3e-7, atol=3e-7), member, one
    )
  assert_same(jax.tree.map(lambda x: x[0], population), tree())


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_the_dtype_stays(dtype):
  params = jax.tree.map(lambda x: x.astype(dtype), tree())
  for alpha in (0.5, jnp.float32(0.5)):
    noised = functools.partial(interpolation.toward_init, alpha=alpha, beta=1.0)
    got = jax.eval_shape(noised, params, KEY)
    assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {jnp.dtype(dtype)}


@pytest.mark.parametrize("name", ["alpha", "beta"])
@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), jnp.float32(2.0)])
def test_strength_and_scale_lie_in_the_unit_interval(name, value):
  with pytest.raises(ValueError, match=rf"{name} must lie in \[0, 1\], got"):
    strengths = {"alpha": 0.5, "beta": 0.5} | {name: value}
    interpolation.toward_init(tree(), KEY, **strengths)


def test_a_vector_without_the_rule_zero_is_an_error():
  with pytest.raises(ValueError, match=r"needs a matrix, got shape \(3,\).*`zero`"):
    toward_init({"bias": jnp.zeros(3)}, KEY, alpha=0.5, beta=0.5, rules=ALL_XAVIER)


def test_a_rule_that_matches_nothing_is_an_error():
  with pytest.raises(ValueError, match="matches no parameter"):
    toward_init({"kernel": jnp.zeros((2, 2))}, KEY, alpha=0.5, beta=0.5)


@functools.partial(jax.jit, static_argnames=("share", "is_largest", "rules"))
def along_directions(params, alpha, low, beta, share, is_largest, rules=()):
  return interpolation.along_directions(
    params,
    interpolation.toward_init(params, KEY, alpha=1.0, beta=beta),
    alpha=interpolation.alphas(params, alpha, rules),
    low=interpolation.alphas(params, low, rules),
    share=share,
    is_largest=is_largest,
  )


@pytest.mark.parametrize("is_largest", [True, False])
def test_noise_along_singular_directions_against_float64(is_largest):
  params, high, low, share = tree(), 0.8, 0.1, 0.35
  fresh = toward_init(params, KEY, alpha=1.0, beta=0.5)
  got = along_directions(params, high, low, 0.5, share, is_largest)

  def check(leaf, fresh, got):
    leaf, step = leaf.astype(np.float64), fresh.astype(np.float64) - leaf
    count = round(share * min(leaf.shape))
    left, _, right = np.linalg.svd(leaf)
    chosen = slice(count) if is_largest else slice(min(leaf.shape) - count, None)
    if leaf.shape[0] <= leaf.shape[1]:
      inside = left[:, : leaf.shape[0]][:, chosen]
      along = inside @ inside.T @ step
    else:
      inside = right[: leaf.shape[1]][chosen]
      along = step @ inside.T @ inside
    expected = leaf + low * step + (high - low) * along
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5)

  check(params["embedding"], fresh["embedding"], np.asarray(got["embedding"]))
  for layer in range(3):
    at = (x["layers"]["mlp"]["kernel"][layer] for x in (params, fresh, got))
    check(*map(np.asarray, at))
  # What has no directions moves by the mean strength.
  strength = low + share * (high - low)
  for at in NORMS.values():
    np.testing.assert_allclose(at(got), (1 - strength) * at(params), rtol=1e-5)


def test_all_singular_directions_are_uniform_noise_and_none_are_low():
  params = tree()
  for share, strength in ((1.0, 0.6), (0.0, 0.2)):
    got = along_directions(params, 0.6, 0.2, 0.3, share, True)
    expected = toward_init(params, KEY, alpha=np.float32(strength), beta=0.3)
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-5), got, expected
    )


def test_shrinking_chosen_singular_values_leaves_the_others():
  got = along_directions(tree(), 1.0, 0.0, 0.0, 0.25, True)
  before = np.linalg.svd(tree()["embedding"], compute_uv=False)
  after = np.linalg.svd(np.asarray(got["embedding"]), compute_uv=False)
  np.testing.assert_allclose(after[:45], before[15:], rtol=1e-4)
  np.testing.assert_allclose(after[45:], 0, atol=1e-4)


def test_alphas_by_path_hold_along_directions():
  rules = (("embedding", (), 0.0), ("layers/mlp/.*", (1,), 0.5))
  along = functools.partial(along_directions, tree(), 0.9, 0.1, 0.3, 0.5, True)
  got, plain = along(rules), along()
  np.testing.assert_allclose(got["embedding"], tree()["embedding"], atol=1e-6)
  uniform = toward_init(tree(), KEY, alpha=np.float32(0.5), beta=0.3)
  kernels = [x["layers"]["mlp"]["kernel"] for x in (got, uniform, plain)]
  np.testing.assert_allclose(kernels[0][1], kernels[1][1], rtol=0, atol=1e-5)
  np.testing.assert_array_equal(kernels[0][0], kernels[2][0])


def test_normal_noise_has_its_deviation_on_every_weight_that_is_trained():
  params, std = tree(), 0.02
  add = jax.jit(interpolation.add_normal, static_argnames="trainable")
  added = jax.device_get(add(params, KEY, std=std))
  noise = jax.tree.map(lambda x, y: np.float64(x) - y, added, params)
  flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(noise)])
  near = 5 / np.sqrt(flat.size)
  assert abs(flat.mean()) < near * std and abs(flat.std() / std - 1) < near
  shares = [np.mean(abs(flat) < k * std) for k in (1, 2)]
  np.testing.assert_allclose(shares, [0.6827, 0.9545], atol=near)
  uniform = toward_init(params, KEY, alpha=1.0, beta=1.0)["embedding"]
  pairs = np.corrcoef(np.ravel(noise["embedding"]), np.ravel(uniform))
  assert abs(pairs[0, 1]) < 5 / np.sqrt(uniform.size)
  assert_same(add(params, KEY, std=0.0), params)
  some = add(params, KEY, std=std, trainable=(("layers/.*", 0, (1,), 1.0),))
  kernel = some["layers"]["mlp"]["kernel"]
  np.testing.assert_array_equal(kernel[1], added["layers"]["mlp"]["kernel"][1])
  np.testing.assert_array_equal(kernel[::2], params["layers"]["mlp"]["kernel"][::2])
  np.testing.assert_array_equal(some["embedding"], params["embedding"])
