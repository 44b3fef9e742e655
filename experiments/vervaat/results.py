"""The results of the study: results.json and its tables."""

from collections.abc import Mapping
from typing import TypeAlias, TypedDict, cast

from undo_jax.utils import tables


class Cumulant(TypedDict):
  """A cumulant of draws."""

  value: float
  expected: float  # beta / k
  z: float  # Their difference in standard errors.


class Time(TypedDict):
  """The steps and random numbers that a draw takes."""

  steps: float  # Mean over draws, in all blocks.
  steps_error: float  # Standard error of the mean.
  most_steps: int
  uniforms: float
  uniforms_over_beta_log: float  # uniforms / (beta ln(beta + 2))
  log10_earlier_bound: float  # Of (2.23 beta)^beta, Fill and Huber 2010.


class Histogram(TypedDict):
  """Shares of draws in intervals, divided by the intervals' lengths."""

  x: list[float]
  density: list[float]
  solved: list[float]


class ExactPart(TypedDict):
  """The results for a beta, drawn exactly."""

  beta: float
  draws: int
  cumulants: list[Cumulant]
  ks_p_value: float  # Against the solved distribution function.
  sum_ks_p_value: float  # Of Y_(beta / 3) + Y_(2 beta / 3), likewise.
  series_ks_p_value: float  # Against draws by the series.
  time: Time
  violations: int  # Steps at which the upper bound was above the dominating chain.
  histogram: Histogram


class OfUpdate(TypedDict):
  """The results for one update."""

  cumulants: list[Cumulant]
  time: Time
  violations: int


class PublishedPart(TypedDict):
  """The results for a beta, by all updates."""

  beta: float
  draws: int
  updates: dict[str, OfUpdate]


Part: TypeAlias = ExactPart | PublishedPart


class Results(TypedDict):
  """The content of results.json."""

  exact: list[ExactPart]
  published: list[PublishedPart]
  slow: list[PublishedPart]


def assemble(parts: Mapping[str, Part]) -> Results:
  """Return the parts by kind."""
  by_kind = {
    kind: [part for name, part in parts.items() if name.startswith(f"{kind}_")]
    for kind in ("exact", "published", "slow")
  }
  return cast(Results, by_kind)


def table(results: Results) -> str:
  """Return tables of exact draws, published steps and their times, in Markdown."""
  return "\n\n".join(
    (exact_table(results), published_table(results), slow_table(results))
  )


def exact_table(results: Results) -> str:
  """Return a row for each beta: errors of the draws, and what they take."""
  header = ["beta", "draws", "z of cumulants 1, 2, 3", "KS p", "sum", "series"]
  header += ["above D", "steps", "most", "uniforms / (beta ln(beta + 2))", "earlier"]
  rows = []
  for part in results["exact"]:
    time = part["time"]
    p_values = (part["ks_p_value"], part["sum_ks_p_value"], part["series_ks_p_value"])
    rows.append(
      [
        *(f"{part['beta']:g}", f"{part['draws']:,}", _z(part["cumulants"])),
        *(f"{p:.2f}" for p in p_values),
        *(f"{part['violations']}", f"{time['steps']:.1f}", f"{time['most_steps']:,}"),
        *(f"{time['uniforms_over_beta_log']:.1f}", _power(time["log10_earlier_bound"])),
      ]
    )
  return tables.markdown(header, rows)


def published_table(results: Results) -> str:
  """Return a row for each beta: errors of the draws by each update."""
  names = _updates(results["published"])
  header = ["beta", "draws", *(f"{n}: z of cumulants 1, 2, 3" for n in names)]
  header += [f"{name}: above D" for name in names]
  rows = []
  for part in results["published"]:
    of = [part["updates"][name] for name in names]
    rows.append(
      [
        *(f"{part['beta']:g}", f"{part['draws']:,}"),
        *(_z(each["cumulants"]) for each in of),
        *(f"{each['violations']:,}" for each in of),
      ]
    )
  return tables.markdown(header, rows)


def slow_table(results: Results) -> str:
  """Return a row for each beta: uniform variables of a draw by each update."""
  names = _updates(results["slow"])
  rows = [
    [
      f"{part['beta']:g}",
      *(f"{part['updates'][name]['time']['uniforms']:,.0f}" for name in names),
    ]
    for part in results["slow"]
  ]
  return tables.markdown(["beta", *(f"uniforms, {name}" for name in names)], rows)


def _updates(parts: list[PublishedPart]) -> list[str]:
  return list(parts[0]["updates"])


def _z(cumulants: list[Cumulant]) -> str:
  return ", ".join(f"{each['z']:z.1f}" for each in cumulants)


def _power(log10: float) -> str:
  """Format a number by its logarithm."""
  return f"{10**log10:.2g}" if abs(log10) < 4 else f"10^{log10:.0f}"
