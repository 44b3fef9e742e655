"""Search the hyper-parameters of a config's models before its tables are run.

COMMAND:

  undo-jax search --config=frontier:tiny --workdir=DIR
  undo-jax frontier --config=frontier:tiny --workdir=DIR --chosen=DIR/search/search.json

config.search names the models, the fields with their ranges, the number of trials (the
same for each model), and bounds on retained capability and compute. Trials have seeds
of their own and are scored on validation items alone, before and after a short attack.
A trial consists of stages of the workdir; stages that trials share are run once. The
same command resumes a search that was stopped; given again while it runs, it works on
the same search. It prints what was chosen, and with --dry_run what the trials will
cost at most.
"""

from undo_jax.cli import launch
from undo_jax.cli.process import Main
from undo_jax.estimation import search_workload
from undo_jax.frontier import search_results, search_table
from undo_jax.running import search
from undo_jax.utils import files, tables


def define() -> Main:
  """Define the flags; the main searches what is left of a config in a workdir."""
  config, workdir = launch.define_flags()
  dry_run = launch.define_dry_run()

  def main(argv: list[str]) -> None:
    del argv
    root = files.path(str(workdir.value))
    if dry_run.value:
      search_workload.print_plan(root, config.value)
      return
    result = search.run_search(config.value, str(workdir.value))
    print(tables.text(search_table.HEAD, search_table.rows(result)))
    print(f"to run with what was chosen: --chosen={search_results.path(root)}")

  return main
