"""Which tokens take which mask: tables, their selection, and rules over tokens.

The mask at position t is chosen by the token that t predicts. Rules over tokens
therefore take whole rows [B, L + 1] (`whole_rows` of a batch) and return one entry
a target, [B, L].
"""

from collections.abc import Iterable, Mapping

import jax
from jax.core import Tracer
import jax.numpy as jnp
import numpy as np

from undo_jax.routing.activations import TokenMask
from undo_jax.utils.types import Batch

# ---- Tables and what is chosen from them.


def make_table(*rows: jax.Array) -> jax.Array:
  """Return the rows as a table with a last row of ones, the unrouted one.

  Args:
    *rows: K masks of a node's units, each [...units], all of one shape.

  Returns:
    float32 [K + 1, ...units].

  Raises:
    ValueError: if there is no row, or the shapes differ.
  """
  stacked = [jnp.asarray(row, jnp.float32) for row in rows]
  shapes = {row.shape for row in stacked}
  if len(shapes) != 1 or shapes == {()}:
    raise ValueError(
      f"a mask table needs rows of one shape [...units], got {sorted(shapes)}"
    )
  return jnp.stack([*stacked, jnp.ones_like(stacked[0])])


def select(table: jax.Array, ids: jax.Array) -> TokenMask:
  """Return the mask that takes row `ids` of the table at each token.

  Args:
    table: [S, ...units]; see `make_table`.
    ids: int [B, L], or [B] for one row of the table a batch row; -1 is the last.

  Returns:
    A TokenMask whose weights are one-hot.

  Raises:
    ValueError: if `ids` are no integers of one or two axes, or lie outside [-S, S)
      (traced ones cannot be checked: their gradient is NaN).
  """
  ids, size = jnp.asarray(ids), table.shape[0]
  if not jnp.issubdtype(ids.dtype, jnp.integer) or ids.ndim not in (1, 2):
    raise ValueError(f"ids must be int [B] or [B, L], got {ids.dtype} {ids.shape}")
  if not isinstance(ids, Tracer) and not np.all((ids >= -size) & (ids < size)):
    raise ValueError(
      f"ids choose among {size} rows, got values from {ids.min()} to {ids.max()}"
    )
  ids_BxL = ids[:, None] if ids.ndim == 1 else ids
  # Beyond the table `take` gives NaN, and not silently another row.
  weights_BxLxS = jnp.take(jnp.eye(size), ids_BxL, axis=0, mode="fill")
  return TokenMask(table, weights_BxLxS)


def lerp(
  table: jax.Array, weights_BxL: jax.Array, low: int = 0, high: int = 1
) -> TokenMask:
  """Return the mask between two rows of the table, by a weight for each token.

  m[b, l] = (1 - w[b, l]) * table[low] + w[b, l] * table[high]

  Args:
    table: [S, ...units]; see `make_table`.
    weights_BxL: float [B, L] (either may be 1); 0: row `low`, 1: row `high`.
    low: index of a row, by convention that of forget data.
    high: index of another, by convention that of retain data.

  Returns:
    A TokenMask of the two rows.

  Raises:
    ValueError: if the weights do not have two axes, or a row does not exist.

  Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, appendix on the
    details of TinyStories.
  """
  w_BxL = jnp.asarray(weights_BxL, jnp.float32)
  size = table.shape[0]
  if w_BxL.ndim != 2 or not {low, high} <= set(range(size)):
    raise ValueError(
      f"lerp needs weights [B, L] and rows in [0, {size}), got the shape "
      f"{w_BxL.shape} and the rows {low} and {high}"
    )
  rows = jnp.stack([table[low], table[high]])
  return TokenMask(rows, jnp.stack([1.0 - w_BxL, w_BxL], axis=-1))


def at_layers(
  mask: TokenMask, num_layers: int, layers: Iterable[int] | None = None
) -> TokenMask:
  """Return the mask for the layers of a model: ones where it is not routed.

  Args:
    mask: a TokenMask whose table is [S, ...units].
    num_layers: N.
    layers: indices in [0, N) of the layers to route; None: all.

  Returns:
    A TokenMask whose table is [N, S, ...units], a value of `routes` in
    models.decoder.Decoder.apply.

  Raises:
    ValueError: if an index lies outside [0, N), or there is none.
  """
  chosen = sorted(set(range(num_layers) if layers is None else layers))
  if not chosen or not 0 <= chosen[0] <= chosen[-1] < num_layers:
    raise ValueError(f"the routed layers must lie in [0, {num_layers}), got {chosen}")
  ones = jnp.ones((num_layers, *mask.table.shape), jnp.float32)
  return mask._replace(table=ones.at[jnp.asarray(chosen)].set(mask.table))


def routes(
  tables: Mapping[str, jax.Array],
  ids: jax.Array,
  num_layers: int,
  layers: Iterable[int] | None = None,
) -> dict[str, TokenMask]:
  """Return a model's routes: at every node the rows of its table that `ids` choose.

  Args:
    tables: node -> [S, ...units], for example of era.masks_for.
    ids: int [B] or [B, L]; see `select`.
    num_layers: N.
    layers: the layers to route; None: all.

  Returns:
    `routes` for models.decoder.Decoder.apply.

  Raises:
    ValueError: see `select` and `at_layers`.
  """
  return {
    node: at_layers(select(table, ids), num_layers, layers)
    for node, table in tables.items()
  }


# ---- Rules over tokens.


def whole_rows(batch: Batch) -> jax.Array:
  """Return the rows of L + 1 tokens that a batch's inputs and targets come from."""
  return jnp.concatenate([batch["inputs"][:, :1], batch["targets"]], axis=1)


def targets_in(tokens_BxM: jax.Array, chosen_V: jax.Array) -> jax.Array:
  """Return whether each target is one of the chosen tokens, bool [B, M - 1].

  Args:
    tokens_BxM: int rows of M = L + 1 tokens, ids in [0, V).
    chosen_V: bool [V].

  Raises:
    ValueError: if the tokens do not have two axes.
  """
  if jnp.ndim(tokens_BxM) != 2:
    raise ValueError(f"rows of tokens are [B, L + 1], got {jnp.shape(tokens_BxM)}")
  return jnp.take(jnp.asarray(chosen_V, bool), tokens_BxM[:, 1:], axis=0)


def gate_by_label(weights_BxL: jax.Array, is_retain_B: jax.Array) -> jax.Array:
  """Return max(weight, label): rows labelled retain are 1, the others as they are.

  Args:
    weights_BxL: float [B, L] or [1, L] in [0, 1], 1: retain.
    is_retain_B: bool [B].
  """
  return jnp.maximum(weights_BxL, is_retain_B[:, None].astype(weights_BxL.dtype))


# ---- Weights from token frequencies.


def count_tokens(
  tokens_BxL: np.ndarray, mask_BxL: np.ndarray, vocab_size: int
) -> np.ndarray:
  """Return how often each token occurs where the mask is set, int64 [V].

  Raises:
    ValueError: if a counted token lies outside [0, V).
  """
  counted = np.asarray(tokens_BxL)[np.asarray(mask_BxL) > 0]
  counts = np.bincount(counted, minlength=vocab_size)
  if counts.size > vocab_size:
    raise ValueError(f"tokens must lie in [0, {vocab_size}), got {counted.max()}")
  return counts


def token_frequency_weights(
  forget_counts_V: np.ndarray,
  retain_counts_V: np.ndarray,
  *,
  forget_smoothing: float = 1.0,
  retain_smoothing: float = 20.0,
  scale: float = 1.0,
  bias: float = -4.0,
) -> np.ndarray:
  """Return how much each token belongs to retain data, from how often it occurs.

  w = 1 - sigmoid(scale * (q - 1/q) + bias),  q = f / r,
  f = (forget count + smoothing) normalized over the vocabulary, r likewise

  Args:
    forget_counts_V: [V] counts in the data that is *labelled* forget: what is not
      labelled must not be counted, else the labels leak into the masks.
    retain_counts_V: [V] counts in all other data.
    forget_smoothing: added to each forget count, > 0.
    retain_smoothing: added to each retain count, > 0.
    scale: of the difference, > 0.
    bias: below zero in favour of retain.

  Returns:
    float32 [V] in [0, 1], 0: forget, 1: retain.

  Raises:
    ValueError: if the counts are no two vectors of one size or negative, or a
      smoothing or the scale is not positive.

  Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, appendix on the
    details of TinyStories.
  """
  forget = np.asarray(forget_counts_V, np.float64)
  retain = np.asarray(retain_counts_V, np.float64)
  fits = forget.ndim == 1 and forget.shape == retain.shape
  if not fits or min(forget.min(), retain.min()) < 0:
    raise ValueError(
      "token counts must be two vectors [V] of numbers >= 0, got the shapes "
      f"{forget.shape} and {retain.shape}"
    )
  if min(forget_smoothing, retain_smoothing, scale) <= 0:
    raise ValueError(
      "the smoothings and the scale must be positive, got "
      f"{forget_smoothing}, {retain_smoothing} and {scale}"
    )
  f = (forget + forget_smoothing) / (forget + forget_smoothing).sum()
  r = (retain + retain_smoothing) / (retain + retain_smoothing).sum()
  return retain_weight(f / r, scale=scale, bias=bias)


def retain_weight(
  ratio: np.ndarray, *, scale: float = 1.0, bias: float = -4.0
) -> np.ndarray:
  """Return 1 - sigmoid(scale * (q - 1/q) + bias) of q = f/r, float32 of its shape."""
  with np.errstate(divide="ignore", over="ignore"):
    x = scale * (ratio - 1.0 / ratio) + bias
    return np.asarray(1.0 / (1.0 + np.exp(x)), np.float32)
