"""What unlearning keeps: the loss on retain data, on its tokens or on a model's."""

from collections.abc import Callable

import jax

from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.objectives.distillation import forward_kl
from undo_jax.utils.types import Batch, ConfigError, Frozen, SumCount

LOSSES = ("cross_entropy", "kl")


def make(
  apply: Callable, loss: str
) -> Callable[[jax.Array, Frozen, Batch], tuple[SumCount, dict[str, SumCount]]]:
  """Returns the retain term `(logits, frozen, part) -> (value, metrics)`.

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


def needs(
  *, retain_loss: str = "cross_entropy", **options: object
) -> dict[str, object]:
  """Returns what the term asks of a registered method beyond its own passes."""
  del options
  if retain_loss == "cross_entropy":
    return {}
  return {"reads": ("retain",), "frozen": ("reference",)}
