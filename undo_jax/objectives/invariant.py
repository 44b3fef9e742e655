"""ILU: unlearn such that finetuning on other tasks has no gradient to start with."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from undo_jax.models.config import ModelConfig
from undo_jax.objectives import around as inner
from undo_jax.objectives import retention
from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.objectives.method import Method
from undo_jax.utils.option_types import NotNegative, Positive
from undo_jax.utils.records import FieldError
from undo_jax.utils.types import (
  Batch,
  ConfigError,
  Objective,
  Options,
  Params,
  SumCount,
)

Around = Literal["npo", "grad_diff", "rmu"]
ENVIRONMENTS = ("environment",)


def slope(apply: Callable, params: Params, part: Batch) -> jax.Array:
  """Compute the derivative of a part's loss by a common factor on all weights.

  d/dw CE(part; w * theta) at w = 1  =  <theta, grad CE(part; theta)>

  It is 0 at theta = 0 and wherever the loss is stationary.

  Args:
    apply: the model's.
    params: theta.
    part: inputs, targets and mask.

  Returns:
    A float32 scalar, nats a token.
  """

  def lost(w):
    grown = jax.tree.map(lambda leaf: w.astype(leaf.dtype) * leaf, params)
    logits = apply(grown, part["inputs"]).logits
    return cross_entropy(logits, part["targets"], part["mask"]).mean()

  # Not a product along the weights: where activations lie has no such rule.
  return jax.grad(lost)(jnp.float32(1))


def make(
  apply: Callable,
  *,
  around: Around,
  retain_weight: NotNegative,
  forget_weight: NotNegative = 1.0,
  invariance_weight: NotNegative = 0.1,
  environments: tuple[str, ...] = ENVIRONMENTS,
  retain_loss: retention.Loss = "cross_entropy",
  beta: Positive = 0.1,
  layers: tuple[int, ...] = (),
  coefficient: NotNegative = 0.0,
) -> Objective:
  """Return L = L_around + invariance_weight * sum_i slope(environment i)^2.

  An environment is a part of the batch, of rows that someone may finetune on. The
  slope is a statistic of a microbatch: over several its square is averaged.

  Args:
    apply: the model's.
    around: npo, grad_diff or rmu.
    retain_weight: as of the other method.
    forget_weight: likewise.
    invariance_weight: >= 0; at 0 it is the other method.
    environments: parts of the batch.
    retain_loss: of npo and grad_diff.
    beta: of npo.
    layers: of rmu.
    coefficient: of rmu.

  Reference: Wang et al., Invariance Makes LLM Unlearning Resilient, arXiv 2506.01339,
  whose published code lacks the penalty.
  """
  forgotten = inner.make(
    apply,
    around,
    retain_weight=retain_weight,
    forget_weight=forget_weight,
    retain_loss=retain_loss,
    beta=beta,
    layers=layers,
    coefficient=coefficient,
  )

  def objective(params, frozen, batch, key):
    loss, metrics = forgotten(params, frozen, batch, key)
    slopes = jnp.stack([slope(apply, params, batch[name]) for name in environments])
    penalty = jnp.sum(slopes * slopes)
    total = SumCount(
      jnp.append(loss.sum, invariance_weight * penalty), jnp.append(loss.count, 1.0)
    )
    return total, metrics | {"invariance": SumCount(penalty, jnp.float32(1))}

  return objective


def needs(
  *, around: Around, environments: tuple[str, ...] = ENVIRONMENTS, **options: object
) -> dict[str, object]:
  """Return what the other method needs, and three passes of each environment.

  A product of matrices makes two more in the derivative along the weights, and each of
  the three makes two in the gradient of that.
  """
  requirements = inner.needs(around, options)
  return requirements | {"trains": requirements["trains"] + 3 * tuple(environments)}


def check(model: ModelConfig, options: Options, *, is_random: bool) -> None:
  """Raise ConfigError where the derivative along the weights cannot be."""
  inner.check(model, options)
  del is_random
  names = options.get("environments", ENVIRONMENTS)
  if not names:
    raise FieldError("environments", "names of at least one part of the batch", names)
  for field, off in (("logits_chunk", None), ("attention", "plain")):
    value = getattr(model, field)
    if value != off:
      raise ConfigError(
        f"config.model.{field}: expected {off} for the objective invariant, which "
        f"differentiates a derivative, got {value!r}; set it in the config file"
      )


METHOD = Method(
  make=make,
  trains=("forget", "retain", *3 * ENVIRONMENTS),
  needs=needs,
  trainable=inner.trainable,
  check=check,
  is_unlearning=True,
  label="ILU",
  color="#5d7a1f",
  marker="P",
)
