"""Tests of mask tables and of the rules that choose among their rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from undo_jax import testing
from undo_jax.routing import masks
from undo_jax.routing.activations import TokenMask, dense

FORGET = np.array([-0.75, -0.75, -0.75, 1.0], np.float32)
RETAIN = np.array([1.0, 1.0, 1.0, 0.5], np.float32)
compiled_dense = jax.jit(dense)
TABLE = masks.make_table(FORGET, RETAIN)
B, L = 3, 5


def test_the_last_row_of_a_table_is_the_unrouted_one():
  assert TABLE.dtype == jnp.float32
  np.testing.assert_array_equal(TABLE, [FORGET, RETAIN, [1, 1, 1, 1]])


def test_ids_choose_a_row_for_each_token():
  ids = np.array([[0, 1, 2, 1, 0], [2, 2, 2, 2, -1], [1, 0, -3, -2, 0]])
  expected = np.stack([FORGET, RETAIN, np.ones(4, np.float32)])[ids]
  np.testing.assert_array_equal(dense(masks.select(TABLE, ids)), expected)
  np.testing.assert_array_equal(
    jax.jit(lambda ids: dense(masks.select(TABLE, ids)))(ids), expected
  )


def test_one_id_a_row_holds_for_all_its_tokens():
  got = compiled_dense(masks.select(TABLE, np.array([1, 0, -1])))
  np.testing.assert_array_equal(got, np.stack([RETAIN, FORGET, np.ones(4)])[:, None])


def test_traced_ids_beyond_the_table_do_not_pass_in_silence():
  got = jax.jit(lambda ids: dense(masks.select(TABLE, ids)))(np.array([[0, 3]]))
  np.testing.assert_array_equal(np.isnan(got[0]).all(-1), [False, True])


def test_weights_go_from_the_forget_row_to_the_retain_row():
  weights = np.array([[0.0, 1.0, 0.25, 0.5, 0.9]], np.float32)
  got = compiled_dense(masks.lerp(TABLE, weights))
  np.testing.assert_array_equal(got[0, 0], FORGET)
  np.testing.assert_array_equal(got[0, 1], RETAIN)
  w = np.float64(weights)[..., None]
  np.testing.assert_allclose(got, (1 - w) * FORGET + w * RETAIN, rtol=1e-6)
  # The paper's masks, 1 - 1.75 * (1 - w) on old units, at the weight they publish.
  paper = masks.make_table([-0.75, 1.0], [1.0, 1.0])
  got = compiled_dense(masks.lerp(paper, [[0.982014]]))
  np.testing.assert_allclose(got[0, 0], [0.968525, 1.0], rtol=1e-6)


@pytest.mark.parametrize("weight", np.random.default_rng(0).uniform(0, 1, 20))
def test_between_equal_rows_nothing_changes(weight):
  mask = masks.lerp(np.ones((2, 4), np.float32), np.full((1, 1), weight, np.float32))
  np.testing.assert_array_equal(compiled_dense(mask), np.ones((1, 1, 4)))


def test_other_rows_of_a_table_can_be_mixed():
  got = compiled_dense(masks.lerp(TABLE, jnp.array([[0.0, 1.0]]), low=2, high=0))
  np.testing.assert_array_equal(got[0], [[1, 1, 1, 1], FORGET])


def test_layers_that_are_not_routed_have_ones():
  mask = masks.at_layers(masks.select(TABLE, np.zeros((B, L), int)), 4, (1, 3))
  assert mask.table.shape == (4, 3, 4)
  for n, row in enumerate([np.ones(4), FORGET, np.ones(4), FORGET]):
    of_layer = TokenMask(mask.table[n], mask.weights_BxLxS)
    np.testing.assert_array_equal(
      compiled_dense(of_layer), np.broadcast_to(np.float32(row), (B, L, 4))
    )


# ---- Rules over tokens.


def test_a_targets_mask_depends_on_that_token_alone():
  """T15: position t is chosen by token t + 1, whatever stands elsewhere."""
  rng = np.random.default_rng(0)
  chosen = np.array([False, True, True, False, False, True, False])
  tokens = rng.integers(0, 7, (4, 9))
  got = np.asarray(masks.targets_in(tokens, chosen))
  expected = np.array([[token in (1, 2, 5) for token in row[1:]] for row in tokens])
  np.testing.assert_array_equal(got, expected)
  for t in range(8):
    shuffled = rng.integers(0, 7, tokens.shape)
    shuffled[:, t + 1] = tokens[:, t + 1]
    again = np.asarray(masks.targets_in(shuffled, chosen))
    np.testing.assert_array_equal(again[:, t], got[:, t])


def test_whole_rows_are_those_that_the_batch_was_cut_from():
  tokens = np.random.default_rng(1).integers(0, 9, (3, 7))
  batch = {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}
  np.testing.assert_array_equal(masks.whole_rows(batch), tokens)


def test_rows_labelled_retain_are_all_ones():
  weights = np.random.default_rng(3).uniform(0, 1, (B, L)).astype(np.float32)
  got = masks.gate_by_label(jnp.asarray(weights), np.array([True, False, True]))
  np.testing.assert_array_equal(got, [np.ones(L), weights[1], np.ones(L)])


# ---- Weights from token frequencies.


def test_tokens_are_counted_where_the_mask_is_set():
  batch = testing.batch(jax.random.key(0))
  tokens, mask = np.asarray(batch["targets"]), np.asarray(batch["mask"])
  got = masks.count_tokens(tokens, mask, 16)
  expected = [0] * 16
  for token, counts in zip(tokens.ravel(), mask.ravel(), strict=True):
    expected[token] += counts > 0
  np.testing.assert_array_equal(got, expected)


def test_tokens_of_one_side_alone_belong_to_it():
  """T16: A a hundred times in retain, B in forget, others nowhere."""
  forget, retain = np.zeros(5), np.zeros(5)
  forget[1], retain[0] = 100, 100
  got = masks.token_frequency_weights(
    forget, retain, forget_smoothing=0.001, retain_smoothing=0.001, bias=0.0
  )
  assert got.dtype == np.float32
  np.testing.assert_allclose(got, [1.0, 0.0, 0.5, 0.5, 0.5], atol=1e-6)


# Occurrences in 10 thousand tokens of forget and of retain stories, and the weight:
# Cloud et al., table 3.
PUBLISHED = [
  (99.5, 0.0, 0.000),
  (73.1, 18.7, 0.585),
  (10.3, 3.6, 0.810),
  (10.9, 3.8, 0.816),
  (10.2, 3.9, 0.851),
  (13.2, 5.9, 0.901),
  (9.7, 4.5, 0.909),
  (19.9, 9.3, 0.912),
  (18.1, 8.8, 0.919),
  (8.4, 4.2, 0.922),
  (5.1, 7.1, 0.991),
  (3.8, 5.8, 0.992),
  (4.3, 6.7, 0.993),
  (6.9, 10.6, 0.993),
  (5.2, 8.3, 0.993),
  (23.4, 38.2, 0.993),
  (5.3, 10.9, 0.996),
  (4.3, 11.2, 0.998),
  (1.8, 8.2, 1.000),
  (1.5, 6.7, 1.000),
]


def test_the_weights_are_those_of_the_papers_table():
  forget, retain, expected = np.array(PUBLISHED).T
  with np.errstate(divide="ignore"):
    got = masks.retain_weight(forget / retain)
  # The table rounds its frequencies to one digit.
  np.testing.assert_allclose(got, expected, atol=0.006)


@pytest.mark.parametrize(
  ("ratio", "weight"),
  [(1.0, 0.982014), (2 + 5**0.5, 0.5), (np.inf, 0.0), (0.0, 1.0), (4.509439, 3 / 7)],
)
def test_the_weight_of_a_ratio(ratio, weight):
  # At 3/7 the mask 1 - 1.75 * (1 - w) of the paper's old units is zero.
  np.testing.assert_allclose(masks.retain_weight(np.array(ratio)), weight, atol=1e-6)


def test_counts_are_smoothed_and_normalized_over_the_vocabulary():
  forget, retain = np.array([3, 0, 5, 0]), np.array([1, 40, 0, 7])
  f = np.array([4, 1, 6, 1]) / 12
  r = np.array([21, 60, 20, 27]) / 128
  q = f / r
  np.testing.assert_allclose(
    masks.token_frequency_weights(forget, retain),
    1 - 1 / (1 + np.exp(-(q - 1 / q - 4))),
    rtol=1e-6,
  )
  np.testing.assert_allclose(
    masks.token_frequency_weights(forget, retain, scale=0.5, bias=1.0),
    1 - 1 / (1 + np.exp(-(0.5 * (q - 1 / q) + 1))),
    rtol=1e-6,
  )


# ---- Bad input.

ONES = np.ones(4)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: masks.make_table(), "rows of one shape"),
    (lambda: masks.make_table(1.0), "rows of one shape"),
    (lambda: masks.make_table(ONES, np.ones(3)), r"one shape .*\(3,\), \(4,\)"),
    (lambda: masks.select(TABLE, np.array([[3]])), "among 3 rows, got values from 3"),
    (lambda: masks.select(TABLE, np.array([[0, -4]])), "from -4 to 0"),
    (lambda: masks.select(TABLE, np.array([[0.0]])), "must be int .*float32"),
    (lambda: masks.select(TABLE, np.zeros((1, 1, 1), int)), "must be int"),
    (lambda: masks.lerp(TABLE, np.ones(3)), r"weights \[B, L\]"),
    (lambda: masks.lerp(TABLE, np.ones((1, 1)), 0, 3), r"rows in \[0, 3\).*0 and 3"),
    (
      lambda: masks.at_layers(masks.select(TABLE, np.array([0])), 3, (3,)),
      r"\[0, 3\), got \[3\]",
    ),
    (
      lambda: masks.at_layers(masks.select(TABLE, np.array([0])), 3, ()),
      r"\[0, 3\), got \[\]",
    ),
    (lambda: masks.targets_in(np.zeros(3, int), ONES), r"\[B, L \+ 1\], got \(3,\)"),
    (lambda: masks.count_tokens(np.array([5]), ONES[:1], 5), r"lie in \[0, 5\), got 5"),
    (lambda: masks.token_frequency_weights(ONES, np.ones(3)), r"\(4,\) and \(3,\)"),
    (lambda: masks.token_frequency_weights(ONES, -ONES), "numbers >= 0"),
    (
      lambda: masks.token_frequency_weights(ONES, ONES, forget_smoothing=0.0),
      "must be positive, got 0.0",
    ),
  ],
)
def test_bad_input_is_told(call, message):
  with pytest.raises(ValueError, match=message):
    call()
