"""Adversaries that train something beside a model whose weights stay as they are."""

from collections.abc import Callable

import jax

from undo_jax.attacks.attack import Members
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder, Output
from undo_jax.objectives import chunked, cross_entropy
from undo_jax.utils.types import Frozen, Params

Apply = Callable[..., Output]


def members(
  model: ModelConfig,
  *,
  start: Callable[[Params, jax.Array], Params],
  using: Callable[[Apply], Apply],
  project: Callable[[Params, Frozen], Params] | None = None,
) -> Members:
  """Return members that train a tree beside a model, by the cross-entropy of both.

  Args:
    model: the decoder's config; its weights stay as they are.
    start: (attacked model, key) -> the trained tree, a dict.
    using: from the decoder's `apply` (its logits may be Deferred) to the `apply` of
      {"base": params, **trained}.
    project: see Members.
  """
  apply = using(chunked.deferring(Decoder(model)))
  loss = cross_entropy.make(apply)

  def weights(trained, frozen):
    return trained | {"base": frozen["base"]}

  def objective(trained, frozen, batch, key):
    return loss(weights(trained, frozen), {}, batch, key)

  return Members(
    start=start,
    objective=objective,
    weights=weights,
    rules=lambda trained: ((".*", ()),),
    reads_base=True,
    apply=apply,
    project=project,
  )
