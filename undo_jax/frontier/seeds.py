"""The results of several seeds as one: means, and each seed's own scores.

What `combine` returns is a results dict of schema 1 (see results.py) with "seeds" in
place of "seed" and, for each model, "by_seed": {"retain" and "forget" (before the
attack) and "compute" (fraction of data filtering's): [K], "worst_forget": [K][S]}, in
the order of the seeds K. All other numbers are means over the seeds, but the worst
learning rates: of each step the median.
"""

from collections.abc import Mapping, Sequence
import statistics
from typing import Any

from undo_jax.utils.types import ConfigError


def combine(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
  """Returns the mean of runs that differ in their seeds alone.

  A worst score is the mean of the worst scores, each by its own run's adversary, and
  not the worst score of the mean.

  Args:
    runs: results dicts of schema 1 by what an error calls them; at least two.

  Returns:
    The results dict of the module's docstring, its runs in the order of their seeds.

  Raises:
    ConfigError: if there are fewer than two, two have the same seed, or they differ in
      more than seeds and scores; names the first place.
  """
  if len(runs) < 2:
    raise ConfigError(f"expected results of two seeds or more, got {len(runs)}")
  named = sorted(runs.items(), key=lambda run: run[1]["seed"])
  for (one, first), (other, second) in zip(named, named[1:], strict=False):
    if first["seed"] == second["seed"]:
      raise ConfigError(
        f"expected runs of different seeds, got seed {first['seed']} in {one} and "
        f"{other}; run one with another --config.seed"
      )
    _check_alike(_form(first), _form(second), (one, other), "")
  results = [run for _, run in named]
  found = {
    key: value for key, value in _mean(results).items() if key not in ("seed", "models")
  }
  found["seeds"] = [run["seed"] for run in results]
  found["models"] = {
    name: _model([run["models"][name] for run in results])
    for name in results[0]["models"]
  }
  return found


def _model(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Returns the mean of one model's entries, with its scores by seed."""
  found = _mean(models)
  rates_SxK = zip(*(m["relearn"]["worst_learning_rate"] for m in models), strict=True)
  found["relearn"]["worst_learning_rate"] = [
    statistics.median_low(rates_K) for rates_K in rates_SxK
  ]
  found["stopped"] = {
    "reason": ", ".join(dict.fromkeys(m["stopped"]["reason"] for m in models)),
    "updates": found["stopped"]["updates"],
  }
  found["by_seed"] = {
    **{key: [m["before"][key] for m in models] for key in ("retain", "forget")},
    "compute": [m["compute"]["fraction_of_data_filtering"] for m in models],
    "worst_forget": [m["relearn"]["worst_forget"] for m in models],
  }
  return found


def _mean(values: Sequence[Any]) -> Any:
  """Returns the mean of equally built trees; what is no number is the first's."""
  first = values[0]
  if isinstance(first, Mapping):
    return {key: _mean([value[key] for value in values]) for key in first}
  if isinstance(first, list):
    return [_mean(elements) for elements in zip(*values, strict=True)]
  if any(type(value) not in (int, float) for value in values):
    return first
  same = all(value == first for value in values)
  return first if same else statistics.fmean(values)  # Counts stay integers.


def _form(results: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what runs of the same config share, whatever their seeds."""
  shared = {key: results[key] for key in ("schema", "setting", "budgets", "metrics")}
  models = {
    name: {key: model["relearn"][key] for key in ("attack", "learning_rates", "steps")}
    for name, model in results["models"].items()
  }
  return {**shared, "models": models}


def _check_alike(first: Any, second: Any, names: tuple[str, str], path: str) -> None:
  """Raises ConfigError with the first place where two trees differ."""
  both_maps = isinstance(first, Mapping) and isinstance(second, Mapping)
  if both_maps and list(first) == list(second):
    for key in first:
      _check_alike(first[key], second[key], names, f"{path}/{key}")
    return
  one, other = (list(v) if isinstance(v, Mapping) else v for v in (first, second))
  if one != other:
    raise ConfigError(
      f"expected runs that differ in their seeds alone, but {path[1:]} is {one} in "
      f"{names[0]} and {other} in {names[1]}; run both with the same config"
    )
