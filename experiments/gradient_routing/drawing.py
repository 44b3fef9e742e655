"""Figures of the studies as PNG bytes, all in one style, without pyplot's state."""

from collections.abc import Callable, Mapping
import io

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_STYLE = {
  "font.size": 10,
  "font.family": "DejaVu Sans",
  "axes.edgecolor": "#999999",
  "axes.grid": True,
  "axes.labelcolor": "#222222",
  "axes.spines.right": False,
  "axes.spines.top": False,
  "axes.axisbelow": True,
  "axes.titlesize": 10.5,
  "axes.titlelocation": "left",
  "grid.color": "#e6e6e6",
  "grid.linewidth": 0.8,
  "xtick.color": "#444444",
  "ytick.color": "#444444",
  "legend.frameon": False,
  "legend.fontsize": 9.5,
}


def render(draw: Mapping[str, Callable[[], Figure]]) -> dict[str, bytes]:
  """Draw figures by file name in one style; equal figures give equal PNG bytes."""
  with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
    return {name: _png(function()) for name, function in draw.items()}


def _png(figure: Figure) -> bytes:
  """Render a figure; without the software entry equal figures are equal bytes."""
  FigureCanvasAgg(figure)
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
  return buffer.getvalue()
