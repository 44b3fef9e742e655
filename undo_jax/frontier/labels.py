"""How much labelled data a model needed: text known to be forget or retain."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Annotated

from undo_jax import tasks
from undo_jax.data.labels import LABELLED, UNLABELLED
from undo_jax.plan.lineages import lineage
from undo_jax.plan.stages import (
  BATCH,
  DataStage,
  PredictionsStage,
  Read,
  RowLabels,
  SaliencyStage,
  SelectionStage,
  Stage,
  TrainStage,
)
from undo_jax.utils import records
from undo_jax.utils.records import record
from undo_jax.utils.types import JsonObject


@record
class Selected:
  """Rows that a classifier selected as clean by labelled ones, and how well."""

  stage: str  # Of the selection.
  rows: dict[str, int]  # That are labelled forget and retain.
  tokens: dict[str, int]  # Of these.
  precision: float  # Share of the selected rows that are clean.
  recall: float  # Share of the clean rows that are selected.


@record
class LabelBudget:
  """Tokens that had to be known as forget or retain, each as often as it was read.

  Tokens that a selection labels count once, however often the selection is used.
  """

  tokens: dict[str, int]  # By part, or "all".
  share_of_pretraining: float | None  # Of the tokens the base was pretrained on.
  selected: Annotated[tuple[Selected, ...], records.later(())] = ()


def budget(
  plan: Sequence[Stage],
  outcomes: Mapping[str, JsonObject],
  name: str,
  *,
  base: str | None,
) -> LabelBudget:
  """Count the labelled tokens on a model's way.

  1. Unlearning reads labelled rows: updates * rows * L for each part of its batch.
  2. Data filtering sorts all that the base is pretrained on.
  3. Routing reads a share of the rows with their label: of forget rows, SGTM and
     trusted coherence of both. Filtering by as many labels sorts that share of what
     the base is pretrained on.
  4. Other training and distillation read rows without labels where the mixture has as
     much of each forget split as pretraining's. Otherwise it had to be known which
     rows are forget and which retain, and each row that is read counts; a mixture
     without forget data consists of rows known to be retain. The mixture of a base
     that was given is not known: then only mixtures without forget data count.
  5. Squared gradients read labelled forget rows, and of retain rows what 4 says.
  6. A selection has labelled some rows. A model that reads the rows selected by them,
     or these rows themselves, needs no other labels.

  Args:
    plan: the stages.
    outcomes: done.json of every stage by name.
    name: of the model.
    base: whose pretraining the labels are a share of; None: there is none.

  Reference: UNDO, arXiv 2506.06278, whose abstract states 0.01% for its largest run.
  """
  by_name = {stage.name: stage for stage in plan}
  pretraining = None
  if base is not None and isinstance(by_name.get(base), TrainStage):
    pretraining = outcomes[base]["compute"]["tokens"]
  tokens: dict[str, int] = {}
  pretrained, made = _Pretraining(by_name, base), lineage(plan, name)
  for stage in made:
    for part, count in _tokens(stage, outcomes, pretrained).items():
      tokens[part] = tokens.get(part, 0) + count
  share = sum(tokens.values()) / pretraining if pretraining else None
  selected = tuple(
    _selected(stage, outcomes[stage.name])
    for stage in made
    if isinstance(stage, SelectionStage)
  )
  return LabelBudget(tokens=tokens, share_of_pretraining=share, selected=selected)


def _selected(stage: SelectionStage, outcome: JsonObject) -> Selected:
  """Return what a selection labelled, and how good it is."""
  rows = {"forget": 0, "retain": 0}
  for split, count in outcome[LABELLED].items():
    rows["forget" if split in stage.forget else "retain"] += count
  return Selected(
    stage=stage.name,
    rows=rows,
    tokens={kind: count * stage.length for kind, count in rows.items()},
    precision=outcome["precision"],
    recall=outcome["recall"],
  )


@dataclasses.dataclass(frozen=True)
class _Pretraining:
  """What is known of a mixture's rows, compared with those of pretraining."""

  stages: Mapping[str, Stage]
  base: str | None

  def known(self, weights: Mapping[str, float], tokens: int) -> dict[str, int]:
    """Return how many tokens of a mixture are known as forget and as retain."""
    shares = self._shares(weights)
    base = self.stages.get(self.base or "")
    usual = (
      self._shares(base.parts.get(BATCH, {})) if isinstance(base, TrainStage) else {}
    )
    if not usual and any(shares.values()):
      return {}
    if usual and all(math.isclose(shares[split], usual[split]) for split in usual):
      return {}
    forget = round(sum(shares.values()) * tokens)
    counted = {"forget": forget, "retain": tokens - forget}
    return {part: count for part, count in counted.items() if count}

  def _shares(self, weights: Mapping[str, float]) -> dict[str, float]:
    """Return the part of a mixture that each split of forget data has."""
    data = next(s for s in self.stages.values() if isinstance(s, DataStage))
    total = sum(weights.values())
    names = tasks.get(data.task).forget_splits(data.data)
    return {split: weights.get(split, 0.0) / total for split in names} if total else {}


def _tokens(
  stage: TrainStage | Read,
  outcomes: Mapping[str, JsonObject],
  pretrained: _Pretraining,
) -> dict[str, int]:
  """Return the labelled tokens of one stage by part."""
  if isinstance(stage, SelectionStage):
    return _selected(stage, outcomes[stage.name]).tokens
  if isinstance(stage, PredictionsStage):
    return {}  # Rows whose labels are the students'.
  paid = _by_selection(stage)
  if isinstance(stage, SaliencyStage):
    each = stage.num_batches * stage.batch_size * stage.length
    known = {"forget": each} | pretrained.known(stage.parts["retain"], each)
    return {part: count for part, count in known.items() if part not in paid}
  read = outcomes[stage.name]["updates"] * stage.length
  if stage.sorts is not None:
    # A model that is not here, or was given, has no count.
    cost = outcomes.get(stage.sorts, {}).get("compute", {})
    sorted_tokens = cost.get("tokens", 0)
    if stage.labels is None:
      return {"all": sorted_tokens}
    # What filtering leaves out, it does not read.
    return {"forget": round(_labelled_forget(stage, stage.labels) * sorted_tokens)}
  if BATCH not in stage.rows:
    free = paid | {"unlabelled"}
    return {part: read * n for part, n in stage.rows.items() if part not in free}
  if BATCH in paid:
    return {}
  seen = read * stage.rows[BATCH]
  if stage.labels is None:
    return pretrained.known(stage.parts[BATCH], seen)
  forget = _labelled_forget(stage, stage.labels)
  counted = {"forget": round(forget * seen)}
  if stage.options.get("trusted"):
    counted["retain"] = round((stage.labels.share - forget) * seen)
  return counted


def _by_selection(stage: TrainStage | SaliencyStage) -> set[str]:
  """Return the parts of a batch whose rows a selection has selected or labelled."""
  if stage.selection is None:
    return set()
  return {part for part, of in stage.parts.items() if all(":" in name for name in of)}


def _labelled_forget(stage: TrainStage, labels: RowLabels) -> float:
  """Return which share of a mixture is labelled forget, filtered out or not."""
  forget = kept = 0.0
  for name, weight in stage.parts[BATCH].items():
    split, _, which = name.partition(":")
    if split not in labels.forget:
      kept += weight
    else:
      forget += weight / (1.0 - labels.share) if which == UNLABELLED else weight
  return labels.share * forget / (forget + kept)
