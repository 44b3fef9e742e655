"""The retain term of unlearning: cross-entropy, or the KL to a model."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.objectives.distillation import forward_kl
from undo_jax.objectives.terms import weighted
from undo_jax.utils.types import (
  Batch,
  ConfigError,
  Frozen,
  Metrics,
  Objective,
  SumCount,
)

# (logits of the trained model on a part of a batch, frozen tree, the part) -> value and
# metrics.
Term: TypeAlias = Callable[[Any, Frozen, Batch], tuple[SumCount, Metrics]]
Loss = Literal["cross_entropy", "kl"]
LOSSES = get_args(Loss)


def make(apply: Callable, loss: str) -> Term:
  """Return the retain term `(logits, frozen, part) -> (value, metrics)`.

  cross_entropy: CE(part);  kl: KL(frozen["reference"] || model), the forward KL to
  the model from before unlearning. The logits are the trained model's on the part.

  Raises:
    ConfigError: if `loss` is not one of LOSSES.

  Reference: UNDO, arXiv 2506.06278, appendix on unlearning methods (cross-entropy
  for language and arithmetic, KL for WMDP).
  """
  if loss not in LOSSES:
    raise ConfigError(
      f"retain_loss must be one of {', '.join(LOSSES)}, got {loss!r}; set it in the "
      "options of the unlearning method"
    )

  def term(logits, frozen, part):
    if loss == "cross_entropy":
      value = cross_entropy(logits, part["targets"], part["mask"])
    else:
      reference = apply(frozen["reference"], part["inputs"]).logits
      value = forward_kl(logits, reference, part["mask"])
    return value, {f"retain_{loss}": value}

  return term


def beside(
  apply: Callable,
  forget_term: Term,
  retain_weight: float,
  forget_weight: float,
  retain_loss: str,
) -> Objective:
  """Return L = forget_weight * forget_term(forget) + retain_weight * R(retain)."""
  retain_term = make(apply, retain_loss)

  def objective(params, frozen, batch, key):
    del key
    forget, retain = batch["forget"], batch["retain"]
    logits = apply(params, forget["inputs"]).logits
    lost, metrics = forget_term(logits, frozen, forget)
    logits = apply(params, retain["inputs"]).logits
    kept, kept_metrics = retain_term(logits, frozen, retain)
    loss = weighted((forget_weight, lost), (retain_weight, kept))
    return loss, metrics | kept_metrics

  return objective


def needs(
  *, retain_loss: str = "cross_entropy", **options: object
) -> dict[str, object]:
  """Return what the term asks of a registered method beyond its own passes."""
  del options
  if retain_loss == "cross_entropy":
    return {}
  return {"reads": ("retain",), "frozen": ("reference",)}


def needs_reference(*parts: str) -> Callable[..., dict[str, object]]:
  """Return the same where the forget term reads frozen["reference"] on `parts`, too."""

  def requirements(
    *, retain_loss: str = "cross_entropy", **options: object
  ) -> dict[str, object]:
    del options
    return {"reads": parts if retain_loss == "cross_entropy" else (*parts, "retain")}

  return requirements
