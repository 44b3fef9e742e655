"""The objective: cross-entropy, routed where the target is the chosen word."""

from collections.abc import Callable

import jax.numpy as jnp

from experiments.gradient_routing.steering.config import Routing
from undo_jax.models.config import ModelConfig
from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.routing import masks
from undo_jax.utils.types import Objective


def make(apply: Callable, model: ModelConfig, routing: Routing) -> Objective:
  """Return the cross-entropy, routed where the target is in frozen["chosen_V"].

  d residual / d residual = e_dimension there after the layers, 1 elsewhere;
  after the last of the layers weight * e_dimension

  Args:
    apply: of the decoder.
    model: its sizes.
    routing: the layers after which the residual stream is routed; its dimension; and
      the weight of the chosen targets' gradients in everything before, 1 in the paper.
  """
  table = masks.make_table(jnp.zeros(model.width).at[routing.dimension].set(1.0))

  def objective(params, frozen, batch, key):
    del key
    chosen = masks.targets_in(masks.whole_rows(batch), frozen["chosen_V"])
    ids_BxL = jnp.where(chosen, 0, 1)  # Row 1 of the table is the unrouted one.
    routes = masks.routes(
      {"residual": table}, ids_BxL, model.num_layers, routing.layers
    )
    # Masks multiply on the way back, so only the first one met has the weight.
    mask = routes["residual"]
    table_NxSxD = mask.table.at[max(routing.layers), 0].multiply(routing.weight)
    routes = {"residual": mask._replace(table=table_NxSxD)}
    logits = apply(params, batch["inputs"], routes=routes).logits
    loss = cross_entropy(logits, batch["targets"], batch["mask"])
    return loss, {"cross_entropy": loss}

  return objective
