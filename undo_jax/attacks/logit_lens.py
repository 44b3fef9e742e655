"""The logit lens: a layer's output read by the unembedding, as a diagnostic.

It says how much a layer holds, not what an attacker gets, so no worst case has it.
"""

import jax.numpy as jnp

from undo_jax.attacks import edit
from undo_jax.attacks.attack import WEIGHTS
from undo_jax.attacks.edit import Beside, Edit
from undo_jax.utils.records import FieldError


def using(model, strength, options, apply):
  """Return `apply` whose logits are of the layer's output: norm and unembedding alone.

  unembed(norm(h_k)); for the last layer these are the model's own logits

  Reference: nostalgebraist, interpreting GPT: the logit lens (2020); Belrose et al.,
  Eliciting Latent Predictions with the Tuned Lens, arXiv 2303.08112.
  """
  del model, options
  index = int(strength) + 1  # Hidden state k is the output of layer k - 1.

  def applied(tree, tokens_BxL, *, positions_BxP=None):
    params = tree["base"]
    hidden = apply(params, tokens_BxL, capture=(index,)).captured[index]
    if positions_BxP is not None:
      hidden = jnp.take_along_axis(hidden, positions_BxP[..., None], axis=1)
    return apply(params, tokens_BxL, hidden_BxLxD=hidden)

  return applied


def check(params, strength, options) -> None:
  """Raise FieldError unless a strength is a layer."""
  del options
  size = edit.num_layers(params)
  if strength % 1 or not 0 <= strength < size:
    raise FieldError("strengths", f"layers, whole numbers in [0, {size})", strength)


EDIT = Edit(
  beside=Beside(
    reads=(),
    find=lambda model, params, batch, strength, key, options: {},
    using=using,
    passes=lambda strength, options, rows: 0,
  ),
  check=check,
  describe=lambda options: "the unembedding reads the output of a layer (logit lens)",
  label="logit lens",
  strength="layer",
  assumes=(WEIGHTS,),
  goes_on=False,
  is_reading=True,
)
