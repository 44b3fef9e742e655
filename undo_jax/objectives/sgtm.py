"""Selective gradient masking as an objective; see routing/sgtm.py."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.objectives.method import Method
from undo_jax.objectives.routed import Routing
from undo_jax.routing import sgtm
from undo_jax.utils.types import Objective, Params, SumCount


def make(apply: Callable, *, routing: Routing) -> Objective:
  """Return the objective of selective gradient masking; see routing.sgtm.

  L = CE over all tokens of the parts, each run with its own view of the parameters

  The batch has the parts "forget" and "retain" and may have "unlabelled", each a
  batch of its own. The parameters come by source as well, {part: parameters}, so that
  their gradients stay apart: see `masks` and training.gradients.by_source. Of
  `routing` only the reserved units matter.

  Reference: Selective Gradient Masking, arXiv 2512.05648.
  """

  def term(logits, part, frozen):
    del frozen
    return cross_entropy(logits, part["targets"], part["mask"])

  return objective_of(apply, term, "cross_entropy", routing)


def masks(params: Params, *, routing: Routing) -> dict[str, Params]:
  """Return routing.sgtm.masks of the reserved units."""
  return sgtm.masks(params, routing.expansion())


def objective_of(apply, term, name, routing) -> Objective:
  """Return an objective of a term of (logits, part of the batch, frozen trees)."""
  reserved = routing.expansion()

  def objective(params, frozen, batch, key):
    del key
    terms = {}
    for source, part in batch.items():
      view = sgtm.view(params[source], reserved, source)
      logits = apply(view, part["inputs"]).logits
      terms[source] = term(logits, part, frozen)
    loss = jax.tree.map(lambda *parts: jnp.sum(jnp.stack(parts)), *terms.values())
    metrics = {f"{source}_{name}": term for source, term in terms.items()}
    return SumCount(*loss), metrics

  return objective


# Its parts are those of one batch: every row goes through the model once.
METHOD = Method(
  make=make, trains=("batch",), sources="parts", gradient_masks=masks, label="SGTM"
)
