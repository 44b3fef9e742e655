"""Runs the stages of a plan in a run directory, resuming what is unfinished.

    WORKDIR/config.json command.txt environment.json
    WORKDIR/stages/<name>-<identity>/ config.json metrics.jsonl tensorboard/
        checkpoints/ leases/ done.json
    WORKDIR/results.json report.html figures/

done.json is written last: a stage that has it is finished and only read. Several
drivers may work on one workdir at once, see sharing.py. All processes of a run run
this code together; only the first one writes what is not an array (see processes.py).
"""

from undo_jax.distributed import processes
from undo_jax.running.run import Outcome, Run
from undo_jax.running.sharing import run_shared, summary

__all__ = ("Outcome", "Run", "outcomes", "run_shared", "run_stages", "summary")


def run_stages(run: Run) -> dict[str, Outcome]:
  """Run every unfinished stage in order; return their done.json by name."""
  run_shared([run])
  return outcomes(run)


def outcomes(run: Run) -> dict[str, Outcome]:
  """Return the done.json of a finished run's stages, by name."""
  # What the first process sees is what holds: the others may see a file later.
  names = [stage.name for stage in run.stages]
  return processes.on_first("done", lambda: {name: run.done(name) for name in names})
