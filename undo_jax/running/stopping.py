"""When a student has recovered its teacher."""

from collections.abc import Callable
import functools

from undo_jax import tasks as settings_lib
from undo_jax.frontier.robustness import higher_is_worse
from undo_jax.running.ablation import ABLATED
from undo_jax.running.run import Run
from undo_jax.stages import Stage
from undo_jax.training import stop_rules
from undo_jax.utils.types import ConfigError


def stop_rule(run: Run, stage: Stage) -> Callable[[dict[str, float]], bool] | None:
  """Returns whether a student has recovered its teacher, or None: a fixed budget."""
  settings = stage.settings["stop"]
  if settings is None or not settings.get("scores", ("retain",)):
    return None
  outcome = run.done(stage.inputs["teacher"])
  assert outcome is not None, "the teacher's stage comes first in the plan"
  setting = settings_lib.get(stage.settings["setting"])
  rule = stop_rules.StopRule(
    tolerance=settings["tolerance"],
    relative=settings["relative"],
    scores=tuple(settings.get("scores", ("retain",))),
  )
  falling = [
    name
    for name in rule.scores
    if name in getattr(setting, "FALLING", ())
    or not higher_is_worse(setting.METRICS.get(name, setting.METRICS["retain"]))
  ]
  recovered = functools.partial(
    stop_rules.recovered, rule, teacher=outcome["scores"], falling=falling
  )
  if "routing" not in stage.settings:
    return recovered

  def left(scores):  # What ablation leaves must recover, not what it removes.
    return {
      name.removeprefix(ABLATED): value
      for name, value in scores.items()
      if name.startswith(ABLATED)
    }

  return lambda scores: recovered(left(scores))


def check_stop_rules(run: Run, tasks: tuple[str, ...]) -> None:
  """Raises ConfigError if a later stage's stop rule asks for a score there is not."""
  known = ("retain", "forget", *tasks)
  for stage in run.stages:
    for name in (stage.settings.get("stop") or {}).get("scores", ()):
      if name not in known:
        raise ConfigError(
          f"config.distill.stop.scores: expected names among {', '.join(known)}, got "
          f"{name!r}; set it by --config.distill.stop.scores=VALUE"
        )
