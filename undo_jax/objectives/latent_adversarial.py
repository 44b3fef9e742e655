"""Latent adversarial training: unlearn against the worst push on hidden states."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from undo_jax.models.config import ModelConfig
from undo_jax.objectives import around as inner
from undo_jax.objectives import retention
from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.objectives.method import Method
from undo_jax.utils.option_types import Count, NotNegative
from undo_jax.utils.records import FieldError
from undo_jax.utils.types import Batch, Objective, Options, Params

Around = Literal["grad_diff", "rmu"]


def worst_push(
  apply: Callable,
  params: Params,
  part: Batch,
  *,
  layer: int,
  radius: float,
  steps: int,
  step_size: float,
) -> jax.Array:
  """Find the addition to hidden states that makes a part's targets likely again.

  min over d of CE(part; h[k] + d),  |d[t]| <= radius at every position t

  by projected gradient descent from 0 with steps of a given length at each position.

  Args:
    apply: the model's.
    params: its parameters.
    part: inputs, targets and mask.
    layer: whose output is pushed, counted from 0.
    radius: of the ball, in the Euclidean norm of a position's hidden state.
    steps: of the descent.
    step_size: length of each.

  Returns:
    The last push, [B, L, D] float32, without gradient.

  Reference: Sheshadri et al., Latent Adversarial Training, arXiv 2407.15549.
  """
  index = layer + 1  # Hidden state k is the output of layer k - 1.

  def lost(push):
    logits = apply(params, part["inputs"], added={index: push}).logits
    return cross_entropy(logits, part["targets"], part["mask"]).mean()

  def descend(push, _):
    gradient = jax.grad(lost)(push)
    moved = push - step_size * gradient / (_lengths(gradient) + 1e-30)
    return moved * jnp.minimum(1.0, radius / (_lengths(moved) + 1e-30)), None

  params = jax.lax.stop_gradient(params)
  captured = jax.eval_shape(lambda: apply(params, part["inputs"], capture=(index,)))
  start = jnp.zeros(captured.captured[index].shape, jnp.float32)
  push, _ = jax.lax.scan(descend, start, length=steps)
  return jax.lax.stop_gradient(push)


def _lengths(x: jax.Array) -> jax.Array:
  return jnp.linalg.norm(x, axis=-1, keepdims=True)


def make(
  apply: Callable,
  *,
  around: Around,
  layer: int,
  retain_weight: NotNegative,
  forget_weight: NotNegative = 1.0,
  radius: NotNegative = 2.0,
  steps: Count = 16,
  step_size: NotNegative = 0.25,
  retain_loss: retention.Loss = "cross_entropy",
  layers: tuple[int, ...] = (),
  coefficient: NotNegative = 0.0,
) -> Objective:
  """Return the objective of another method whose forget pass is pushed.

  The push is the worst one found for the weights of the update, see `worst_push`;
  the retain term is computed without it. With radius 0 it is the other method.

  Args:
    apply: the model's.
    around: grad_diff or rmu.
    layer: whose output is pushed, counted from 0.
    retain_weight: as of the other method.
    forget_weight: likewise.
    radius: of the push at every position.
    steps: of its descent, each a pass of the forget rows.
    step_size: of the descent.
    retain_loss: of grad_diff.
    layers: of rmu.
    coefficient: of rmu.

  Reference: Sheshadri et al., Latent Adversarial Training, arXiv 2407.15549, section
  on unlearning (radius 2, 16 steps).
  """

  def objective(params, frozen, batch, key):
    forget = batch["forget"]
    push = worst_push(
      apply,
      params,
      forget,
      layer=layer,
      radius=radius,
      steps=steps,
      step_size=step_size,
    )

    def pushed(used, tokens, **how):
      # Of the trained model on forget rows alone.
      if used is params and tokens is forget["inputs"]:
        how["added"] = {layer + 1: push}
      return apply(used, tokens, **how)

    pushed_objective = inner.make(
      pushed,
      around,
      retain_weight=retain_weight,
      forget_weight=forget_weight,
      retain_loss=retain_loss,
      layers=layers,
      coefficient=coefficient,
    )
    return pushed_objective(params, frozen, batch, key)

  return objective


def needs(*, around: Around, steps: int = 16, **options: object) -> dict[str, object]:
  """Return what the other method needs, and a pass of forget rows for each step."""
  requirements = inner.needs(around, options)
  return requirements | {"trains": ("forget",) * steps + requirements["trains"]}


def check(model: ModelConfig, options: Options, *, is_random: bool) -> None:
  """Raise FieldError where the push, or what it stands around, cannot be."""
  inner.check(model, options)
  layer, size = options["layer"], model.num_layers
  if not 0 <= layer < size:
    raise FieldError("layer", f"a layer in [0, {size})", layer)


METHOD = Method(
  make=make,
  trains=("forget", "retain"),
  needs=needs,
  trainable=inner.trainable,
  check=check,
  is_unlearning=True,
  label="LAT",
  color="#8a4f1d",
  marker="P",
)
