"""How much labelled data a model needed: text known to be forget or retain."""

from collections.abc import Mapping, Sequence
from typing import Any

from undo_jax.stages import Stage, lineage


def budget(
  stages: Sequence[Stage], outcomes: Mapping[str, dict[str, Any]], name: str
) -> dict[str, Any]:
  """Counts the labelled tokens on a model's way from the base.

  1. Unlearning reads labelled rows: updates * rows * L for each part of its batch.
  2. Data filtering sorts all that the base is pretrained on.
  3. Pretraining and distillation read rows without labels.

  Args:
    stages: the plan.
    outcomes: done.json of every stage by name.
    name: of the model.

  Returns:
    {"tokens" by part (or "all"), "share_of_pretraining": their sum as a share of the
    positions the base is pretrained on}; the share is None where the base was given.

  Reference: UNDO, arXiv 2506.06278, whose abstract states 0.01% for its largest run.
  """
  by_name = {stage.name: stage for stage in stages}
  pretraining = _pretraining(by_name, outcomes)
  tokens: dict[str, int] = {}
  for parent in lineage(list(stages), name):
    settings = by_name[parent].settings
    if parent == "data_filtering":
      tokens["all"] = tokens.get("all", 0) + (pretraining or 0)
    elif "batch" not in settings["parts"]:
      read = outcomes[parent]["updates"] * settings["batch_size"] * settings["length"]
      for part in settings["parts"]:
        tokens[part] = tokens.get(part, 0) + read
  share = sum(tokens.values()) / pretraining if pretraining else None
  return {"tokens": tokens, "share_of_pretraining": share}


def _pretraining(by_name, outcomes) -> int | None:
  base = by_name.get("base")
  if base is None or base.kind != "train":
    return None
  return outcomes["base"]["compute"]["tokens"]
