"""JensUn: the Jensen-Shannon divergence from an answer that says nothing."""

from collections.abc import Callable, Sequence
import math

import jax
import jax.numpy as jnp

from undo_jax.models.config import ModelConfig
from undo_jax.objectives import chunked, divergences
from undo_jax.objectives.cross_entropy import masked_sum, token_nll
from undo_jax.objectives.method import Method
from undo_jax.objectives.terms import weighted
from undo_jax.utils.option_types import NotNegative
from undo_jax.utils.records import FieldError
from undo_jax.utils.types import Objective, Options, SumCount


@chunked.summed
def divergence_from_target(
  logits_BxLxV: jax.Array, targets_BxL: jax.Array, mask_BxL: jax.Array
) -> SumCount:
  """Sum the Jensen-Shannon divergence between prediction and a one-hot target.

  sum_t mask[t] * (ln 2 + (p ln p - (1 + p) ln(1 + p)) / 2)

  with the probability p of the target, which is all that the divergence depends on.

  Args:
    logits_BxLxV: [B, L, V].
    targets_BxL: int [B, L] in [0, V).
    mask_BxL: [B, L], 1 where a position counts.

  Returns:
    SumCount of float32 scalars; its mean is in [0, ln 2] nats.
  """
  log_p = -token_nll(logits_BxLxV, targets_BxL)
  p = jnp.exp(log_p)
  divergence = math.log(2.0) + 0.5 * (p * log_p - (1.0 + p) * jnp.log1p(p))
  return masked_sum(divergence, mask_BxL)


def repeated(tokens: Sequence[int], mask_BxL: jax.Array) -> jax.Array:
  """Return int32 [B, L]: the tokens one after the other, over and over.

  The k-th position that counts in a row gets token k modulo their number.
  """
  places_BxL = jnp.cumsum(mask_BxL > 0, axis=1) - 1
  return jnp.asarray(tokens, jnp.int32)[jnp.maximum(places_BxL, 0) % len(tokens)]


def check(model: ModelConfig, options: Options, *, is_random: bool) -> None:
  """Raise FieldError unless the answer is made of some of the model's tokens."""
  del is_random
  tokens, size = options["answer"], model.vocab_size
  if not tokens or any(not 0 <= k < size for k in tokens):
    raise FieldError("answer", f"token ids in [0, {size})", tokens)


def make(
  apply: Callable,
  *,
  answer: tuple[int, ...],
  retain_weight: NotNegative,
  forget_weight: NotNegative = 1.0,
) -> Objective:
  """Return L = forget_weight * JSD(forget, answer) + retain_weight * JSD(retain).

  On forget data the target is the answer (token ids, as those of "No idea"),
  repeated over the positions that count; on retain data it is the prediction of
  frozen["reference"], the model from before unlearning.

  Reference: Singh et al., Unlearning That Lasts, arXiv 2509.02820.
  """
  between = divergences.make("jsd")

  def objective(params, frozen, batch, key):
    del key
    forget, retain = batch["forget"], batch["retain"]
    logits = apply(params, forget["inputs"]).logits
    mask = forget["mask"]
    lost = divergence_from_target(logits, repeated(answer, mask), mask)
    before = apply(frozen["reference"], retain["inputs"]).logits
    kept = between(apply(params, retain["inputs"]).logits, before, retain["mask"])
    loss = weighted((forget_weight, lost), (retain_weight, kept))
    return loss, {"forget_jsd": lost, "retain_jsd": kept}

  return objective


METHOD = Method(
  make=make,
  trains=("forget", "retain"),
  reads=("retain",),
  frozen=("reference",),
  check=check,
  is_unlearning=True,
  label="JensUn",
  color="#a23b72",
  marker="s",
)
