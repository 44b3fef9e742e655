r"""Open the report of a finished run in the browser.

COMMAND:

  undo-jax open runs/arithmetic

Prints the path of report.html and opens it; on a machine without a screen it only
prints. The report is one file that needs no network, so it can be copied anywhere.
"""

import logging
import pathlib
import webbrowser

from undo_jax.cli.process import Main
from undo_jax.utils.types import ConfigError

LOGGER = logging.getLogger("undo_jax")


def define() -> Main:
  """Define no flags; the main opens the page of the run that is named."""

  def main(argv: list[str]) -> None:
    if len(argv) != 2:
      raise ConfigError(f"expected the directory of one run, got {len(argv) - 1}")
    page = find(pathlib.Path(argv[1]))
    print(page)
    if not webbrowser.open(page.as_uri()):
      LOGGER.info("no browser here; copy the page to where there is one")

  return main


def find(directory: pathlib.Path) -> pathlib.Path:
  """Return the absolute path of a run's page.

  Raises:
    ConfigError: if there is none.
  """
  page = directory / "report.html"
  if not page.is_file():
    raise ConfigError(
      f"expected the directory of a finished run, but there is no {page}; the command "
      "that began the run ends it"
    )
  return page.resolve()
