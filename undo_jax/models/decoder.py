"""The decoder in Linen: pure `init` and `apply` over a plain dict.

Gemma-2 by default; fields of ModelConfig turn it into its relatives. The layers are
stacked on a leading axis N and scanned. Matrices are stored as [N, in, out], so that
the last two axes are always (fan in, fan out).
"""

from collections.abc import Mapping
import functools
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp

from undo_jax import interpolation
from undo_jax.distributed import placement
from undo_jax.models import attention, rotary
from undo_jax.models.config import ModelConfig, layers_a_turn
from undo_jax.models.layers import (
  INTO,
  OUT_OF,
  Context,
  Dense,
  Layer,
  Norm,
  matmul,
  softcap,
  without,
)
from undo_jax.routing.activations import Mask, TokenMask, check_broadcastable
from undo_jax.utils import trees
from undo_jax.utils.types import Params

# Places inside each layer where a routing mask may sit.
NODES = ("attention/heads", "attention/out", "mlp/hidden", "mlp/out", "residual")
# What can be captured by name: before the layers, of all of them, after the last.
CAPTURES = ("embedding", "mlp/hidden", "mlp/out", "residual", "final_norm")


class Cache(NamedTuple):
  """What decoding keeps of the tokens before; M is the room for all of them."""

  key: jax.Array  # [N, B, M, G, K], compute dtype, already rotated.
  value: jax.Array  # The same shape.
  valid_BxM: jax.Array  # bool; False: nothing attends to it (padding).
  length: jax.Array  # int32 scalar, positions filled.


class Output(NamedTuple):
  """logits in float32, what was captured by index or name, the cache."""

  logits: jax.Array  # [B, L, V], or [B, P, V] at chosen positions.
  captured: dict[Any, jax.Array]
  cache: Cache | None = None


def shapes(config: ModelConfig) -> Params:
  """Return the parameters of a model as jax.ShapeDtypeStructs, float32."""
  return jax.tree.map(lambda leaf: leaf, _shapes(config))  # Another tree each time.


@functools.cache
def _shapes(config: ModelConfig) -> Params:
  return jax.eval_shape(Decoder(config).init, jax.random.key(0))


class Decoder:
  """A decoder-only transformer as pure functions over a nested dict of arrays.

  Reference: Gemma Team, Gemma 2, arXiv 2408.00118; see models/huggingface.py for
  the other families.
  """

  def __init__(self, config: ModelConfig):
    self.config = config
    self._decoder = _Decoder(config)

  def init(self, key: jax.Array) -> Params:
    """Draw fresh float32 parameters.

    Matrices ~ N(0, init_std^2), biases zero, norms as the identity.
    """
    tokens_BxL = jnp.zeros((1, 1), jnp.int32)
    return self._decoder.init(key, tokens_BxL, {}, (), None, None, None, None)["params"]

  def init_cache(self, batch_size: int, room: int) -> Cache:
    """Return an empty cache for `batch_size` rows of at most `room` tokens."""
    c = self.config
    shape = (c.num_layers, batch_size, room, c.num_kv_heads, c.head_dim)
    return Cache(
      key=jnp.zeros(shape, c.dtype),
      value=jnp.zeros(shape, c.dtype),
      valid_BxM=jnp.zeros((batch_size, room), bool),
      length=jnp.zeros((), jnp.int32),
    )

  def apply(
    self,
    params: Params,
    tokens_BxL: jax.Array,
    *,
    routes: Mapping[str, Mask] | None = None,
    capture: tuple[int, ...] | tuple[str, ...] = (),
    valid_BxL: jax.Array | None = None,
    cache: Cache | None = None,
    positions_BxP: jax.Array | None = None,
    layer_inputs_NxBxLxD: jax.Array | None = None,
    hidden_BxLxD: jax.Array | None = None,
    added: Mapping[int, jax.Array] | None = None,
    removed_D: jax.Array | None = None,
  ) -> Output:
    """Compute the logits of the next token at every position, or at some.

    Args:
      params: the tree that `init` returns, of any float dtype.
      tokens_BxL: int32 token ids in [0, V).
      routes: gradient-routing masks by node name (one of NODES), each
        broadcastable to [N, *activation], where the activation is
        [B, L, H, K] for attention/heads, [B, L, F] for mlp/hidden and
        [B, L, D] for the others. The leading axis is the layer's; of a
        TokenMask, which needs less memory, it is the table's.
      capture: indices k in [0, N] of hidden states to return; 0 is the (scaled)
        embedding and k the output of the k-th layer counted from one (after
        the residual, before the final norm). Or names of CAPTURES: "embedding" is
        hidden state 0, "residual" are all the others and "mlp/out" the outputs of
        the MLPs (before the norm after it), both [N, B, L, D]; "mlp/hidden" are the
        activations of the MLPs' units [N, B, L, F], before a mask at that node;
        "final_norm" is what the logits are made of.
      valid_BxL: bool, False where nothing may attend to a token (padding, on
        either side); None: all are valid. The logits of padding mean nothing.
      cache: the tokens before these, whose room must suffice for both; None:
        there are none.
      positions_BxP: int32 in [0, L), the positions among these tokens whose logits
        to compute, of which a large vocabulary makes the largest array by far;
        None: all of them.
      layer_inputs_NxBxLxD: what each layer reads in place of the output of the one
        before it, so that the layers are computed apart from each other; None: they
        follow each other.
      hidden_BxLxD: hidden states whose logits to compute in place of the tokens' own
        (a logit lens): final norm and unembedding alone are run, and no other option
        is read. None: those of the last layer.
      added: by the index k in [0, N] of a hidden state, as in `capture`, what is added
        to it, broadcastable to [B, L, D].
      removed_D: a direction of length 1 that is projected out of the residual stream,
        h - (h . u) u, wherever something is added to it; None: none is.

    Returns:
      Output(logits [B, L, V] or [B, P, V] float32, captured {k: [B, L, D]}, cache
      with these tokens added or None).

    Raises:
      ValueError: on an unknown node, a mask that does not broadcast, a capture
        index outside [0, N], names not in CAPTURES or mixed with indices,
        `valid_BxL` of another shape than the tokens, more tokens than the cache has
        room for, or positions that are not [B, P].
    """
    hidden = self.hidden(
      params,
      tokens_BxL,
      routes=routes,
      capture=capture,
      valid_BxL=valid_BxL,
      cache=cache,
      positions_BxP=positions_BxP,
      layer_inputs_NxBxLxD=layer_inputs_NxBxLxD,
      hidden_BxLxD=hidden_BxLxD,
      added=added,
      removed_D=removed_D,
    )
    logits_BxLxV = self.unembed(self.unembedding(params), hidden[0])
    return Output(logits_BxLxV, *hidden[1:])

  def hidden(
    self,
    params: Params,
    tokens_BxL: jax.Array,
    *,
    routes: Mapping[str, Mask] | None = None,
    capture: tuple[int, ...] | tuple[str, ...] = (),
    valid_BxL: jax.Array | None = None,
    cache: Cache | None = None,
    positions_BxP: jax.Array | None = None,
    layer_inputs_NxBxLxD: jax.Array | None = None,
    hidden_BxLxD: jax.Array | None = None,
    added: Mapping[int, jax.Array] | None = None,
    removed_D: jax.Array | None = None,
  ) -> tuple[jax.Array, dict[Any, jax.Array], Cache | None]:
    """Compute what `unembed` makes logits of: `apply` without its last product.

    Args and Raises: see `apply`.

    Returns:
      (hidden states after the final norm [B, L, D] or [B, P, D], compute dtype;
      captured; cache), the latter two as in Output.
    """
    if hidden_BxLxD is not None:
      scale = {"params": params["final_norm"]}
      normed_BxLxD: Any = Norm(self.config).apply(scale, hidden_BxLxD)
      return normed_BxLxD, {}, None
    routes = dict(routes or {})
    self._check(tokens_BxL, routes, capture, valid_BxL)
    self._check_places(tokens_BxL, cache, positions_BxP)
    self._check_indices("added", added or {})
    output: Any = self._decoder.apply(
      {"params": params},
      tokens_BxL,
      routes,
      tuple(capture),
      valid_BxL,
      cache,
      positions_BxP,
      layer_inputs_NxBxLxD,
      dict(added or {}),
      removed_D,
    )
    return output

  def unembed(self, params: Params, hidden_BxLxD: jax.Array) -> jax.Array:
    """Compute softcap(hidden @ unembedding), the logits [B, L, V] in float32.

    Args:
      params: `unembedding` of the parameters.
      hidden_BxLxD: what `hidden` returns.
    """
    hidden_BxLxD = placement.constrain(hidden_BxLxD, "data", None, None)
    is_tied = self.config.tied
    kernel = params["embedding"] if is_tied else params["head"]["kernel"]
    kernel = kernel.astype(hidden_BxLxD.dtype)
    logits_BxLxV = matmul(hidden_BxLxD, kernel, is_transposed=is_tied)
    logits_BxLxV = logits_BxLxV.astype(jnp.float32)
    logits_BxLxV = placement.constrain(logits_BxLxV, "data", None, placement.VOCABULARY)
    return softcap(logits_BxLxV, self.config.logit_softcap)

  def unembedding(self, params: Params) -> Params:
    """Return the part of the parameters that `unembed` reads, laid out for it.

    By the vocabulary: every device then makes the logits of its part of the
    vocabulary from the hidden states of a few rows more, and none holds the matrix.
    """
    if self.config.tied:
      embedding_VxD = params["embedding"]
      return {
        "embedding": placement.constrain(embedding_VxD, placement.VOCABULARY, None)
      }
    kernel_DxV = params["head"]["kernel"]
    return {
      "head": {"kernel": placement.constrain(kernel_DxV, None, placement.VOCABULARY)}
    }

  def _check_indices(self, name, indices):
    size = self.config.num_layers
    if not all(0 <= index <= size for index in indices):
      raise ValueError(f"{name} indices lie in [0, {size}], got {tuple(indices)}")

  def _check_places(self, tokens_BxL, cache, positions_BxP):
    B, L = tokens_BxL.shape
    if cache is not None and cache.valid_BxM.shape[1] < L:
      raise ValueError(
        f"the cache has room for {cache.valid_BxM.shape[1]} tokens, got {L}; give "
        "init_cache the room for all tokens of a row"
      )
    shape = None if positions_BxP is None else jnp.shape(positions_BxP)
    if shape is not None and (len(shape) != 2 or shape[0] != B):
      raise ValueError(f"positions_BxP must have the shape ({B}, P), got {shape}")

  def _check(self, tokens_BxL, routes, capture, valid_BxL):
    c = self.config
    B, L = tokens_BxL.shape
    shapes: dict[str, tuple[int, ...]] = {
      name: (c.num_layers, B, L, c.width) for name in NODES
    }
    shapes["attention/heads"] = (c.num_layers, B, L, c.num_heads, c.head_dim)
    shapes["mlp/hidden"] = (c.num_layers, B, L, c.mlp_width)
    for name, mask in routes.items():
      if name not in shapes:
        raise ValueError(f"unknown route {name!r}; the nodes are {', '.join(NODES)}")
      if isinstance(mask, list | tuple) and not isinstance(mask, TokenMask):
        raise ValueError(f"route {name!r} must be an array or a TokenMask, got {mask}")
      stacked = jnp.shape(mask.table if isinstance(mask, TokenMask) else mask)
      # A table [S, ...units] lacks them even where S is their number.
      lacks_axis = isinstance(mask, TokenMask) and len(stacked) < len(shapes[name]) - 1
      if stacked[:1] != (c.num_layers,) or lacks_axis:
        raise ValueError(
          f"route {name!r} must have the {c.num_layers} layers as leading axis, got "
          f"shape {stacked}; routing.masks.at_layers makes it of one layer's mask"
        )
      layer = jax.eval_shape(lambda m: _of_layer(m, 0), mask)
      try:
        check_broadcastable(layer, shapes[name][1:])
      except ValueError as error:
        raise ValueError(f"route {name!r}, in every layer: {error}") from None
    if any(isinstance(index, str) for index in capture):
      if not set(capture) <= set(CAPTURES):
        raise ValueError(
          f"captures are indices or names among {', '.join(CAPTURES)}, got {capture}"
        )
    else:
      self._check_indices("capture", capture)
    if valid_BxL is not None and valid_BxL.shape != (B, L):
      raise ValueError(
        f"valid_BxL must have the tokens' shape {(B, L)}, got {valid_BxL.shape}"
      )


def partition_rules(config: ModelConfig) -> trees.Rules:
  """Return the mesh axes of every parameter: (path regex, axes) for sharding.

  The leading axis of what lies under layers/ is the layers'.
  """
  rules: list[tuple[str, tuple[str | None, ...]]] = [
    ("embedding", ("tensor", "fsdp")),
    (r"layers/attention/(query|key|value)/kernel", (None, *INTO)),
    (r"layers/attention/out/kernel", (None, *OUT_OF)),
    (r"layers/mlp/(gate|up)/kernel", (None, *INTO)),
    (r"layers/mlp/down/kernel", (None, *OUT_OF)),
    (r"(.*/)?scale", ()),
  ]
  if not config.tied:
    rules.append(("head/kernel", ("fsdp", "tensor")))
  if config.qkv_bias:
    rules.append((r"layers/attention/(query|key|value)/bias", (None, "tensor")))
  if config.out_bias:
    rules.append((r"layers/attention/out/bias", (None, "fsdp")))
  if config.mlp_bias:
    rules.append((r"layers/mlp/(gate|up)/bias", (None, "tensor")))
    rules.append((r"layers/mlp/down/bias", (None, "fsdp")))
  return tuple(rules)


def noise_rules(config: ModelConfig) -> trees.Rules:
  """Return the rules of interpolation.toward_init that lead to a fresh model.

  Matrices go toward Xavier noise, biases toward zero, norms toward the identity.
  """
  norm = interpolation.zero if config.norm_offset else interpolation.one
  rules: list[tuple[str, Any]] = [(r"(.*/)?scale", norm)]
  if config.qkv_bias or config.out_bias or config.mlp_bias:
    rules.append((r".*/bias", interpolation.zero))
  return (*rules, (r".*", interpolation.xavier_uniform))


# Axes of parameters along which the weights of one unit lie: the inputs of an output
# unit, the entries of a token; () where each weight stands alone.
UNIT_AXES: trees.Rules = ((r".*/kernel", (-2,)), ("embedding", (-1,)), (".*", ()))


class _Decoder(nn.Module):
  config: ModelConfig

  @nn.compact
  def __call__(
    self,
    tokens_BxL,
    routes,
    capture,
    valid_BxL,
    cache,
    positions_BxP,
    inputs_NxBxLxD,
    added=None,
    removed_D=None,
  ):
    c, added = self.config, added or {}
    embedding_VxD = self.param(
      "embedding", nn.initializers.normal(c.init_std), (c.vocab_size, c.width)
    )
    # Looked up, and its gradient summed, where each slice of the width lies. The
    # cast comes after, so that the gradients of a token add up in float32.
    embedding_VxD = placement.constrain(embedding_VxD, "tensor", "fsdp")
    x_BxLxD = jnp.take(embedding_VxD, tokens_BxL, axis=0).astype(c.dtype)
    x_BxLxD = placement.constrain(x_BxLxD, "data", None, "fsdp")
    x_BxLxD = placement.constrain(x_BxLxD, placement.ROWS, None, None)
    if c.scale_embedding:
      x_BxLxD *= jnp.sqrt(jnp.asarray(c.width, c.dtype))
    if 0 in added:
      x_BxLxD += added[0].astype(c.dtype)
    x_BxLxD = without(x_BxLxD, removed_D)

    if cache is not None:
      cache = _add_valid(cache, tokens_BxL.shape, valid_BxL)
    context = _context(c, tokens_BxL.shape[1], valid_BxL, cache)
    kernel = None
    if cache is None and valid_BxL is None:
      kernel = _kernel_for(c, tokens_BxL.shape)
    scan: Any = nn.scan  # Its annotation knows no broadcast arguments.
    layers = scan(
      _remat(Layer, c.remat),
      variable_axes={"params": 0},
      split_rngs={"params": True},
      in_axes=(0, nn.broadcast, _route_axes(routes), 0, 0, *2 * (nn.broadcast,)),
      length=c.num_layers,
      unroll=layers_a_turn(c),
    )(
      c,
      collect=_collected(capture),
      kernel=kernel,
      name="layers",
    )
    index_N = jnp.arange(c.num_layers)
    is_local_N = (index_N + 1) % c.global_every != 0
    added_after = {k: x for k, x in added.items() if k}
    embedded_BxLxD = x_BxLxD
    before = None if cache is None else (cache.key, cache.value)
    x_BxLxD, (collected, after) = layers(
      x_BxLxD,
      (is_local_N, index_N) if added_after else (is_local_N, None),
      context,
      routes,
      before,
      inputs_NxBxLxD,
      added_after,
      removed_D,
    )
    if cache is not None:
      length = cache.length + tokens_BxL.shape[1]
      cache = cache._replace(key=after[0], value=after[1], length=length)
    named = {"embedding": embedded_BxLxD, 0: embedded_BxLxD, **collected}
    captured = {
      k: named[k] if k in named else collected["residual"][k - 1]
      for k in capture
      if k != "final_norm"
    }
    if positions_BxP is not None:
      x_BxLxD = jnp.take_along_axis(x_BxLxD, positions_BxP[:, :, None], axis=1)
    x_BxLxD = Norm(c, name="final_norm")(x_BxLxD)
    if "final_norm" in capture:
      captured["final_norm"] = x_BxLxD
    if not c.tied and self.is_initializing():
      Dense(c, c.vocab_size, name="head")(x_BxLxD)  # See Decoder.unembed.
    return x_BxLxD, captured, cache


def _collected(capture) -> tuple[str, ...]:
  """Return the nodes whose outputs the scan over layers has to stack."""
  hidden = any(isinstance(k, int) and k > 0 or k == "residual" for k in capture)
  nodes = ("mlp/hidden", "mlp/out")
  return ("residual",) * hidden + tuple(node for node in nodes if node in capture)


def _remat(layer, policy: str):
  if policy == "none":
    return layer
  saveable = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": None,
  }[policy]
  return nn.remat(layer, policy=saveable, prevent_cse=False)


def _kernel_for(config: ModelConfig, shape) -> str | None:
  """Return which kernel computes the attention; None: none does."""
  c, platform = config, placement.platform()
  if c.attention != "splash":
    return None
  if platform == "tpu" and attention.fits(shape[1], c.head_dim):
    return "splash"
  if platform == "gpu" and attention.cudnn_fits(
    c.head_dim, c.dtype, c.attention_softcap
  ):
    return "cudnn"
  return None


def _context(config: ModelConfig, length: int, valid_BxL, cache) -> Context:
  """Return the rotary tables and masks of `length` tokens after the cache's."""
  c = config
  offset = 0 if cache is None else cache.length
  query = offset + jnp.arange(length)
  key = query if cache is None else jnp.arange(cache.valid_BxM.shape[1])
  causal = key[None, :] <= query[:, None]
  local = None
  # Where the window reaches everything, one mask serves both.
  if c.sliding_window is not None and key.shape[0] > c.sliding_window:
    local = causal & (key[None, :] > query[:, None] - c.sliding_window)
  valid = valid_BxL if cache is None else cache.valid_BxM
  if valid is not None:
    valid = valid[:, None, None, None, :]
    causal = causal & valid
    local = None if local is None else local & valid
  # Positions stay whole numbers up to the product, so that none is rounded.
  tables = rotary.tables(query, rotary.wavelengths(c))
  local_tables = None
  if c.rope_local_theta is not None:
    local_tables = rotary.tables(
      query, rotary.plain_wavelengths(c.rope_local_theta, c.head_dim)
    )
  start = None if cache is None else cache.length
  return Context(tables, local_tables, causal, local, start)


def _add_valid(cache: Cache, shape: tuple[int, int], valid_BxL) -> Cache:
  new_BxL = jnp.ones(shape, bool) if valid_BxL is None else valid_BxL.astype(bool)
  valid = jax.lax.dynamic_update_slice(cache.valid_BxM, new_BxL, (0, cache.length))
  return cache._replace(valid_BxM=valid)


def _of_layer(mask, index):
  if isinstance(mask, TokenMask):
    return mask._replace(table=mask.table[index])
  return mask[index]


def _route_axes(routes):
  """Return what the scan over layers takes apart: of a TokenMask, the table."""
  axes: Any = TokenMask
  return {
    name: axes(0, nn.broadcast) if isinstance(mask, TokenMask) else 0
    for name, mask in routes.items()
  }
