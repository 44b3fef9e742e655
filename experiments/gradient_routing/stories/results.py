"""The results of the study: results.json and its table."""

from collections.abc import Mapping
from typing import TypedDict

from experiments.gradient_routing.stories.config import Config
from undo_jax.utils import tables

MEASURES = (
  "forget_before",
  "forget_after",
  "retain_after",
  "unlearning",
  "robust_unlearning",
)
Losses = dict[str, float]  # Nats per token by "forget" and "retain".


class Retrained(TypedDict):
  """The lowest forget loss at any learning rate, and the retain loss at that rate."""

  steps: list[int]
  forget: list[float]
  retain: list[float]


class Measured(TypedDict):
  """The results for a model of one seed."""

  method: str
  labelled: float  # The labelled fraction.
  before: Losses
  after: Losses
  retrained: dict[str, Retrained]  # By the number of stories.
  unlearning: float
  robust_unlearning: float


Part = dict[str, Measured]  # The models of a seed: METHOD_FRACTION, base, control.


class Model(TypedDict):
  """The results for a model over all seeds."""

  method: str
  labelled: float
  seeds: dict[str, Measured]
  mean: dict[str, float]  # By the names of MEASURES.


class Results(TypedDict):
  """The content of results.json."""

  seeds: list[int]
  units: str  # The losses' unit.
  models: dict[str, Model]


def assemble(config: Config, parts: Mapping[str, Part]) -> Results:
  """Return the results of all seeds."""
  of_seed = dict(zip(map(str, config.seeds), parts.values(), strict=True))
  names = next(iter(of_seed.values()))
  models = {
    name: _model({seed: part[name] for seed, part in of_seed.items()}) for name in names
  }
  return {"seeds": list(config.seeds), "units": "nats per token", "models": models}


def _model(seeds: dict[str, Measured]) -> Model:
  first = next(iter(seeds.values()))
  rows = [measures(measured) for measured in seeds.values()]
  mean = {name: sum(row[name] for row in rows) / len(rows) for name in MEASURES}
  return {
    "method": first["method"],
    "labelled": first["labelled"],
    "seeds": seeds,
    "mean": mean,
  }


def measures(measured: Measured) -> dict[str, float]:
  """Return a model's numbers by the names of MEASURES."""
  return {
    "forget_before": measured["before"]["forget"],
    "forget_after": measured["after"]["forget"],
    "retain_after": measured["after"]["retain"],
    "unlearning": measured["unlearning"],
    "robust_unlearning": measured["robust_unlearning"],
  }


def table(results: Results) -> str:
  """Return the means as a Markdown table, with ranges over seeds in brackets."""
  rows = []
  for name, model in results["models"].items():
    of_seed = [measures(measured) for measured in model["seeds"].values()]
    cells = []
    for measure in MEASURES:
      values = [row[measure] for row in of_seed]
      spread = f" [{min(values):.2f}, {max(values):.2f}]" if len(values) > 1 else ""
      cells.append(f"{model['mean'][measure]:.2f}{spread}")
    rows.append([name, *cells])
  header = ["model", *(name.replace("_", " ") for name in MEASURES)]
  return tables.markdown(header, rows)
