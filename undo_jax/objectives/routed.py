"""Training whose gradients are routed by the source of each row or token.

A batch names its sources in "source", int32 [B] (rows) or [B, L] (tokens): 0, labelled
forget; 1, labelled retain; 2, not labelled. The model has reserved units
(models.expansion.reserve). What is labelled forget trains the units before them with
the weight `old_target`; all else trains everything. With a "retain_weight" in the
batch, float [B, L] in [0, 1], tokens are routed by it instead: 0 as forget, 1 as
retain, and by a mask in between (routing.masks.lerp). `era.ablate` then removes the
reserved units and what was routed to them.

Values are those of the objectives without routing; only gradients differ. The
coherence term, the loss of the ablated model on what is not labelled forget, keeps the
two parts from pulling against each other. With `trusted` it reads what is labelled
retain alone: what is not labelled may be forget data, which it would teach to the units
that stay.

Reference: Cloud et al., Gradient Routing, arXiv 2410.04332; its coherence term is in
the authors' demonstration of two parameters.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from undo_jax.models import expansion
from undo_jax.models.config import ModelConfig
from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.objectives.method import Method
from undo_jax.objectives.terms import weighted
from undo_jax.routing import era, masks
from undo_jax.utils.option_types import NotNegative
from undo_jax.utils.types import Batch, Objective, SumCount

FORGET, RETAIN, UNLABELLED = range(3)  # Rows of the tables of era.masks_for.


class Routing(NamedTuple):
  """Which units are reserved, and what forget data does to the others."""

  model: ModelConfig  # The whole model, the reserved units included.
  mlp_units: int  # Reserved in each layer.
  kv_heads: int  # Reserved in each layer, with their query heads.
  layers: tuple[int, ...] | None = None  # That are routed; None: all.
  old_target: float = 0.0  # Weight of forget gradients elsewhere; below 0: ascent.

  def expansion(self) -> era.Expansion:
    """Return the reserved entries; raise ConfigError if there are no such units."""
    return expansion.reserve(
      self.model, mlp_units=self.mlp_units, kv_heads=self.kv_heads
    )


def make(
  apply: Callable,
  *,
  routing: Routing,
  coherence_weight: NotNegative = 0.0,
  trusted: bool = False,
  l1_weight: NotNegative = 0.0,
) -> Objective:
  """Return the objective of routed pretraining.

  L = CE(batch), routed, + coherence_weight * CE(ablated) + l1_weight * `activity`

  Args:
    apply: of the decoder.
    routing: see `Routing`.
    coherence_weight: of the coherence term, >= 0; 0 saves its pass.
    trusted: the coherence term leaves out what is not labelled.
    l1_weight: of what the MLP units of the routed layers put out, >= 0.

  Raises:
    ConfigError: if there are no such units, or a weight is below 0.
  """

  def term(logits, batch, teacher):
    del teacher
    return cross_entropy(logits, batch["targets"], batch["mask"])

  terms = Terms(coherence_weight, trusted, l1_weight)
  return objective_of(apply, term, "cross_entropy", routing, terms)


def activity(
  hidden_NxBxLxF: jax.Array, layers: tuple[int, ...] | None = None
) -> SumCount:
  """Sum how active MLP units are: an L1 penalty on the outputs of some layers.

  sum_{n in layers, b, l, f} |hidden[n, b, l, f]|,  its mean over all positions B * L

  Args:
    hidden_NxBxLxF: activations of all layers, not routed: the penalty trains all
      units, whatever their row is labelled.
    layers: that count; None: all.

  Returns:
    SumCount of float32 scalars; padding counts as well, as in the authors' code.

  Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, section 4.2.
  """
  if layers is not None:
    hidden_NxBxLxF = hidden_NxBxLxF[jnp.asarray(layers)]
  total = jnp.sum(jnp.abs(hidden_NxBxLxF), dtype=jnp.float32)
  positions = hidden_NxBxLxF.shape[1] * hidden_NxBxLxF.shape[2]
  return SumCount(total, jnp.float32(positions))


def needs(
  *,
  routing: object = None,
  coherence_weight: float = 0.0,
  trusted: bool = False,
  l1_weight: float = 0.0,
) -> dict[str, object]:
  """Return the passes that the options of `make` and `make_distillation` ask for.

  The coherence term runs the whole batch once more, what it leaves out included.
  """
  del routing, trusted, l1_weight
  return {"trains": ("batch",) * (2 if coherence_weight else 1)}


class Terms(NamedTuple):
  """What is added to the routed loss; see `make`."""

  coherence_weight: float
  trusted: bool
  l1_weight: float = 0.0


def objective_of(apply, term, name, routing, terms, read=None) -> Objective:
  """Return an objective of a term of (logits, batch, what `read` gives)."""
  reserved = routing.expansion()
  coherent = (RETAIN,) if terms.trusted else (RETAIN, UNLABELLED)
  # Asked for only where it is used: a stand-in for the decoder need not know it.
  options = {"capture": ("mlp/hidden",)} if terms.l1_weight else {}

  def objective(params, frozen, batch, key):
    del key
    if "source" not in batch:
      raise ValueError(
        f"a routed batch needs the source of each row or token, got {sorted(batch)}"
      )
    teacher = read(frozen, batch["inputs"]) if read else None
    tables = era.masks_for(reserved, params, old_target=routing.old_target).tables
    routes = _routes(tables, batch, routing)
    output = apply(params, batch["inputs"], routes=routes, **options)
    loss = term(output.logits, batch, teacher)
    forget = term(output.logits, part(batch, (FORGET,)), teacher)
    metrics = {name: loss, f"forget_{name}": forget}
    added = []
    if terms.coherence_weight:
      ablated = apply(era.ablated_view(params, reserved), batch["inputs"]).logits
      metrics["coherence"] = term(ablated, part(batch, coherent), teacher)
      added.append((terms.coherence_weight, metrics["coherence"]))
    if terms.l1_weight:
      hidden_NxBxLxF = output.captured["mlp/hidden"]
      metrics["activity"] = activity(hidden_NxBxLxF, routing.layers)
      added.append((terms.l1_weight, metrics["activity"]))
    return (weighted((1.0, loss), *added) if added else loss), metrics

  return objective


def _routes(tables, batch, routing):
  size, layers = routing.model.num_layers, routing.layers
  if "retain_weight" not in batch:
    return masks.routes(tables, batch["source"], size, layers)
  return {
    node: masks.at_layers(
      masks.lerp(table, batch["retain_weight"], FORGET, RETAIN), size, layers
    )
    for node, table in tables.items()
  }


def part(batch: Batch, sources: tuple[int, ...]) -> Batch:
  """Return the batch with the mask kept where the source is one of `sources`."""
  source = batch["source"]
  chosen = jnp.isin(source, jnp.asarray(sources))
  return {
    **batch,
    "mask": batch["mask"] * (chosen[:, None] if source.ndim == 1 else chosen),
  }


METHOD = Method(
  make=make, trains=("batch",), needs=needs, sources="rows", label="routed"
)
