"""How much labelled data a model needed: text known to be forget or retain."""

from collections.abc import Mapping, Sequence
from typing import Any

from undo_jax.data.labels import UNLABELLED
from undo_jax.stages import Stage, lineage, part_rows


def budget(
  stages: Sequence[Stage], outcomes: Mapping[str, dict[str, Any]], name: str
) -> dict[str, Any]:
  """Counts the labelled tokens on a model's way from the base.

  1. Unlearning reads labelled rows: updates * rows * L for each part of its batch.
  2. Data filtering sorts all that the base is pretrained on.
  3. Routing reads a share of the rows with their label: of forget rows, SGTM and
     trusted coherence of both. Filtering by as many labels sorts that share of what
     the base is pretrained on.
  4. Other pretraining and distillation read rows without labels.

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
    if by_name[parent].kind == "ablate":
      continue
    read = outcomes[parent]["updates"] * settings["length"]
    rows = part_rows(settings, settings["batch_size"])
    if parent == "data_filtering":
      found = {"all": pretraining or 0}
    elif "batch" not in rows:
      found = {part: read * rows[part] for part in rows if part != "unlabelled"}
    elif "labels" in settings:
      # What filtering leaves out, it does not read.
      seen = pretraining or 0 if _is_filtered(settings) else read * rows["batch"]
      found = {"forget": round(_labelled_forget(settings) * seen)}
      if settings["options"].get("trusted"):
        share = settings["labels"]["share"] - _labelled_forget(settings)
        found["retain"] = round(share * seen)
    else:
      found = {}
    for part, count in found.items():
      tokens[part] = tokens.get(part, 0) + count
  share = sum(tokens.values()) / pretraining if pretraining else None
  return {"tokens": tokens, "share_of_pretraining": share}


def _is_filtered(settings) -> bool:
  return settings["objective"] == "cross_entropy"


def _labelled_forget(settings) -> float:
  """Returns which share of a mixture is labelled forget, filtered out or not."""
  told = settings["labels"]
  forget = kept = 0.0
  for name, weight in settings["parts"]["batch"].items():
    split, _, which = name.partition(":")
    if split not in told["forget"]:
      kept += weight
    else:
      forget += weight / (1.0 - told["share"]) if which == UNLABELLED else weight
  return told["share"] * forget / (forget + kept)


def _pretraining(by_name, outcomes) -> int | None:
  base = by_name.get("base")
  if base is None or base.kind != "train":
    return None
  return outcomes["base"]["compute"]["tokens"]
