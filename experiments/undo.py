"""UNDO end to end: pretrain, unlearn, noise, distill, attack, report.

COMMAND:

  python -m experiments.undo --config=configs/arithmetic.py:tiny --workdir=DIR

The same command resumes a run that was stopped; see configs/ for the settings.
"""

import logging
import pathlib
from typing import Any

from experiments import launch
from undo_jax import environment, files, running, stages, validation
from undo_jax.frontier import report, results
from undo_jax.training import sharding

LOGGER = logging.getLogger("undo_jax")
_CONFIG, _WORKDIR = launch.define_flags()


def main(argv: list[str]) -> None:
  """Runs what is not finished yet of the config in the workdir."""
  del argv
  run_undo(_CONFIG.value, pathlib.Path(str(_WORKDIR.value)).resolve())


def run_undo(config: Any, workdir: pathlib.Path) -> None:
  """Checks the config, runs its stages and writes results and report."""
  mesh = sharding.make_mesh(**config.mesh)
  validation.check(config, dict(mesh.shape))
  validation.claim_workdir(workdir, config)
  plan = stages.plan(config)
  run = running.Run(
    workdir,
    mesh,
    checkpoint_every=config.checkpoint_every,
    evaluation_rows=config.evaluation_rows,
    stages=tuple(plan),
  )
  page = workdir / "report.html"
  if page.exists() and all(run.done(stage.name) for stage in plan):
    LOGGER.info("nothing to do: this run is finished, see %s", page)
    return
  files.write_json(workdir / "environment.json", environment.describe())
  files.write_text(workdir / "command.txt", environment.command() + "\n")
  outcomes = running.run_stages(run)
  found = results.assemble(
    setting=config.setting, seed=config.seed, stages=plan, outcomes=outcomes
  )
  files.write_json(workdir / "results.json", found)
  report.write(found, workdir)
  print(report.text_table(found))
  LOGGER.info("results are in %s", page)


if __name__ == "__main__":
  launch.run(main)
