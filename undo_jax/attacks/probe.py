"""Linear probes: the next token is read from a layer's output, as a diagnostic.

A probe says what a layer holds, not what the model does, so no worst case has it.
"""

import functools

import jax
import jax.numpy as jnp

from undo_jax.attacks import beside
from undo_jax.attacks.attack import Attack, Members
from undo_jax.objectives import chunked
from undo_jax.utils import records
from undo_jax.utils.records import FieldError


@records.record
class Options:
  """What is read."""

  layer: int  # Whose output, counted from 0.


def parse(options) -> Options:
  """Return the record that a config's options say; raise ConfigError."""
  return records.from_json(Options, dict(options), path="options")


def read(weights, hidden_BxLxD: jax.Array) -> jax.Array:
  """Return W h / rms(h) + b, the logits [B, L, V] in float32."""
  h = hidden_BxLxD.astype(jnp.float32)
  h *= jax.lax.rsqrt(jnp.mean(h * h, axis=-1, keepdims=True) + 1e-6)
  kernel, bias = (weights[name].astype(jnp.float32) for name in ("kernel", "bias"))
  return h @ kernel + bias


def probing(apply, layer: int):
  """Return `apply` of {"base": params, "kernel": [D, V], "bias": [V]}."""
  index = layer + 1  # Hidden state k is the output of layer k - 1.

  def applied(tree, tokens_BxL, *, positions_BxP=None):
    output = apply(tree["base"], tokens_BxL, capture=(index,))
    hidden = output.captured[index]
    if positions_BxP is not None:
      hidden = jnp.take_along_axis(hidden, positions_BxP[..., None], axis=1)
    weights = {"kernel": tree["kernel"], "bias": tree["bias"]}
    if isinstance(output.logits, chunked.Deferred):
      logits = chunked.Deferred(hidden, weights, read, output.logits.chunk)
      return output._replace(logits=logits)
    return output._replace(logits=read(weights, hidden))

  return applied


def members(model, options, objective) -> Members:
  """Return members that train a probe from 0; cross-entropy is convex in it.

  Reference: Alain and Bengio, Understanding Intermediate Layers Using Linear Classifier
  Probes, arXiv 1610.01644.
  """
  del objective
  layer, shape = parse(options).layer, (model.width, model.vocab_size)
  return beside.members(
    model,
    start=lambda params, key: {"kernel": jnp.zeros(shape), "bias": jnp.zeros(shape[1])},
    using=functools.partial(probing, layer=layer),
  )


def check(model, options) -> None:
  """Raise FieldError unless the layer is there."""
  layer, size = parse(options).layer, model.num_layers
  if not 0 <= layer < size:
    raise FieldError("options.layer", f"a layer in [0, {size})", layer)


ATTACK = Attack(
  members=members,
  check=check,
  describe=lambda options: f"linear probes of the output of layer {options['layer']}",
  label="linear probe",
  trains_weights=False,
  is_reading=True,
)
