"""What the report knows of a figure: the record that its file ends in."""

from collections.abc import Callable
import dataclasses
from typing import Any, Literal, Protocol, TypeAlias

from undo_jax.frontier.results import Results

Need: TypeAlias = Literal["base", "filtered", "unlearned", "attack", "labels"]


class Chart(Protocol):
  """A chart of Vega-Altair, or what else gives a specification."""

  def to_dict(self) -> dict[str, Any]:
    """Return the specification."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
  """A figure of the page: one chart of Vega-Lite, laid out for a width in pixels."""

  # Its specification, or a chart of Vega-Altair.
  draw: Callable[[Results, int], dict[str, Any] | Chart]
  title: str
  caption: str
  # What it cannot be drawn without: models of these roles, an attack, counted labels.
  needs: tuple[Need, ...] = ()
