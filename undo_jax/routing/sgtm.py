"""Selective gradient masking (SGTM): localization by masks on parameters.

Parameters fall into those for what is to be forgotten (the new entries of an
`era.Expansion`: MLP units and heads of all layers) and the rest. Batches come from
three sources:

  forget      labelled forget: gradients of the rest are zero
  retain      labelled retain: runs without the forget parameters, which get none
  unlabelled  anything: trains everything

Each source runs its `view` of the parameters; transforms.route_sources joins their
gradients by the `masks`. Ablation is `era.ablate`.

Reference: Selective Gradient Masking, arXiv 2512.05648.
"""

from undo_jax.routing import era
from undo_jax.utils.types import Params

SOURCES = ("forget", "retain", "unlabelled")


def view(params: Params, expansion: era.Expansion, source: str) -> Params:
  """Return the parameters as batches of a source see them.

  Args:
    params: the parameters, of the expansion's sizes.
    expansion: which entries are for what is to be forgotten.
    source: one of SOURCES.

  Returns:
    For retain, a tree like `params` with zeros for the forget entries; for the
    others, `params`.

  Raises:
    ValueError: on an unknown source, or parameters of other sizes.
  """
  if source not in SOURCES:
    raise ValueError(f"unknown source {source!r}; SGTM has {', '.join(SOURCES)}")
  era.check(params, expansion)
  return era.ablate(params, expansion) if source == "retain" else params


def masks(params: Params, expansion: era.Expansion) -> dict[str, Params]:
  """Return the masks of the gradients by source, for transforms.route_sources.

  Args:
    params: the parameters or their ShapeDtypeStructs, of the expansion's sizes.
    expansion: which entries are for what is to be forgotten.

  Returns:
    {source: a tree like `params` of float32 0 and 1, broadcastable to them}.

  Raises:
    ValueError: on parameters of other sizes.
  """
  routed = era.masks_for(expansion, params, new_off=0.0).params
  trained = era.masks_for(expansion, params, old_target=1.0).params
  return {**routed, "unlabelled": trained["forget"]}
