r"""Join several runs in one report: more seeds of the same models, or other models.

COMMAND:

  undo-jax compare --output=runs/both runs/frontier runs/other results/leaderboard.jsonl

Each argument is the directory of a finished run of undo or frontier, or a leaderboard:
a file with one JSON line for each model, exported by --leaderboard=FILE.jsonl. Runs
can be joined only if their task, data, model and attacks are the same; an error names
the first field that differs. Writes results.json
(see undo_jax/frontier/results.py), report.html and figures.
"""

from collections.abc import Sequence
import json
import logging
import os
import pathlib

from absl import flags

from undo_jax.cli.process import Main
from undo_jax.frontier import merging, report, results
from undo_jax.frontier.results import Results
from undo_jax.utils import files
from undo_jax.utils.types import ConfigError

LOGGER = logging.getLogger("undo_jax")


def define() -> Main:
  """Define the flags; the main reads the runs that are named after them."""
  output = flags.DEFINE_string("output", None, "Directory to write.", required=True)
  leaderboard = flags.DEFINE_string(
    "leaderboard", None, "Also write a .jsonl file with a line for each model."
  )

  def main(argv: list[str]) -> None:
    board = leaderboard.value
    compare(
      argv[1:], pathlib.Path(str(output.value)), None if board is None else str(board)
    )

  return main


def compare(
  sources: Sequence[str], output: pathlib.Path, leaderboard: str | None = None
) -> None:
  """Write the results of several runs as one, and print their table.

  Args:
    sources: directories of finished runs, and leaderboards.
    output: the directory to write.
    leaderboard: a .jsonl file to write, or None.
  """
  if not sources:
    raise ConfigError("expected directories of runs or leaderboards, got none")
  if leaderboard is not None and not leaderboard.endswith(".jsonl"):
    raise ConfigError(f"--leaderboard: expected a name in .jsonl, got {leaderboard!r}")
  runs: dict[str, Results] = {}
  for name in sources:
    runs |= read(name, output)
  merged = merging.merge(runs)
  files.write_json(output / "results.json", results.to_json(merged))
  page = report.write(merged, output)[-1]
  if leaderboard is not None:
    lines = [json.dumps(results.to_json(one)) for one in merging.single(merged)]
    files.write_text(pathlib.Path(leaderboard), "\n".join(lines) + "\n")
  print(report.text_table(merged))
  LOGGER.info("results are in %s", page)


def read(name: str, output: pathlib.Path) -> dict[str, Results]:
  """Return the results of a run, or of each line of a leaderboard, by their names."""
  path = pathlib.Path(name)
  if path.suffix == ".jsonl":
    return _read_leaderboard(path)
  file = path / "results.json"
  if not file.is_file():
    raise ConfigError(f"expected the results of a finished run, but no {file}")
  run = results.from_json(files.read_record(file), path=str(file))
  where = os.path.relpath(path.resolve(), output.resolve())
  return {name: merging.located(run, where)}


def _read_leaderboard(path: pathlib.Path) -> dict[str, Results]:
  if not path.is_file():
    raise ConfigError(f"expected a leaderboard, but no file {path}")
  runs = {}
  for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
    where = f"{path}, line {number}"
    try:
      value = json.loads(line)
    except (ValueError, RecursionError) as error:
      raise ConfigError(f"{where}: expected JSON ({error})") from None
    if not isinstance(value, dict):
      raise ConfigError(f"{where}: expected an object of results, got {line[:40]}")
    runs[where] = results.from_json(value, path=where)
  if not runs:
    raise ConfigError(f"expected a line for each model, got an empty file {path}")
  return runs
