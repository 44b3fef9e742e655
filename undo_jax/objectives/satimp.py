"""SatImp: ascent weighted by how well a token is known and by what is left."""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp

from undo_jax.objectives import chunked, retention
from undo_jax.objectives.cross_entropy import masked_sum, token_nll
from undo_jax.objectives.method import Method
from undo_jax.utils.option_types import NotNegative
from undo_jax.utils.types import Objective, SumCount


@functools.cache
def weighted_likelihood(
  saturation: float, importance: float = 0.0
) -> Callable[[jax.Array, jax.Array, jax.Array], SumCount]:
  """Return a loss that sums weighted log-likelihoods of the targets.

  sum_t mask[t] * w[t] * log p[t],  w = p^saturation * (1 - p)^importance

  p[t] is the target's probability; no gradient flows through w. At exponents 0 it is
  gradient ascent; the weight is largest at p = saturation / (saturation + importance).

  Args:
    saturation: exponent of p, at least 0.
    importance: exponent of 1 - p, at least 0.

  Returns:
    A loss of logits [B, L, V], targets [B, L] and a mask [B, L].
  """

  @chunked.summed
  def loss(logits_BxLxV, targets_BxL, mask_BxL):
    nll_BxL = token_nll(logits_BxLxV, targets_BxL)
    known = jax.lax.stop_gradient(-nll_BxL)  # log p
    weight = jnp.exp(saturation * known) * (-jnp.expm1(known)) ** importance
    return masked_sum(-weight * nll_BxL, mask_BxL)

  return loss


def make(
  apply: Callable,
  *,
  retain_weight: NotNegative,
  forget_weight: NotNegative = 1.0,
  retain_loss: retention.Loss = "cross_entropy",
  saturation: NotNegative = 5.0,
  importance: NotNegative = 1.0,
) -> Objective:
  """Return L = forget_weight * weighted ascent(forget) + retain_weight * R(retain).

  See `weighted_likelihood` for the ascent and its exponents (the paper's beta_1 and
  beta_2), and retention for R.

  Reference: Yang et al., Exploring Criteria of Loss Reweighting to Enhance LLM
  Unlearning, arXiv 2505.11953.
  """

  def term(logits, frozen, forget):
    del frozen
    loss = weighted_likelihood(saturation, importance)
    lost = loss(logits, forget["targets"], forget["mask"])
    return lost, {"forget_weighted_likelihood": lost}

  return retention.beside(apply, term, retain_weight, forget_weight, retain_loss)


METHOD = Method(
  make=make,
  trains=("forget", "retain"),
  needs=retention.needs,
  is_unlearning=True,
  label="SatImp",
  color="#b5651d",
  marker="v",
)
