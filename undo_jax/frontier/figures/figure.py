"""What the report knows of a figure: the record that its file ends in."""

from collections.abc import Callable
import dataclasses
from typing import Literal

from matplotlib.figure import Figure as Drawing

from undo_jax.frontier.results import Results


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
  """A figure of the page."""

  draw: Callable[[Results], Drawing]
  title: str
  caption: str
  # What it cannot be drawn without: models of these roles, or an attack.
  needs: tuple[Literal["base", "filtered", "unlearned", "attack"], ...] = ()
