"""The objectives of the methods in the study of stories, over the same batches.

The first rows of a batch may be labelled forget; "source" says which are, see
objectives.routed.
"""

from collections.abc import Callable

import jax.numpy as jnp

from undo_jax.objectives import cross_entropy, rmu, routed
from undo_jax.objectives import sgtm as sgtm_objective
from undo_jax.objectives.routed import FORGET, RETAIN, UNLABELLED
from undo_jax.routing import masks
from undo_jax.utils.types import Batch, Objective


def filtering(apply: Callable) -> Objective:
  """Return the cross-entropy of what is not labelled forget."""
  plain = cross_entropy.make(apply)

  def objective(params, frozen, batch, key):
    return plain(params, frozen, routed.part(batch, (RETAIN, UNLABELLED)), key)

  return objective


def expand_route_ablate(
  apply: Callable,
  *,
  routing: routed.Routing,
  l1_weight: float = 0.0,
  coherence_weight: float = 0.0,
) -> Objective:
  """Return objectives.routed.make with tokens routed by frozen["retain_weight_V"].

  weight of a token = weight of its target if the row is labelled forget, else 1
  """
  inner = routed.make(
    apply, routing=routing, coherence_weight=coherence_weight, l1_weight=l1_weight
  )

  def objective(params, frozen, batch, key):
    weights_BxL = jnp.take(frozen["retain_weight_V"], batch["targets"])
    weights_BxL = masks.gate_by_label(weights_BxL, batch["source"] != FORGET)
    return inner(params, frozen, {**batch, "retain_weight": weights_BxL}, key)

  return objective


def sgtm(apply: Callable, *, routing: routed.Routing, forget_rows: int) -> Objective:
  """Return objectives.sgtm.make; the source of a row is its label."""
  inner = sgtm_objective.make(apply, routing=routing)

  def objective(params, frozen, batch, key):
    parts = {
      "forget": _of(_rows(batch, slice(forget_rows)), FORGET),
      "retain": _of(_rows(batch, slice(forget_rows, None)), RETAIN),
      "unlabelled": _of(batch, UNLABELLED),
    }
    return inner(params, frozen, parts, key)

  return objective


def rmu_by_label(
  apply: Callable,
  *,
  forget_rows: int,
  layers: tuple[int, ...],
  coefficient: float,
  retain_weight: float,
) -> Objective:
  """Return RMU's objective: rows labelled forget are forget, all others retain."""
  inner = rmu.make(
    apply, layers=layers, coefficient=coefficient, retain_weight=retain_weight
  )

  def objective(params, frozen, batch, key):
    parts = {
      "forget": _of(_rows(batch, slice(forget_rows)), FORGET),
      "retain": routed.part(batch, (RETAIN, UNLABELLED)),
    }
    return inner(params, frozen, parts, key)

  return objective


def _rows(batch: Batch, chosen: slice) -> Batch:
  return {name: x[chosen] for name, x in batch.items()}


def _of(batch: Batch, source: int) -> Batch:
  """Return the batch with a mask that is kept only in rows of one source."""
  kept = (batch["source"] == source)[:, None]
  return {**batch, "mask": batch["mask"] * kept}
