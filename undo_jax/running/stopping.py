"""When a student has recovered its teacher."""

from undo_jax import tasks
from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.plan.stages import PredictionsStage, TrainStage
from undo_jax.running.ablation import ABLATED
from undo_jax.running.run import GROUPS, Run
from undo_jax.training import stop_rules
from undo_jax.training.stop_rules import ShouldStop
from undo_jax.utils.types import ConfigError


def stop_rule(run: Run, stage: TrainStage) -> ShouldStop | None:
  """Return the rule that ends a stage before its last step; None: a fixed budget."""
  if stage.stop is None or stage.stop.rule is None:
    return None
  rule = stop_rules.RULES.get(stage.stop.rule)
  should_stop = rule.make(
    stage.stop.options, _teacher(run, stage, rule), _falling(stage)
  )
  if stage.reserve is None:
    return should_stop

  def left(scores):  # What ablation leaves must recover, not what it removes.
    return {
      name.removeprefix(ABLATED): value
      for name, value in scores.items()
      if name.startswith(ABLATED)
    }

  return lambda scores: should_stop(left(scores))


def _teacher(run: Run, stage: TrainStage, rule: stop_rules.StopRule):
  if not rule.reads_teacher:
    return {}
  outcome = run.done(_teacher_of(run, stage))
  assert outcome is not None, "the teacher's stage comes first in the plan"
  return outcome["validation"]


def _teacher_of(run: Run, stage: TrainStage) -> str:
  """Return the stage of a student's teacher, whose predictions may be kept."""
  if stage.predictions is None:
    return stage.frozen["teacher"]
  kept = next(other for other in run.stages if other.name == stage.predictions)
  assert isinstance(kept, PredictionsStage), "the plan names a stage of this kind"
  return kept.source


def _falling(stage: TrainStage) -> list[str]:
  """Return the names of the scores where less is better."""
  task = tasks.get(stage.task)
  options = stage.stop.options if stage.stop else {}
  return [
    name
    for name in options.get("scores", ("retain",))
    if name in task.falling
    or not higher_is_worse(task.metrics.get(name, task.metrics["retain"]))
  ]


def check_stop_rules(run: Run, names: tuple[str, ...]) -> None:
  """Raise ConfigError if a later stage's stop rule reads a score that is missing."""
  known = (*GROUPS, *names)
  for stage in run.stages:
    if not isinstance(stage, TrainStage) or stage.stop is None:
      continue
    for name in stage.stop.options.get("scores", ()):
      if name not in known:
        raise ConfigError(
          f"config.models.{stage.name}.stop.options.scores: expected names among "
          f"{', '.join(known)}, got {name!r}; set it in the config file"
        )
