"""What pretrain, unlearn, distill, relearn and evaluate share: one stage alone."""

from absl import flags

from undo_jax.cli import launch
from undo_jax.cli.process import Main
from undo_jax.running import runs


def define(kind: str) -> Main:
  """Defines the flags; the main runs the stages of one kind, see runs.run_single."""
  config, workdir = launch.define_flags()
  checkpoint = flags.DEFINE_string(
    "checkpoint",
    None,
    "Start from this model: a stage's directory (WORKDIR/stages/NAME) or one of "
    "Hugging Face (config.json and safetensors). Its sizes replace config.model.",
  )
  models = flags.DEFINE_list("models", None, "Make only these of the stage's models.")

  def main(argv: list[str]) -> None:
    del argv
    runs.run_single(
      kind,
      config.value,
      str(workdir.value),
      checkpoint=checkpoint.value,
      models=models.value,
      profile_steps=launch.profile_steps(),
    )

  return main
