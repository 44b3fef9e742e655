"""Selective gradient masking (SGTM): localization by masks on parameters.

Parameters fall into those for what is to be forgotten (the new entries of an
`era.Expansion`: MLP units and heads of all layers) and the rest. Batches come from
three sources:

  forget      labelled forget: gradients of the rest are zero
  retain      labelled retain: runs without the forget parameters, which get none
  unlabelled  anything: trains everything

The loss is the weighted sum of the losses of the sources, each run with its `view` of
the parameters: one ordinary gradient, no separate ones. Ablation is `era.ablate`.

Reference: Selective Gradient Masking, arXiv 2512.05648.
"""

from undo_jax.routing import era
from undo_jax.routing.sources import route_parameters
from undo_jax.utils.types import Params

SOURCES = ("forget", "retain", "unlabelled")


def view(params: Params, expansion: era.Expansion, source: str) -> Params:
  """Returns the parameters as batches of a source see and train them.

  Args:
    params: the parameters, of the expansion's sizes.
    expansion: which entries are for what is to be forgotten.
    source: one of SOURCES.

  Returns:
    A tree like `params`: forget, the same values, gradients of the rest zero;
    retain, zeros for the forget entries; unlabelled, `params`.

  Raises:
    ValueError: on an unknown source, or parameters of other sizes.
  """
  if source == "forget":
    masks = era.masks_for(expansion, params, new_target=1.0, old_target=0.0)
    return route_parameters(params, masks.params["forget"])
  if source == "retain":
    return era.ablate(params, expansion)
  if source == "unlabelled":
    era.check(params, expansion)
    return params
  raise ValueError(f"unknown source {source!r}; SGTM has {', '.join(SOURCES)}")
