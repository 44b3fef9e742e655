"""How numbers are written on the page, in figures and in the terminal."""

from undo_jax.frontier.statistics import Mean

ABSENT = "–"
NOT_ATTACKED = "not attacked"


def number(mean: Mean | None, *, digits: int = 3) -> str:
  """Format a score, of several seeds "mean ± half-width of its interval".

  A minus sign never stands before a zero.
  """
  if mean is None:
    return ABSENT
  text = f"{mean.value:z.{digits}f}".replace("-", "−")
  return text if mean.half_width is None else f"{text} ± {mean.half_width:.{digits}f}"


def count(value: float) -> str:
  """Format a count with thousands separated; a mean is rounded."""
  return f"{value:,.0f}"


def share(mean: Mean | None) -> str:
  """Format a share of one in percent, of several seeds with its interval.

  What is the same for all seeds, as fixed training is, has no interval.
  """
  if mean is None:
    return ABSENT
  value, half = 100 * mean.value, 100 * (mean.half_width or 0.0)
  digits = 0 if value >= 10 else 1
  if len(set(mean.by_seed)) == 1:
    return f"{value:.{digits}f} %"
  return f"{value:.{digits}f} ± {half:.{digits}f} %"


def significant(value: float) -> float:
  """Return a number of six digits, which no chart shows more of."""
  return float(f"{value:.6g}")
