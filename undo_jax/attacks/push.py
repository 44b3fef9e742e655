"""Pushes: one trained vector is added to a hidden state of every token, within a norm.

At the embedding it is a bounded attack on the input, at a layer one on the residual
stream; no weight changes.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp

from undo_jax.attacks import beside, prompts
from undo_jax.attacks.attack import Attack, Members
from undo_jax.utils import records
from undo_jax.utils.records import FieldError


@records.record
class Options:
  """What is pushed, and how far."""

  layer: int | None  # Whose output, counted from 0; None: the embedding's.
  # Of the ball, in units of the embeddings: the length of a typical one (l2), or the
  # root mean square of what it holds (linf).
  radius: float
  norm: Literal["l2", "linf"] = "l2"

  def __post_init__(self):
    records.above(self, "radius")


def parse(options) -> Options:
  """Return the record that a config's options say; raise ConfigError."""
  return records.from_json(Options, dict(options), path="options")


def projected(push_D: jax.Array, radius: float, norm: str) -> jax.Array:
  """Return the nearest vector with |d|_2 <= radius sqrt(D), or max|d| <= radius.

  Reference: Madry et al., Towards Deep Learning Models Resistant to Adversarial
  Attacks, arXiv 1706.06083.
  """
  if norm == "linf":
    return jnp.clip(push_D, -radius, radius)
  largest = radius * push_D.size**0.5
  return push_D * jnp.minimum(1.0, largest / (jnp.linalg.norm(push_D) + 1e-30))


def pushing(model, apply, layer: int | None):
  """Return `apply` of {"base": params, "push": [D]} that adds the push at a place.

  h[t] + s d  at every position t, s of prompts.unit
  """
  index = 0 if layer is None else layer + 1  # Hidden state k is layer k - 1's output.

  def applied(tree, tokens_BxL, **how):
    push_D = prompts.unit(model, tree["base"]) * tree["push"]
    return apply(tree["base"], tokens_BxL, added={index: push_D}, **how)

  return applied


def members(model, options, objective) -> Members:
  """Return members that train one push from 0, projected after every update.

  It is universal: the same for every token of the rows that are trained on and of
  those that are scored. A push of a single row would say nothing about other rows.

  References: universal perturbations, Moosavi-Dezfooli et al., arXiv 1610.08401; of
  embeddings, Schwinn et al., Soft Prompt Threats, arXiv 2402.09063; of the residual
  stream, Sheshadri et al., Latent Adversarial Training, arXiv 2407.15549.
  """
  del objective
  how = parse(options)
  return beside.members(
    model,
    start=lambda params, key: {"push": jnp.zeros(model.width)},
    using=functools.partial(pushing, model, layer=how.layer),
    project=lambda trained, frozen: {
      "push": projected(trained["push"], how.radius, how.norm)
    },
  )


def check(model, options) -> None:
  """Raise FieldError unless the layer is there."""
  layer, size = parse(options).layer, model.num_layers
  if layer is not None and not 0 <= layer < size:
    raise FieldError("options.layer", f"None or a layer in [0, {size})", layer)


def describe(options) -> str:
  """Return what is trained: where, and within which norm."""
  how = parse(options)
  place = "embedding" if how.layer is None else f"output of layer {how.layer}"
  ball = f"{how.norm} norm of {how.radius:g} embeddings"
  return f"pushes on the {place} of every token (within an {ball})"


ATTACK = Attack(
  members=members,
  check=check,
  describe=describe,
  label="push",
  trains_weights=False,
)
