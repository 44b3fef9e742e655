"""Losses of logits that are never whole in memory: a chunk of positions at a time.

The logits of a batch take B * L * V * 4 bytes; with a vocabulary of 256 thousand they
are the largest array of a step by far. Here a loss takes hidden states instead and
makes the logits of a few positions of every row, one chunk after the other.

The gradient is exact. It is taken in the same turn of the loop, while the chunk's
logits are there, so that they are not computed twice; this is possible because a
loss is a sum over positions, whose derivative is scaled by one number afterwards.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from undo_jax.models.decoder import Decoder, Output
from undo_jax.utils.types import Params, SumCount


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=("hidden_BxLxD", "weights"),
  meta_fields=("unembed", "chunk"),
)
@dataclasses.dataclass(frozen=True)
class Deferred:
  """Logits that are not computed yet: unembed(weights, hidden)."""

  hidden_BxLxD: jax.Array
  weights: Params
  unembed: Callable[[Params, jax.Array], jax.Array]
  chunk: int  # Positions of each row whose logits are held at once.

  @property
  def shape(self) -> tuple[int, ...]:
    """That of the logits: (B, L, V)."""
    return jax.eval_shape(self.unembed, self.weights, self.hidden_BxLxD).shape


def deferring(decoder: Decoder) -> Callable[..., Output]:
  """Return `decoder.apply`, whose logits are Deferred if its config says so.

  Losses made by `summed` take such logits; with model.logits_chunk None, it is
  `apply` itself.
  """
  chunk = decoder.config.logits_chunk
  if chunk is None:
    return decoder.apply

  def apply(params, tokens_BxL, **options):
    hidden, captured, cache = decoder.hidden(params, tokens_BxL, **options)
    logits: Any = Deferred(hidden, decoder.unembedding(params), decoder.unembed, chunk)
    return Output(logits, captured, cache)

  return apply


def from_position(logits: Any, start: int) -> Any:
  """Return the logits of positions from `start` on, an array's or Deferred."""
  if not isinstance(logits, Deferred):
    return logits[:, start:]
  return dataclasses.replace(logits, hidden_BxLxD=logits.hidden_BxLxD[:, start:])


def summed(loss: Callable[..., SumCount]) -> Callable[..., SumCount]:
  """Make a loss of logits take Deferred ones too, chunk after chunk.

  loss(x) = sum over chunks c of loss(x[:, c])

  Args:
    loss: a function of arrays [B, L, ...] that sums over positions. It must ignore
      the positions where all arrays are zero (a mask among them), since the last
      chunk is filled up with those.

  Returns:
    `loss`, where any argument may be Deferred. Its gradient is then exact with
    respect to these arguments and accumulated in float32; the others, and the
    count, are taken as constant. It can be differentiated once.
  """

  @functools.wraps(loss)
  def chunked(*args):
    deferred = [x for x in args if isinstance(x, Deferred)]
    if not deferred:
      return loss(*args)
    length = deferred[0].hidden_BxLxD.shape[1]
    chunk = min(length, *(x.chunk for x in deferred))
    total: Any = _summed(loss, chunk, args)
    return SumCount(total.sum, jax.lax.stop_gradient(total.count))

  return chunked


def mapped(fn: Callable[..., Any], logits: Any, *arrays: jax.Array) -> Any:
  """Return `fn(logits, *arrays)`, a function of each position, in chunks if Deferred.

  Args:
    fn: from arrays [B, L, ...] to a tree of arrays [B, L, ...].
    logits: an array [B, L, V] or Deferred.
    arrays: [B, L, ...], cut as the logits are.
  """
  if not isinstance(logits, Deferred):
    return fn(logits, *arrays)
  length, cast = logits.hidden_BxLxD.shape[1], _cast(logits)
  parts = _split((logits, *arrays), min(length, logits.chunk))

  def of_chunk(parts):
    hidden, *others = parts
    return fn(_materialize(cast, cast.weights, hidden), *others)

  return jax.tree.map(lambda x: _whole(x, length), jax.lax.map(of_chunk, parts))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _summed(loss, chunk, args) -> SumCount:
  cast = tuple(map(_cast, args))

  def add(total, parts):
    logits = map(_materialize, cast, map(_weights, cast), parts)
    return jax.tree.map(jnp.add, total, loss(*logits)), None

  return jax.lax.scan(add, _nothing(), _split(args, chunk))[0]


def _forward(loss, chunk, args):
  """Compute the loss, and for every argument its gradient or None."""
  trained = [i for i, x in enumerate(args) if _is_trained(i, x)]
  args = jax.tree.map(lambda x: x.value, args, is_leaf=_is_primal)
  # To the compute dtype once, outside of the loop; sums over chunks in float32.
  cast = tuple(map(_cast, args))
  weights = tuple(map(_weights, cast))

  def add(carry, parts):
    total, sums = carry

    def value(active):
      chosen = [active.get(i, both) for i, both in enumerate(pairs)]
      logits = (_materialize(x, *both) for x, both in zip(cast, chosen, strict=True))
      part = loss(*logits)
      return part.sum, part

    pairs = list(zip(weights, parts, strict=True))
    active = {i: pairs[i] for i in trained}
    (_, part), grads = jax.value_and_grad(value, has_aux=True)(active)
    new = {i: grad for i, (grad, _) in grads.items()}
    sums = jax.tree.map(lambda sum, grad: sum + grad.astype(sum.dtype), sums, new)
    total = jax.tree.map(jnp.add, total, part)
    return (total, sums), {i: grad for i, (_, grad) in grads.items()}

  sums = jax.tree.map(
    lambda x: jnp.zeros(x.shape, jnp.float32), {i: weights[i] for i in trained}
  )
  start = _nothing(), sums
  (total, sums), hidden = jax.lax.scan(add, start, _split(args, chunk))
  grads: list[Any] = [None] * len(args)
  for i in trained:
    grads[i] = dataclasses.replace(
      args[i],
      hidden_BxLxD=_whole(hidden[i], args[i].hidden_BxLxD.shape[1]),
      weights=jax.tree.map(lambda g, x: g.astype(x.dtype), sums[i], args[i].weights),
    )
  return total, tuple(grads)


def _backward(loss, chunk, grads, cotangent):
  del loss, chunk
  return (jax.tree.map(lambda g: (g * cotangent.sum).astype(g.dtype), grads),)


_summed.defvjp(_forward, _backward, symbolic_zeros=True)


def _is_primal(x):
  return isinstance(x, jax.custom_derivatives.CustomVJPPrimal)


def _is_trained(index, x):
  perturbed = any(leaf.perturbed for leaf in jax.tree.leaves(x, is_leaf=_is_primal))
  if perturbed and not isinstance(x, Deferred):
    raise ValueError(
      f"argument {index} of a loss in chunks is an array with a gradient; only "
      "Deferred logits can have one"
    )
  return perturbed


def _nothing():
  return SumCount(jnp.zeros(()), jnp.zeros(()))


def _cast(x):
  if not isinstance(x, Deferred):
    return x
  dtype = x.hidden_BxLxD.dtype
  return dataclasses.replace(
    x, weights=jax.tree.map(lambda weight: weight.astype(dtype), x.weights)
  )


def _weights(x):
  return x.weights if isinstance(x, Deferred) else None


def _materialize(x, weights, part):
  return x.unembed(weights, part) if isinstance(x, Deferred) else part


def _split(args, chunk):
  """[B, L, ...] -> [L/C, B, C, ...], filled up with zeros; hidden states likewise.

  Positions are cut, not rows, so that every chunk is spread over all devices.
  """

  def split(x):
    x = x.hidden_BxLxD if isinstance(x, Deferred) else x
    B, L = x.shape[:2]
    x = jnp.pad(x, ((0, 0), (0, -L % chunk), *((0, 0) for _ in x.shape[2:])))
    return x.reshape(B, -1, chunk, *x.shape[2:]).swapaxes(0, 1)

  return tuple(map(split, args))


def _whole(parts, length):
  """[L/C, B, C, ...] -> [B, L, ...], the fill cut off."""
  _, B, _, *rest = parts.shape
  return parts.swapaxes(0, 1).reshape(B, -1, *rest)[:, :length]
