"""Text token by token, greedy or sampled, as one compiled program.

The prompts go through the decoder once and fill its cache; a loop then appends one
token to every row and ends when all rows have ended. Nothing leaves the device
before.
"""

from collections.abc import Callable, Sequence
import functools
import math
import operator
from typing import Any, NamedTuple

import jax
from jax.core import Tracer
import jax.numpy as jnp
import numpy as np

from undo_jax.models.config import layers_a_turn
from undo_jax.models.decoder import Cache, Decoder
from undo_jax.utils.types import Params


class Generated(NamedTuple):
  """What was appended to the prompts; see `make_generate`."""

  tokens_BxT: jax.Array  # int32; after the end of a row pad_id.
  num_B: jax.Array  # int32, tokens of a row, the one that ended it included.


class _State(NamedTuple):
  step: jax.Array  # int32 scalar, tokens appended so far.
  cache: Cache
  tokens_BxT: jax.Array
  num_B: jax.Array
  done_B: jax.Array  # bool.


def make_generate(
  model: Decoder,
  *,
  num_tokens: int,
  temperature: float = 0.0,
  stop_ids: Sequence[int] = (),
  pad_id: int = 0,
) -> Callable[..., Generated]:
  """Return a compiled `generate`, which appends tokens to prompts.

  token = argmax(logits), or at a temperature > 0 a draw from
  softmax(logits / temperature) with the key fold_in(fold_in(key, step), row): a row
  depends neither on the others nor on its padding.

  Args:
    model: the decoder.
    num_tokens: T, appended to a row at most.
    temperature: >= 0; 0: the most likely token, of equals the first.
    stop_ids: tokens in [0, V) that end a row; they belong to it.
    pad_id: in [0, V), fills rows up after their end.

  Returns:
    `generate(params, tokens_BxL, valid_BxL=None, *, key=None, is_stop_V=None)`, pure
    and compiled once for each shape. tokens_BxL: int32, the prompts, padded on the
    left; valid_BxL: bool, False on the padding, None: there is none; a row without
    a valid token stays empty. key: of the draws, needed at a temperature > 0.
    is_stop_V: bool, True for further ids that end a row, where these change from
    call to call. It returns Generated(tokens [B, T] int32, num [B] int32), and
    raises ValueError if a token lies outside [0, V), a mask has a wrong shape or
    pads elsewhere than on the left, or the key is missing.

  Raises:
    ValueError: if num_tokens < 1, the temperature is negative or not finite, or
      pad_id or a stop id lies outside [0, V).
  """
  V = model.config.vocab_size
  if num_tokens < 1:
    raise ValueError(f"num_tokens must be at least 1, got {num_tokens}")
  if not 0 <= temperature < math.inf:
    raise ValueError(
      f"temperature must be finite and >= 0 (0: greedy), got {temperature}"
    )
  outside = [index for index in (*stop_ids, pad_id) if not 0 <= index < V]
  if outside:
    raise ValueError(
      f"stop_ids and pad_id must lie in [0, {V}), the model's vocabulary, got {outside}"
    )
  own_stop_V = np.zeros(V, bool)
  own_stop_V[list(stop_ids)] = True
  run = jax.jit(functools.partial(_generate, model, num_tokens, temperature, pad_id))

  def generate(params, tokens_BxL, valid_BxL=None, *, key=None, is_stop_V=None):
    if valid_BxL is None:
      valid_BxL = np.ones(np.shape(tokens_BxL), bool)
    _check_prompts(tokens_BxL, valid_BxL, V)
    if key is None and temperature > 0:
      raise ValueError(f"temperature {temperature} draws tokens: give a key")
    key = jax.random.key(0) if key is None else key
    stop_V = own_stop_V
    if is_stop_V is not None:
      if np.shape(is_stop_V) != (V,):
        raise ValueError(f"is_stop_V must be ({V},), got {np.shape(is_stop_V)}")
      stop_V = own_stop_V | is_stop_V
    return run(params, tokens_BxL, valid_BxL, key, stop_V)

  return generate


def _check_prompts(tokens_BxL, valid_BxL, V):
  shape = np.shape(tokens_BxL)
  if len(shape) != 2 or shape[1] == 0:
    raise ValueError(f"prompts must be [B, L] with at least one token, got {shape}")
  if np.shape(valid_BxL) != shape:
    raise ValueError(
      f"valid_BxL must have the tokens' shape {shape}, got {np.shape(valid_BxL)}"
    )
  if isinstance(tokens_BxL, Tracer) or isinstance(valid_BxL, Tracer):
    return  # Under a jit of the caller's there are no values to check.
  tokens, valid = np.asarray(tokens_BxL), np.asarray(valid_BxL)
  wrong = tokens[(tokens < 0) | (tokens >= V)]
  if wrong.size:
    raise ValueError(f"tokens must lie in [0, {V}), the vocabulary, got {wrong[0]}")
  rows = np.flatnonzero((valid[:, :-1] & ~valid[:, 1:]).any(axis=1))
  if rows.size:
    raise ValueError(
      f"prompts must be padded on the left, but in row {rows[0]} of valid_BxL False "
      "follows True; move the padding before the tokens"
    )


def _generate(
  model: Decoder,
  num_tokens: int,
  temperature: float,
  pad_id: int,
  params: Params,
  tokens_BxL: jax.Array,
  valid_BxL: jax.Array,
  key: jax.Array,
  is_stop_V: jax.Array,
) -> Generated:
  B, L = tokens_BxL.shape
  params, whole = _apart(model, params)

  def next_logits(tokens, valid, cache) -> tuple[jax.Array, Any]:
    last_Bx1 = jnp.full((B, 1), tokens.shape[1] - 1)
    output = model.apply(
      whole(params), tokens, valid_BxL=valid, cache=cache, positions_BxP=last_Bx1
    )
    return output.logits[:, 0], output.cache

  def append(state, logits_BxV):
    token_B = _choose(logits_BxV, temperature, jax.random.fold_in(key, state.step))
    token_B = jnp.where(state.done_B, pad_id, token_B)
    return state._replace(
      step=state.step + 1,
      tokens_BxT=state.tokens_BxT.at[:, state.step].set(token_B),
      num_B=state.num_B + ~state.done_B,
      done_B=state.done_B | jnp.take(is_stop_V, token_B, mode="clip"),
    )

  def step(state):
    token_Bx1 = jax.lax.dynamic_slice(state.tokens_BxT, (0, state.step - 1), (B, 1))
    logits_BxV, cache = next_logits(token_Bx1, None, state.cache)
    return append(state._replace(cache=cache), logits_BxV)

  # What the last token appended would attend to is not needed: no room for it.
  cache = model.init_cache(B, L + num_tokens - 1)
  logits_BxV, cache = next_logits(tokens_BxL, valid_BxL, cache)
  state = _State(
    step=jnp.zeros((), jnp.int32),
    cache=cache,
    tokens_BxT=jnp.full((B, num_tokens), pad_id, jnp.int32),
    num_B=jnp.zeros(B, jnp.int32),
    done_B=~jnp.any(valid_BxL, axis=1),
  )
  state = jax.lax.while_loop(
    lambda state: (state.step < num_tokens) & ~jnp.all(state.done_B),
    step,
    append(state, logits_BxV),
  )
  return Generated(state.tokens_BxT, state.num_B)


def _apart(model: Decoder, params: Params) -> tuple[Any, Callable[[Any], Params]]:
  """Return parameters as the loop over tokens holds them, and what puts them together.

  Where all layers are unrolled, each has arrays of its own: a slice of a stacked array
  is copied for every token, and XLA finds that a slice of a stack is what was stacked.
  """
  num_layers = model.config.num_layers
  if layers_a_turn(model.config) < num_layers or "layers" not in params:
    return params, lambda params: params

  def whole(params):
    layers = jax.tree.map(lambda *layers: jnp.stack(layers), *params["layers"])
    return params | {"layers": layers}

  taken = map(operator.itemgetter, range(num_layers))
  layers = [jax.tree.map(take, params["layers"]) for take in taken]
  return params | {"layers": layers}, whole


def _choose(logits_BxV, temperature, key):
  """Return the next token of every row, int32 [B]."""
  if temperature == 0:
    return jnp.argmax(logits_BxV, axis=-1).astype(jnp.int32)
  row_B = jnp.arange(logits_BxV.shape[0])
  key_B = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, row_B)
  draw = jax.vmap(jax.random.categorical)
  return draw(key_B, logits_BxV / temperature).astype(jnp.int32)
