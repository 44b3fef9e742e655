"""Models whose gradients are routed."""

from collections.abc import Mapping

from ml_collections import config_dict

from undo_jax.config.blocks import Config, table
from undo_jax.config.entries import like
from undo_jax.config.recipes import teacher_predictions


def routed(
  entry: Config,
  objective: str,
  *,
  mlp_units: int,
  kv_heads: int = 0,
  old_target: float = 0.0,
  options: Mapping[str, object] | None = None,
  **changes: object,
) -> Config:
  """Return an entry whose gradients are routed to reserved units, then ablated.

  Args:
    entry: pretraining or distillation.
    objective: routed, sgtm, routed_forward_kl or sgtm_forward_kl.
    mlp_units: how many of each layer, the last ones, are reserved for what is to be
      forgotten.
    kv_heads: likewise key/value heads, with their query heads.
    old_target: weight of forget gradients on all other units; below 0: ascent.
    options: of the objective, see `coherence`.
    changes: other fields.
  """
  follower = like(entry, objective=objective, is_counted=True, **changes)
  follower.teacher_predictions = teacher_predictions()  # It reads the teacher itself.
  follower.options = table()
  follower.options.update(dict(options or {}))
  reserved = {"mlp_units": mlp_units, "kv_heads": kv_heads, "old_target": old_target}
  follower.reserve.update(reserved)
  return follower


def coherence(*, weight: float = 0.2, trusted: bool = True) -> Config:
  """Return the options of the routed objectives."""
  return config_dict.create(
    coherence_weight=weight,  # Of the ablated model's loss on other rows; 0: no pass.
    trusted=trusted,  # That loss reads rows labelled retain, and none without a label.
  )
