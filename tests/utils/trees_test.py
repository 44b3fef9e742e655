"""Tests of the path rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from undo_jax.utils import trees

TREE = {
  "embedding": jnp.zeros((5, 3)),
  "layers": {
    "mlp": {"kernel": jnp.zeros((2, 3, 4)), "scale": jnp.zeros((2, 3))},
    "norm": {"scale": jnp.zeros((2, 3))},
  },
}
PATHS = [
  "embedding",
  "layers/mlp/kernel",
  "layers/mlp/scale",
  "layers/norm/scale",
]


def by_path(tree):
  return dict(zip(trees.paths(tree), jax.tree.leaves(tree), strict=True))


def test_paths_join_the_keys_in_tree_order():
  assert trees.paths(TREE) == PATHS


def test_paths_name_sequences_and_fields_too():
  assert trees.paths({"a": [1, (2, 3)]}) == ["a/0", "a/1/0", "a/1/1"]


def test_map_with_path_gives_path_and_all_leaves():
  one = {"a": {"b": 1}, "c": 2}
  two = {"a": {"b": 10}, "c": 20}
  got = trees.map_with_path(lambda path, x, y: (path, x + y), one, two)
  assert got == {"a": {"b": ("a/b", 11)}, "c": ("c", 22)}


def test_the_first_matching_rule_wins():
  rules = [("layers/norm/.*", "norm"), ("layers/.*", "layer"), (".*", "rest")]
  assert by_path(trees.match(TREE, rules)) == {
    "embedding": "rest",
    "layers/mlp/kernel": "layer",
    "layers/mlp/scale": "layer",
    "layers/norm/scale": "norm",
  }


@pytest.mark.parametrize("partial", ["kernel", "layers", "embed", "layers/mlp/kerne"])
def test_a_rule_must_match_the_whole_path(partial):
  with pytest.raises(ValueError, match="matches no parameter") as error:
    trees.match(TREE, [(partial, 1)], default=0)
  # The message shows what could have been meant.
  assert all(path in str(error.value) for path in PATHS)


def test_a_leaf_without_a_rule_is_named():
  with pytest.raises(ValueError, match="no rule matches the parameter 'layers/norm"):
    trees.match(TREE, [("embedding", 1), (".*/mlp/.*", 1)])


@pytest.mark.parametrize("default", [0, False, ""])
def test_the_default_fills_leaves_without_a_rule(default):
  got = by_path(trees.match(TREE, [("embedding", "x")], default=default))
  assert got.pop("embedding") == "x"
  assert list(got.values()) == [default] * 3


@pytest.mark.parametrize(
  ("axis", "index"),
  [
    (0, 1),
    (0, (0, 1)),
    (1, [0, 2]),
    (2, (3,)),
    (2, slice(1, 3)),
    (2, slice(None, None, 2)),
    (1, range(1, 3)),
    (2, np.int64(3)),
    (2, np.array([0, 3])),
    (0, (np.int32(1),)),
  ],
)
@pytest.mark.parametrize(("value", "default"), [(0.0, 1.0), (1.0, 0.0), (-0.75, 0.5)])
def test_a_mask_holds_the_value_on_the_index_and_the_default_elsewhere(
  axis, index, value, default
):
  rules = [("layers/mlp/kernel", axis, index, value)]
  masks = by_path(trees.mask_from_rules(TREE, rules, default=default))
  kernel = masks["layers/mlp/kernel"]
  assert kernel.dtype == jnp.float32
  assert kernel.shape == tuple(
    size if a == axis else 1 for a, size in enumerate((2, 3, 4))
  )
  chosen = set(
    range(*index.indices((2, 3, 4)[axis]))
    if isinstance(index, slice)
    else [index]
    if np.ndim(index) == 0
    else index
  )
  expected = np.empty((2, 3, 4), np.float32)
  for place in np.ndindex(2, 3, 4):
    expected[place] = value if place[axis] in chosen else default
  np.testing.assert_array_equal(np.broadcast_to(kernel, (2, 3, 4)), expected)
  for path, shape in (("embedding", (1, 1)), ("layers/norm/scale", (1, 1))):
    np.testing.assert_array_equal(masks[path], np.full(shape, default, np.float32))


def test_a_mask_without_axis_fills_the_array():
  masks = by_path(trees.mask_from_rules(TREE, [(".*/kernel", None, None, 0.25)]))
  np.testing.assert_array_equal(
    masks["layers/mlp/kernel"], np.full((1, 1, 1), 0.25, np.float32)
  )
  np.testing.assert_array_equal(masks["embedding"], np.ones((1, 1), np.float32))


def test_the_first_mask_rule_wins():
  rules = [("embedding", 0, 1, 2.0), (".*", None, None, 3.0)]
  masks = by_path(trees.mask_from_rules(TREE, rules))
  np.testing.assert_array_equal(masks["embedding"][:, 0], [1, 2, 1, 1, 1])
  np.testing.assert_array_equal(masks["layers/norm/scale"], [[3.0]])


def test_masks_need_shapes_only():
  shapes = jax.eval_shape(lambda: TREE)
  rules = [("embedding", 1, 0, 0.0)]
  for got, expected in zip(
    jax.tree.leaves(trees.mask_from_rules(shapes, rules)),
    jax.tree.leaves(trees.mask_from_rules(TREE, rules)),
    strict=True,
  ):
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
  ("rule", "message"),
  [
    (("kernel", 0, 0, 1.0), "matches no parameter"),
    (("embedding/(", 0, 0, 1.0), r"'embedding/\(' is no regex: missing"),
    (("embedding", 1.0), r"a rule is \(path .*, value\), got \('embedding', 1.0\)"),
    (("embedding", 2, 0, 1.0), "no axis 2"),
    (("embedding", -1, 0, 1.0), "no axis -1"),
    (("embedding", 0, 5, 1.0), r"lie in \[0, 5\), got 5"),
    (("embedding", 0, -1, 1.0), r"lie in \[0, 5\), got -1"),
    (("embedding", 1, (0, 3), 1.0), r"lie in \[0, 3\)"),
    (("embedding", 1, (), 1.0), r"lie in \[0, 3\)"),
    (("embedding", 1, slice(3, None), 1.0), r"axis 1 of embedding .* selects nothing"),
    (("embedding", 1, slice(2, 1), 1.0), "selects nothing"),
    (("embedding", 1, 1.5, 1.0), r"lie in \[0, 3\), got 1.5"),
    (("embedding", 1, True, 1.0), "got True"),
  ],
)
def test_rules_that_reach_nothing_are_errors(rule, message):
  with pytest.raises(ValueError, match=message):
    trees.mask_from_rules(TREE, [rule])


def test_masked_keeps_what_a_rule_names_and_zeroes_the_rest():
  params = {"a": jnp.array([[1.0, 2.0], [3.0, 4.0]]), "b": jnp.ones(2, jnp.bfloat16)}
  got = trees.masked(params, [("a", 0, 1, 1.0)])
  assert got["a"].tolist() == [[0.0, 0.0], [3.0, 4.0]]
  assert got["b"].tolist() == [0.0, 0.0] and got["b"].dtype == jnp.bfloat16
  assert trees.masked(params, []) is params
