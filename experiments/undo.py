"""UNDO end to end: pretrain, unlearn, noise, distill, attack, report.

COMMAND:

  python -m experiments.undo --config=configs/arithmetic.py:tiny --workdir=DIR

The same command resumes a run that was stopped; see configs/ for the settings.
"""

import logging
import pathlib
from typing import Any

from experiments import launch
from undo_jax import environment, files, running, stages
from undo_jax.frontier import report, results

LOGGER = logging.getLogger("undo_jax")
_CONFIG, _WORKDIR = launch.define_flags()


def main(argv: list[str]) -> None:
  """Runs what is not finished yet of the config in the workdir."""
  del argv
  run_undo(_CONFIG.value, pathlib.Path(str(_WORKDIR.value)).resolve())


def run_undo(config: Any, workdir: pathlib.Path) -> None:
  """Checks the config, runs its stages and writes results and report."""
  mesh = launch.check(config)
  plan = stages.plan(config)
  run = launch.claim(config, workdir, mesh, plan)
  page = workdir / "report.html"
  if page.exists() and all(run.done(stage.name) for stage in plan):
    LOGGER.info("nothing to do: this run is finished, see %s", page)
    return
  environment.record(workdir)
  outcomes = running.run_stages(run)
  found = results.assemble(
    setting=config.setting,
    seed=config.seed,
    budgets=config.report.budgets,
    stages=plan,
    outcomes=outcomes,
  )
  files.write_json(workdir / "results.json", found)
  report.write(found, workdir)
  print(report.text_table(found))
  LOGGER.info("results are in %s", page)


if __name__ == "__main__":
  launch.run(main)
