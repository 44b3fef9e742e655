"""What a score measures, and whether more of it is more capability."""

from collections.abc import Mapping
from typing import Literal, Protocol, TypedDict

Direction = Literal["more capable", "less capable"]


class Metric(TypedDict):
  """Of one score, as results.json holds it."""

  name: str
  unit: str
  range: list[float | None]  # None: no bound.
  higher_is: Direction


class Directed(Protocol):
  """A record of a metric."""

  @property
  def higher_is(self) -> str:
    """As Metric has it."""
    ...


def accuracy(of: str) -> Metric:
  """Return the metric of a share of right answers."""
  return {
    "name": of,
    "unit": "accuracy",
    "range": [0, 1],
    "higher_is": "more capable",
  }


def probability(of: str) -> Metric:
  """Return the metric of a mean probability."""
  return {
    "name": f"probability of {of}",
    "unit": "probability",
    "range": [0, 1],
    "higher_is": "more capable",
  }


def cross_entropy(of: str) -> Metric:
  """Return the metric of a cross-entropy."""
  return {
    "name": f"cross-entropy on {of}",
    "unit": "nats per token",
    "range": [0, None],
    "higher_is": "less capable",
  }


def higher_is_worse(metric: Directed | Mapping[str, object]) -> bool:
  """Whether a higher score means more capability, which is worse of a forget score.

  Args:
    metric: a record with the field higher_is, or a mapping with that key.

  Returns:
    True for accuracies, False for cross-entropies.

  Raises:
    ValueError: if its "higher_is" is neither "more capable" nor "less capable".
  """
  directions: dict[object, bool] = {"more capable": True, "less capable": False}
  is_mapping = isinstance(metric, Mapping)
  higher_is = metric["higher_is"] if is_mapping else metric.higher_is
  if higher_is not in directions:
    raise ValueError(
      f"higher_is must be one of {sorted(map(str, directions))}, got {higher_is!r}"
    )
  return directions[higher_is]
