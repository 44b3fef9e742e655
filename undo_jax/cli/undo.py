"""Run UNDO end to end: pretrain, unlearn, noise, distill, attack, report.

COMMAND:

  undo-jax undo --config=arithmetic:tiny --workdir=DIR

Runs what the config's tables of models and attacks declare, for each of its seeds;
configs/ has a config for each task. The same command resumes a run that was stopped;
given again while the run goes on, here or on another machine, it shares the stages.
--engine gives the stages to workers of Ray or Slurm.
"""

from undo_jax.cli import elsewhere, launch
from undo_jax.cli.process import Main
from undo_jax.estimation import host, workload
from undo_jax.running import runs
from undo_jax.utils import files


def define() -> Main:
  """Define the flags; the main runs what is not finished of a config in a workdir."""
  config, workdir = launch.define_flags()
  dry_run, chosen = launch.define_dry_run(), launch.define_chosen()
  elsewhere.define()

  def main(argv: list[str]) -> None:
    del argv
    settings, search = launch.chosen(config.value, chosen.value)
    if dry_run.value:
      declared = runs.declare(settings)
      plans = {seed: declared.plan(seed) for seed in declared.config.seeds}
      made, at_once = declared.config, declared.config.students_at_once
      workload.print_plan(
        files.path(str(workdir.value)),
        plans,
        declared.mesh,
        students_at_once=at_once if made.updates_at_once == 1 else 1,
        checkpoints_kept=made.checkpoints_kept,
        replicas_at_once=made.replicas_at_once,
      )
      names = {stage.name for stage in plans[declared.config.seeds[0]]}
      host.check(declared.config, declared.mesh, names)
      return
    steps, where = launch.profile_steps(), elsewhere.of_flags(str(workdir.value))
    if elsewhere.stages() is not None:
      names = elsewhere.stages() or ()
      runs.run_part(settings, str(workdir.value), names, profile_steps=steps)
      return
    runs.run_all(
      settings,
      str(workdir.value),
      profile_steps=steps,
      elsewhere=where,
      search=search,
    )

  return main
