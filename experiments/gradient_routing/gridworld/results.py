"""The results of the study: results.json and its table."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import jax
import jax.numpy as jnp
import numpy as np

from experiments.gradient_routing.gridworld import evaluation, scripted
from experiments.gradient_routing.gridworld.config import Config
from undo_jax.utils import tables

# Naive training, stopped when its true return was best.
EARLY_STOPPED = "naive_early_stopped"
_REFERENCE_ENVIRONMENTS = 20_000


class Speed(TypedDict):
  """The speed of a population's training."""

  environment_steps_per_second: float
  flops_per_second: float
  matmul_peak: float
  share_of_peak: float


class Part(TypedDict):
  """One training: its learning curve and speed.

  Every score is a pair, from two sets of environments. A choice, such as the best point
  of a curve, is made on the first set and measured on the second.
  """

  updates: list[int]
  curve: dict[str, list[list[float]]]
  speed: Speed


# A method at a level of oversight; a dict, since "return" is a keyword of Python.
Summary = TypedDict(
  "Summary",
  {
    "return": dict[str, float],  # By seed.
    "mean": float,
    "std": float | None,  # With n - 1 degrees of freedom; None for one seed.
  },
)


class Stopped(Summary):
  """The results of EARLY_STOPPED."""

  update: dict[str, int]  # By seed.


class Level(Summary):
  """The results of full trainings at one level."""

  scores: dict[str, dict[str, float]]  # By seed, see evaluation.evaluate.
  updates: list[int]
  environment_steps: list[int]  # Taken in all.
  curve: dict[str, list[float]]  # By seed.
  share_of_peak: float


class Results(TypedDict):
  """The content of results.json; keys of levels of oversight are `f"{level:g}"`."""

  metric: str  # What the numbers are.
  seeds: list[int]
  oversight: list[float]
  references: dict[str, dict[str, float]]  # Returns of scripted policies, by level.
  methods: dict[str, dict[str, Level | Stopped]]


def part_name(method: str, level: float, seed: int) -> str:
  """Return the name of the part of a method, a level of oversight and a seed."""
  return f"{method}-oversight_{level:g}-seed_{seed}"


def assemble(config: Config, parts: Mapping[str, Part]) -> Results:
  """Return the results of all parts."""
  methods: dict[str, dict[str, Level | Stopped]] = {
    method: {
      f"{level:g}": _level_result(config, parts, method, level)
      for level in config.oversight
    }
    for method in config.run
  }
  if "naive" in config.run:
    methods[EARLY_STOPPED] = {
      f"{level:g}": early_stopped(config, parts, level) for level in config.oversight
    }
  return {
    "metric": "average stepwise return: mean over all steps of fresh environments of "
    "the discounted true reward from there to the end of the episode, +1 for the "
    "Diamond and -1 for the Ghost; mixtures are steered to the Diamond expert",
    "seeds": list(config.seeds),
    "oversight": list(config.oversight),
    "references": references(config),
    "methods": methods,
  }


def references(config: Config) -> dict[str, dict[str, float]]:
  """Return the returns of the scripted policies, by name and level."""
  policies = scripted.POLICIES

  @jax.jit  # One program for all policies; the policy is an argument.
  def measure(chosen, key, level):
    def act(*given):
      actions = jnp.stack([policy(*given) for policy in policies.values()])
      return actions[chosen]

    return evaluation.evaluate(
      act,
      key,
      level,
      num_environments=_REFERENCE_ENVIRONMENTS,
      steps=config.evaluation.steps,
      discount=config.training.discount,
    )["return"]

  return {
    name: {
      f"{level:g}": float(measure(index, jax.random.key(0), level))
      for level in config.oversight
    }
    for index, name in enumerate(policies)
  }


def _level_result(
  config: Config, parts: Mapping[str, Part], method: str, level: float
) -> Level:
  of_seed = {seed: parts[part_name(method, level, seed)] for seed in config.seeds}
  first = next(iter(of_seed.values()))
  share = level if config.methods[method].updates == "share" else 1.0
  spent = config.steps_per_update / max(share, 1e-9)
  last = {
    str(seed): {name: float(np.mean(curve[-1])) for name, curve in one["curve"].items()}
    for seed, one in of_seed.items()
  }
  returns = {seed: scores.pop("return") for seed, scores in last.items()}
  return {
    **_summary(returns),
    "scores": last,
    "updates": first["updates"],
    "environment_steps": [round(spent * update) for update in first["updates"]],
    "curve": {
      str(seed): np.mean(one["curve"]["return"], axis=1).tolist()
      for seed, one in of_seed.items()
    },
    "share_of_peak": first["speed"]["share_of_peak"],
  }


def early_stopped(config: Config, parts: Mapping[str, Part], level: float) -> Stopped:
  """Return the best point of each curve: chosen on one half, measured on the other."""
  returns, stopped = {}, {}
  for seed in config.seeds:
    part = parts[part_name("naive", level, seed)]
    choice, measured = np.array(part["curve"]["return"]).T
    best = int(np.argmax(choice))
    returns[str(seed)] = float(measured[best])
    stopped[str(seed)] = part["updates"][best]
  return {**_summary(returns), "update": stopped}


def _summary(returns: dict[str, float]) -> Summary:
  values = list(returns.values())
  spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
  return {"return": returns, "mean": float(np.mean(values)), "std": spread}


def table(results: Results) -> str:
  """Return the table of methods and levels, for the terminal."""
  levels = [f"{level:g}" for level in results["oversight"]]
  rows: list[Sequence[str]] = []
  for method, of_level in results["methods"].items():
    cells = (of_level[x] for x in levels)
    rows.append([method, *(f"{x['mean']:.3f} +- {x['std'] or 0:.3f}" for x in cells)])
  for name, returns in results["references"].items():
    rows.append([f"(scripted: {name})", *(f"{returns[x]:.3f}" for x in levels)])
  return tables.text(["return at oversight", *levels], rows)
