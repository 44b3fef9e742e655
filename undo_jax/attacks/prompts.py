"""Tokens before every row, for attacks on what a model reads, and their units."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Output
from undo_jax.utils.types import Params


def prompted(
  apply: Callable[..., Output],
  params: Params,
  prompt_T: jax.Array,
  tokens_BxL: jax.Array,
  *,
  positions_BxP: jax.Array | None = None,
  moved_TxD: jax.Array | None = None,
) -> Output:
  """Compute the logits of rows that a prompt stands before, at the rows' positions.

  Args:
    apply: the decoder's, or one whose logits are Deferred.
    params: of the model.
    prompt_T: int32 token ids, the same before every row, its BOS included.
    tokens_BxL: the rows.
    positions_BxP: in [0, L), positions in the rows; None: all of them.
    moved_TxD: added to the embeddings of the prompt; None: nothing.

  Returns:
    Output(logits [B, L, V] or [B, P, V], nothing captured).
  """
  B, L = tokens_BxL.shape
  T = prompt_T.shape[0]
  if positions_BxP is None:
    positions_BxP = jnp.broadcast_to(jnp.arange(L), (B, L))
  before_BxT = jnp.broadcast_to(prompt_T.astype(tokens_BxL.dtype), (B, T))
  added = None
  if moved_TxD is not None:
    added = {0: jnp.pad(moved_TxD, ((0, L), (0, 0)))}
  return apply(
    params,
    jnp.concatenate([before_BxT, tokens_BxL], axis=1),
    positions_BxP=positions_BxP + T,
    added=added,
  )


def root_mean_square(params: Params) -> jax.Array:
  """Return sqrt(mean E^2) of the embedding, a float32 scalar."""
  return jnp.sqrt(jnp.mean(jnp.square(params["embedding"].astype(jnp.float32))))


def unit(model: ModelConfig, params: Params) -> jax.Array:
  """Return the root mean square of the embeddings as the first layer reads them.

  sqrt(mean E^2), times sqrt(D) where the model scales embeddings

  Attacks on hidden states use it as their unit, so that a learning rate or a radius
  means the same in every model.
  """
  return root_mean_square(params) * embedding_factor(model)


def embedding_factor(model: ModelConfig) -> float:
  """Return what embeddings are multiplied by before the first layer."""
  return model.width**0.5 if model.scale_embedding else 1.0
