"""Results of several runs as one: more seeds of a model, and other models beside it."""

from collections.abc import Iterable, Mapping
import dataclasses
import itertools
from typing import Any

from undo_jax.frontier import matched
from undo_jax.frontier.results import Apart, ModelResult, ModelRun, Results
from undo_jax.utils import records
from undo_jax.utils.errors import ConfigError

# Of results, what must be the same: fields that say what the numbers are.
_PROTOCOL = ("task", "protocol", "metrics")


def merge(runs: Mapping[str, Results]) -> Results:
  """Return results of one protocol as one.

  Models of one name and recipe are one model of all their seeds. One that has the name
  of another and a different recipe is kept beside it, as NAME@RUN. References and the
  report's settings are those of the first run.

  Args:
    runs: results by what an error calls them.

  Raises:
    ConfigError: if they differ in task, data, model, metrics or in an attack that both
      have (names the field), or a seed of a model is there twice with other results.
  """
  (first_name, first), *others = runs.items()
  for name, other in others:
    _check_protocol(first, other, (first_name, name))
  models: dict[str, ModelResult] = {}
  for where, results in runs.items():
    for name, model in results.models.items():
      there = models.get(name)
      if there is not None and there.recipe != model.recipe:
        name = f"{name}@{where}"
        label = f"{model.label} ({where})"
        model = records.replaced(model, label=label, family=None)
      models[name] = _joined(name, models.get(name), model)
  seeds = sorted({run.seed for model in models.values() for run in model.runs})
  attacks, described = {}, {}
  for results in runs.values():
    attacks = results.attacks | attacks
    described = results.protocol["attacks"] | described
  merged = records.replaced(
    first,
    seeds=tuple(seeds),
    attacks=attacks,
    protocol=first.protocol | {"attacks": described},
    models=models,
    apart=_apart(runs.values()),
  )
  return matched.completed(merged)


def single(results: Results) -> list[Results]:
  """Return the results of each model by itself: a line of a leaderboard."""
  return [
    records.replaced(
      results,
      models={name: model},
      seeds=tuple(run.seed for run in model.runs),
      at_retain=(),
    )
    for name, model in results.models.items()
  ]


def located(results: Results, workdir: str) -> Results:
  """Return results that say where they were run, as the page is to link to it."""
  models = {
    name: records.replaced(
      model,
      runs=tuple(
        run if run.workdir else records.replaced(run, workdir=workdir)
        for run in model.runs
      ),
    )
    for name, model in results.models.items()
  }
  apart = tuple(
    each if each.workdir else records.replaced(each, workdir=workdir)
    for each in results.apart
  )
  return records.replaced(results, models=models, apart=apart)


def _apart(runs: Iterable[Results]) -> tuple[Apart, ...]:
  """Return what the data stages of all runs compared, each once."""
  distinct: list[Apart] = []
  for each in itertools.chain.from_iterable(results.apart for results in runs):
    if each not in distinct:
      distinct.append(each)
  return tuple(distinct)


def _joined(name: str, there: ModelResult | None, model: ModelResult) -> ModelResult:
  """Return a model with the seeds of both."""
  runs = {run.seed: run for run in there.runs} if there else {}
  for run in model.runs:
    other = runs.setdefault(run.seed, run)
    if _content(other) != _content(run):
      raise ConfigError(
        f"expected different seeds, got seed {run.seed} of {name} twice, with other "
        f"results in {run.workdir or run.directory} than in "
        f"{other.workdir or other.directory}; run one with another --config.seeds"
      )
  ordered = tuple(runs[seed] for seed in sorted(runs))
  return records.replaced(there or model, runs=ordered)


def _content(run: ModelRun) -> dict[str, Any]:
  """Return the results of a run, without its location."""
  return {**dataclasses.asdict(run), "workdir": None}


def _check_protocol(first: Results, second: Results, names: tuple[str, str]) -> None:
  """Raise ConfigError with the first field of the protocol that differs."""
  one, other = (
    {field: records.to_json(each)[field] for field in _PROTOCOL}
    for each in (first, second)
  )
  attacks = [each["protocol"].pop("attacks") for each in (one, other)]
  common = attacks[0].keys() & attacks[1].keys()
  for each, of_run in zip((one, other), attacks, strict=True):
    each["attacks"] = {name: of_run[name] for name in sorted(common)}
  _check_alike(one, other, names, "")


def _check_alike(first: Any, second: Any, names: tuple[str, str], path: str) -> None:
  """Raise ConfigError with the first place where two trees differ."""
  if isinstance(first, Mapping) and isinstance(second, Mapping):
    for key in {**first, **second}:
      missing = "nothing"
      _check_alike(
        first.get(key, missing), second.get(key, missing), names, f"{path}/{key}"
      )
    return
  if first != second:
    raise ConfigError(
      f"expected runs of one protocol, but {path[1:]} is {first} in {names[0]} and "
      f"{second} in {names[1]}; compare runs with the same data, model and attacks"
    )
