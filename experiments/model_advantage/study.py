"""What the study computes: the tables, a loss beside the distractor, an environment."""

from collections.abc import Callable, Iterator, Sequence
import functools
import zlib

import numpy as np

from experiments.model_advantage import control as control_lib
from experiments.model_advantage import distractor, environments, figures, tabular
from experiments.model_advantage import results as results_lib
from experiments.model_advantage.config import Config
from experiments.model_advantage.results import ControlPart, Part, TablesPart, ToyPart
from experiments.shared import studies

_ROUNDING = 1e-9  # Share of the widest bound that rounding may cause.


def compute(config: Config, names: Sequence[str]) -> Iterator[tuple[str, Part]]:
  """Yield the parts that are asked for."""
  parts = _parts(config)
  for name in names:
    yield name, parts[name](config)


def tables(config: Config) -> TablesPart:
  """Return how well identities and bounds hold on random MDPs and models."""
  block = config.tables
  rng = np.random.default_rng([config.seed, zlib.crc32(b"tables")])
  chains, beaten = [], []
  for _ in range(block.count):
    mdp, other = (
      tabular.draw(rng, block.states, block.actions, block.discount) for _ in range(2)
    )
    model = mdp._replace(transitions_SxAxS=other.transitions_SxAxS)
    policy_SxA = rng.dirichlet(np.ones(block.actions), size=block.states)
    chains.append(tabular.chain(mdp, model, policy_SxA))
    beaten.append(tabular.beaten_by_one_state(mdp, policy_SxA))
  by_name = dict(zip(tabular.Chain._fields, np.array(chains).T, strict=True))
  difference = np.abs(by_name["difference"])
  bounds = {name: by_name[name] for name in results_lib.BOUNDS}
  wider = np.diff([difference, *bounds.values()], axis=0)
  return {
    "count": block.count,
    "largest_error": {
      name: float(np.abs(by_name["difference"] - by_name[name]).max())
      for name in ("identity", "dual")
    },
    "chains_that_hold": int((wider >= -_ROUNDING * bounds["l2"]).all(axis=0).sum()),
    "share_of_bound": {name: (difference / bounds[name]).tolist() for name in bounds},
    "one_state_over_truth": {
      name: float(np.median(ratios))
      for name, ratios in zip(("l1", "l2"), np.array(beaten).T, strict=True)
    },
  }


def toy(kind: distractor.Kind, config: Config) -> ToyPart:
  """Return the models that a loss finds beside the distractor, by random start."""
  block = config.toy
  fitted = []
  for start in range(block.starts):
    rng = np.random.default_rng([config.seed, start])
    params_2x3 = distractor.fit(kind, rng, block.states)
    fitted.append(distractor.judge(params_2x3, distractor.draw(rng, block.states)))
  squared, error, bound = (list(each) for each in zip(*fitted, strict=True))
  return {
    "loss": kind,
    "squared_error": squared,
    "return_error": error,
    "bound": bound,
  }


def control(name: str, config: Config) -> ControlPart:
  """Return the returns of all methods and seeds in an environment."""
  block = config.control
  methods = control_lib.METHODS
  measured = control_lib.run(
    block,
    environments.ENVIRONMENTS[name],
    list(methods.values()),
    [[config.seed, seed] for seed in range(block.seeds)],
  )
  returned, squared_error, value_error = (
    dict(zip(methods, np.moveaxis(np.asarray(values), 0, -1).tolist(), strict=True))
    for values in measured
  )
  each = block.real_episodes * block.steps
  return {
    "environment": name,
    "real_steps": [(index + 1) * each for index in range(block.stages)],
    "returned": returned,
    "squared_error": squared_error,
    "value_error": value_error,
  }


def _parts(config: Config) -> dict[str, Callable[[Config], Part]]:
  """Return what computes each part."""
  parts: dict[str, Callable[[Config], Part]] = {"tables": tables}
  for kind in distractor.LOSSES:
    parts[f"toy_{kind}"] = functools.partial(toy, kind)
  for name in config.control.environments:
    parts[f"control_{name}"] = functools.partial(control, name)
  return parts


make = studies.maker(Config, _parts, compute, results_lib, figures)
