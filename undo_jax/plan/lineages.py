"""What the stages of a plan need of each other, and which of them are models."""

from collections.abc import Sequence

from undo_jax.plan.stages import (
  DATA,
  AblateStage,
  GivenStage,
  Model,
  Read,
  Stage,
  TrainStage,
)


def needed(stages: Sequence[Stage], names: Sequence[str]) -> list[Stage]:
  """Return the part of a plan that the named stages need, themselves included."""
  wanted = set(names)
  for stage in reversed(stages):
    if stage.name in wanted:
      wanted |= set(stage.inputs.values())
  return [stage for stage in stages if stage.name in wanted]


def models(stages: Sequence[Stage]) -> list[Model]:
  """Return the models of a plan, less those that are only made to be ablated."""
  whole = {stage.whole for stage in stages if isinstance(stage, AblateStage)}
  return [
    stage
    for stage in stages
    if isinstance(stage, GivenStage | TrainStage | AblateStage)
    and stage.name not in whole
  ]


def lineage(stages: Sequence[Stage], name: str) -> list[TrainStage | Read]:
  """Return the stages whose cost counts for a model, its own included.

  These are stages that are trained, or what training reads: squared gradients, a
  teacher's predictions, selected rows.
  """
  by_name = {stage.name: stage for stage in stages}
  ancestors: dict[str, TrainStage | Read] = {}

  def visit(name: str) -> None:
    stage = by_name[name]
    if name in ancestors or (isinstance(stage, TrainStage) and not stage.is_counted):
      return
    if isinstance(stage, TrainStage | Read):
      ancestors[name] = stage
    for role, parent in stage.inputs.items():
      if role != DATA:
        visit(parent)

  visit(name)
  return list(ancestors.values())


def trained(stages: Sequence[Stage], model: Model) -> Model:
  """Return the stage that trained a model: itself, or what it is an ablation of."""
  if not isinstance(model, AblateStage):
    return model
  return next(
    stage
    for stage in stages
    if isinstance(stage, TrainStage) and stage.name == model.whole
  )
