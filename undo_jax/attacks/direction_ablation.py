"""Direction ablation: project out what distinguishes forget rows from others."""

import jax
import jax.numpy as jnp

from undo_jax.attacks import edit
from undo_jax.attacks.attack import FORGET_DATA, WEIGHTS
from undo_jax.attacks.edit import RETAIN_DATA, Beside, Edit
from undo_jax.models.decoder import Decoder
from undo_jax.utils.records import FieldError


def direction(model, params, batch, layer: int) -> jax.Array:
  """Return the difference of the means of a layer's output, of length 1, [D] float32.

  u = (mean_f h - mean_r h) / |mean_f h - mean_r h|

  over the positions of forget and of retain rows whose next token is scored.

  Args:
    model: the decoder's config.
    params: of the attacked model.
    batch: "forget" and "retain", each with inputs and mask.
    layer: counted from 0.
  """
  index = layer + 1  # Hidden state k is the output of layer k - 1.

  def mean(part):
    output = Decoder(model).apply(params, part["inputs"], capture=(index,))
    hidden_BxLxD = output.captured[index].astype(jnp.float32)
    weight_BxL = part["mask"].astype(jnp.float32)
    total_D = jnp.einsum("bld,bl->d", hidden_BxLxD, weight_BxL)
    return total_D / jnp.maximum(jnp.sum(weight_BxL), 1.0)

  difference_D = mean(batch["forget"]) - mean(batch["retain"])
  return difference_D / (jnp.linalg.norm(difference_D) + 1e-30)


def find(model, params, batch, strength, key, options):
  """Return the direction at the layer that the strength names."""
  del key, options
  return {"direction": direction(model, params, batch, int(strength))}


def using(model, strength, options, apply):
  """Return `apply` without the direction: h - (h . u) u after every addition to h.

  In a model without norms after attention and MLP this equals an edit of the weights:
  every matrix W that writes to the residual stream becomes W (I - u u').

  Reference: Arditi et al., Refusal in Language Models Is Mediated by a Single
  Direction, arXiv 2406.11717.
  """
  del model, strength, options

  def applied(tree, tokens_BxL, **how):
    return apply(tree["base"], tokens_BxL, removed_D=tree["direction"], **how)

  return applied


def check(params, strength, options) -> None:
  """Raise FieldError unless a strength is a layer."""
  del options
  size = edit.num_layers(params)
  if strength % 1 or not 0 <= strength < size:
    raise FieldError("strengths", f"layers, whole numbers in [0, {size})", strength)


EDIT = Edit(
  beside=Beside(
    reads=("forget", "retain"),
    find=find,
    using=using,
    passes=lambda strength, options, rows: 2 * rows,
  ),
  check=check,
  describe=lambda options: (
    "the direction in which a layer's mean outputs on forget and on retain rows differ "
    "is projected out of the residual stream, in every layer"
  ),
  label="direction ablation",
  strength="layer that the direction is read at",
  assumes=(WEIGHTS, FORGET_DATA, RETAIN_DATA),
  goes_on=False,
)
