"""What pretrain, unlearn, distill, relearn and evaluate share: one stage alone."""

from absl import flags

from undo_jax.cli import launch
from undo_jax.cli.process import Main
from undo_jax.estimation import host
from undo_jax.running import runs


def define(kind: str) -> Main:
  """Define the flags; the main runs the stages of one kind, see runs.run_single."""
  config, workdir = launch.define_flags()
  dry_run = launch.define_dry_run()
  checkpoint = flags.DEFINE_string(
    "checkpoint",
    None,
    "Start from this model: a stage's directory (WORKDIR/stages/NAME) or one of "
    "Hugging Face (config.json and safetensors). Its sizes replace config.model.",
  )
  models = flags.DEFINE_list("models", None, "Make only these of the stage's models.")

  def main(argv: list[str]) -> None:
    del argv
    chosen = {"checkpoint": checkpoint.value, "models": models.value}
    if dry_run.value:
      _, declared, plans = runs.plan_single(kind, config.value, **chosen)
      names = {stage.name for plan in plans.values() for stage in plan}
      host.check(declared.config, declared.mesh, names)
      return
    runs.run_single(
      kind,
      config.value,
      str(workdir.value),
      **chosen,
      profile_steps=launch.profile_steps(),
    )

  return main
