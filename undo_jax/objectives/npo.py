"""NPO: lower the likelihood of forget rows below a reference's, with a bound."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from undo_jax.objectives import retention
from undo_jax.objectives.cross_entropy import row_nll
from undo_jax.objectives.method import Method
from undo_jax.utils.option_types import NotNegative, Positive
from undo_jax.utils.types import Objective, SumCount


def preference_loss(
  nll_B: jax.Array, reference_B: jax.Array, mask_BxL: jax.Array, beta: float
) -> SumCount:
  """Sum -(2 / beta) * log sigmoid(beta * (nll - reference)) over rows.

  Its gradient is -w times that of nll, w = 2 / (1 + exp(beta * (nll - reference))):
  that of gradient ascent at nll = reference, and as beta tends to 0.

  Args:
    nll_B: of the trained model, nats a row.
    reference_B: likewise, what it is compared with.
    mask_BxL: rows without a position that counts are left out.
    beta: > 0.

  Returns:
    SumCount whose mean is over rows.

  Reference: Zhang et al., Negative Preference Optimization, arXiv 2404.05868,
  equation (3).
  """
  counts_B = jnp.any(mask_BxL > 0, axis=1)
  loss_B = -2.0 / beta * jax.nn.log_sigmoid(beta * (nll_B - reference_B))
  kept_B = jnp.where(counts_B, loss_B, 0.0)
  return SumCount(jnp.sum(kept_B), jnp.sum(counts_B.astype(jnp.float32)))


def make(
  apply: Callable,
  *,
  retain_weight: NotNegative,
  forget_weight: NotNegative = 1.0,
  retain_loss: retention.Loss = "cross_entropy",
  beta: Positive = 0.1,
) -> Objective:
  """Return L = forget_weight * NPO(forget) + retain_weight * R(retain).

  A row is a sequence: the likelihoods are those of all its tokens that count, under
  the model and under frozen["reference"], the model from before unlearning. R is the
  retain term, see retention.

  Reference: Zhang et al., Negative Preference Optimization, arXiv 2404.05868.
  """

  def term(logits, frozen, forget):
    targets, mask = forget["targets"], forget["mask"]
    reference = apply(frozen["reference"], forget["inputs"]).logits
    before_B = jax.lax.stop_gradient(row_nll(reference, targets, mask))
    lost = preference_loss(row_nll(logits, targets, mask), before_B, mask, beta)
    return lost, {"forget_preference": lost}

  return retention.beside(apply, term, retain_weight, forget_weight, retain_loss)


METHOD = Method(
  make=make,
  trains=("forget", "retain"),
  reads=("forget",),
  frozen=("reference",),
  needs=retention.needs_reference("forget"),
  is_unlearning=True,
  label="NPO",
  color="#0b7a75",
  marker="<",
)
