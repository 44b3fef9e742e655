"""UNDO end to end: pretrain, unlearn, noise, distill, attack, report.

COMMAND:

  python -m experiments.undo --config=configs/arithmetic.py:tiny --workdir=DIR

The same command resumes a run that was stopped; see configs/ for the settings.
"""

import logging
import os
from typing import Any

from experiments import launch
from undo_jax import running, stages
from undo_jax.distributed import processes
from undo_jax.frontier import report, results
from undo_jax.utils import environment, files

LOGGER = logging.getLogger("undo_jax")
_CONFIG, _WORKDIR = launch.define_flags()


def main(argv: list[str]) -> None:
  """Runs what is not finished yet of the config in the workdir."""
  del argv
  run_undo(_CONFIG.value, str(_WORKDIR.value))


def run_undo(config: Any, workdir: str | os.PathLike[str]) -> None:
  """Checks the config, runs its stages and writes results and report."""
  workdir = files.path(workdir)
  mesh = launch.check(config)
  plan = stages.plan(config)
  run = launch.claim(config, workdir, mesh, plan)
  page = workdir / "report.html"
  if processes.on_first("finished", lambda: page.exists() and _is_done(run)):
    LOGGER.info("nothing to do: this run is finished, see %s", page)
    return
  environment.record(workdir)
  outcomes = running.run_stages(run)
  if processes.is_first():
    _report(config, run, outcomes)


def _is_done(run: running.Run) -> bool:
  return all(run.done(stage.name) for stage in run.stages)


def _report(config: Any, run: running.Run, outcomes: dict[str, Any]) -> None:
  found = results.assemble(
    setting=config.setting,
    seed=config.seed,
    budgets=config.report.budgets,
    stages=list(run.stages),
    outcomes=outcomes,
  )
  files.write_json(run.workdir / "results.json", found)
  report.write(found, run.workdir)
  print(report.text_table(found))
  LOGGER.info("results are in %s", run.workdir / "report.html")


if __name__ == "__main__":
  launch.run(main)
