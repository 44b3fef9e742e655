"""MUDMAN: forget at a relearner's weights, only where that does not disturb retain."""

from collections.abc import Callable

import jax

from undo_jax.models.config import ModelConfig
from undo_jax.objectives import retention
from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.objectives.method import Join, Method
from undo_jax.objectives.tamper_resistance import negative_entropy
from undo_jax.objectives.terms import weighted
from undo_jax.routing import disruption
from undo_jax.utils.option_types import Count, NotNegative, Share
from undo_jax.utils.records import FieldError
from undo_jax.utils.types import Objective, Options


def make(
  apply: Callable,
  *,
  retain_weight: NotNegative = 0.01,
  forget_weight: NotNegative = 1.0,
  retain_loss: retention.Loss = "cross_entropy",
  momentum: Share = 0.9,
  adversary_rate: NotNegative = 1e-3,
  every: Count = 32,
) -> Objective:
  """Return L = N(forget; adversary) + CE(forget; adversary) + R(retain; theta).

  N is the mean negative entropy of the predictions. Its gradient is taken at the
  weights of an adversary (frozen["adversary"]) that relearns forget rows by one step
  of gradient descent on CE in each update, and restarts from the model every `every`
  updates. The three gradients are kept apart and joined by disruption.mask_disruption,
  which explains the other options; logs show their sum. Since they are masked and have
  a fixed length, use the optimizer "descent" without clipping.

  Args:
    apply: the model's.
    retain_weight: of the running mean of R's gradients; its ratio to forget_weight is
      that of the authors' two rates.
    forget_weight: the most that an update forgets.
    retain_loss: see retention.
    momentum: of the running mean.
    adversary_rate: of the adversary's steps.
    every: updates after which the adversary restarts from the model.

  Returns:
    An objective of parameters, or of {source: parameters}, disruption.SOURCES.

  Reference: Sondej et al., Robust LLM Unlearning with MUDMAN, arXiv 2506.12484. Their
  code takes N's gradient by a pass before the adversary's step, at weights after it;
  here it is that before.
  """
  del retain_weight, forget_weight, momentum, adversary_rate, every  # See `joins`.
  retain_term = retention.make(apply, retain_loss)

  def objective(params, frozen, batch, key):
    del key
    is_apart = set(params) == set(disruption.SOURCES)
    apart = params if is_apart else dict.fromkeys(disruption.SOURCES, params)
    start = jax.lax.stop_gradient(frozen["adversary"])
    forget, retain = batch["forget"], batch["retain"]

    def at_adversary(source):
      weights = jax.tree.map(
        lambda a, p: a + (p - jax.lax.stop_gradient(p)), start, apart[source]
      )
      return apply(weights, forget["inputs"]).logits

    lost = negative_entropy(at_adversary("forget"), forget["mask"])
    logits = at_adversary("adversary")
    relearned = cross_entropy(logits, forget["targets"], forget["mask"])
    logits = apply(apart["retain"], retain["inputs"]).logits
    kept, metrics = retain_term(logits, frozen, retain)
    loss = weighted((1.0, lost), (1.0, relearned), (1.0, kept))
    metrics |= {"forget_negative_entropy": lost, "adversary_cross_entropy": relearned}
    return loss, metrics

  return objective


def joins(
  trainable: tuple,
  *,
  retain_weight: float = 0.01,
  forget_weight: float = 1.0,
  momentum: float = 0.9,
  adversary_rate: float = 1e-3,
  every: int = 32,
  **options: object,
) -> Join:
  """Return how its gradients are joined, and the adversary that is carried along."""
  del options
  transform = disruption.mask_disruption(
    momentum=momentum,
    retain_weight=retain_weight,
    forget_weight=forget_weight,
    adversary_rate=adversary_rate,
    every=every,
    trainable=trainable,
  )
  return Join(
    sources=disruption.SOURCES,
    transform=transform,
    carried=lambda state, params: {
      "adversary": disruption.adversary(state, params, every)
    },
  )


def check(model: ModelConfig, options: Options, *, is_random: bool) -> None:
  """Raise FieldError where the running mean would keep its first value."""
  del model, is_random
  if options.get("momentum", 0.9) >= 1:
    raise FieldError("momentum", "a number below 1", options["momentum"])


METHOD = Method(
  make=make,
  trains=("forget", "forget", "retain"),
  needs=retention.needs,
  joins=joins,
  check=check,
  is_unlearning=True,
  label="MUDMAN",
  color="#7a3e6b",
  marker="D",
)
