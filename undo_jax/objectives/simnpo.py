"""SimNPO: NPO without a reference, of likelihoods by token."""

from collections.abc import Callable

import jax.numpy as jnp

from undo_jax.objectives import retention
from undo_jax.objectives.cross_entropy import row_nll
from undo_jax.objectives.method import Method
from undo_jax.objectives.npo import preference_loss
from undo_jax.utils.option_types import NotNegative, Positive
from undo_jax.utils.types import Objective


def make(
  apply: Callable,
  *,
  retain_weight: NotNegative,
  forget_weight: NotNegative = 1.0,
  retain_loss: retention.Loss = "cross_entropy",
  beta: Positive = 4.5,
  margin: NotNegative = 0.0,
) -> Objective:
  """Return L = forget_weight * SimNPO(forget) + retain_weight * R(retain).

  SimNPO = mean_b -(2 / beta) * log sigmoid(beta * (nll[b] / tokens[b] - margin))

  with the number of tokens of a row that count; on TOFU its authors take beta 2.5 to
  4.5 and margin 0. R is the retain term, see retention.

  Reference: Fan et al., Simplicity Prevails, arXiv 2410.07163, equation (4).
  """

  def term(logits, frozen, forget):
    del frozen
    mask = forget["mask"]
    tokens_B = jnp.maximum(jnp.sum(mask, axis=1), 1)
    mean_B = row_nll(logits, forget["targets"], mask) / tokens_B
    lost = preference_loss(mean_B, jnp.full_like(mean_B, margin), mask, beta)
    return lost, {"forget_preference": lost}

  return retention.beside(apply, term, retain_weight, forget_weight, retain_loss)


METHOD = Method(
  make=make,
  trains=("forget", "retain"),
  needs=retention.needs,
  is_unlearning=True,
  label="SimNPO",
  color="#14919b",
  marker=">",
)
