"""IdkDPO: prefer an answer that says nothing to what forget rows say."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from undo_jax.objectives import jensun, retention
from undo_jax.objectives.cross_entropy import row_nll
from undo_jax.objectives.method import Method
from undo_jax.objectives.npo import preference_loss
from undo_jax.utils.option_types import NotNegative, Positive
from undo_jax.utils.types import Batch, Objective


def answered(part: Batch, answer: Sequence[int]) -> Batch:
  """Return the rows with an answer in place of the tokens that count.

  The answer is repeated over these positions; what is read after one of them is the
  answer's token, too.
  """
  counts_BxL = part["mask"] > 0
  told_BxL = jensun.repeated(answer, part["mask"])
  targets_BxL = jnp.where(counts_BxL, told_BxL, part["targets"])
  told_before, counts_before = (
    jnp.pad(x[:, :-1], ((0, 0), (1, 0))) for x in (told_BxL, counts_BxL)
  )
  inputs_BxL = jnp.where(counts_before, told_before, part["inputs"])
  return {**part, "inputs": inputs_BxL, "targets": targets_BxL}


def make(
  apply: Callable,
  *,
  answer: tuple[int, ...],
  retain_weight: NotNegative,
  forget_weight: NotNegative = 1.0,
  retain_loss: retention.Loss = "cross_entropy",
  beta: Positive = 0.1,
) -> Objective:
  """Return L = forget_weight * DPO(answered forget > forget) + retain_weight * R.

  DPO = mean_b -(2 / beta) * log sigmoid(beta * (r_answered[b] - r[b]))

  r is the log-likelihood ratio of a row to frozen["reference"], the model from before
  unlearning. Without r_answered it is NPO. The answer (token ids) is the same for all
  rows, see `answered`. R is the retain term, see retention.

  References: Rafailov et al., Direct Preference Optimization, arXiv 2305.18290; with an
  answer that says nothing: Maini et al., TOFU, arXiv 2401.06121, section 4.
  """

  def objective(params, frozen, batch, key):
    refused = answered(batch["forget"], answer)

    def ratio(part, logits):
      targets, mask = part["targets"], part["mask"]
      before = row_nll(apply(frozen["reference"], part["inputs"]).logits, targets, mask)
      return jax.lax.stop_gradient(before) - row_nll(logits, targets, mask)

    def term(logits, frozen, forget):
      del frozen
      preferred_B = ratio(refused, apply(params, refused["inputs"]).logits)
      difference_B = preferred_B - ratio(forget, logits)
      mask = forget["mask"]
      lost = preference_loss(difference_B, jnp.zeros_like(difference_B), mask, beta)
      return lost, {"forget_preference": lost}

    weights = retain_weight, forget_weight
    return retention.beside(apply, term, *weights, retain_loss)(
      params, frozen, batch, key
    )

  return objective


METHOD = Method(
  make=make,
  trains=("forget", "forget", "retain"),
  reads=("forget", "forget"),
  frozen=("reference",),
  needs=retention.needs_reference("forget", "forget"),  # With the answer, and without.
  check=jensun.check,
  is_unlearning=True,
  label="IdkDPO",
  color="#5b4e9a",
  marker="D",
)
