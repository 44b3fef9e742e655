"""results.json: what a run found, in a documented and versioned schema.

{"schema": 1, "setting", "seed", "budgets": [updates at which models are compared],
 "metrics": {"retain" and "forget": {"name", "unit", "range", "higher_is"}},
 "models": {name: {
   "before": {"retain", "forget", "by_task": {task: score}},
   "relearn": {
     "attack": {"kind": "full"} or {"kind": "lora", "rank", "alpha", "targets"},
     "learning_rates": [R], "steps": [S], "worst_forget": [S],
     "worst_learning_rate": [S], "retain": [S] (at the worst learning rate),
     "forget_by_learning_rate" and "retain_by_learning_rate": [R][S],
     "by_task": {task: [S]} (at the worst learning rate)},
   "compute": {"updates", "tokens", "flops", "fraction_of_data_filtering"},
   "labels": {"tokens": {part: n}, "share_of_pretraining"},
   "stopped": {"reason", "updates"},
   "ablation": {"before": {"retain", "forget"}, "mlp_units", "kv_heads"}}}}

Compute is what it took to make the model from the base: its own training and that
of every model it is made from (its teacher, say); the base itself costs nothing.
`worst_forget` is the worst over learning rates at each step, for the attacker's
good. `attack` says what was trained: all weights, or LoRA adapters on kernels whose
paths match `targets` (results written before there was a choice lack it: full). It
also holds "perturb" (alpha and beta of noise before the attack) and "trainable" (pairs
of path regex and layers) where the adversary has them.
`ablation` is there for models whose reserved units were ablated: their scores before
that, and how many units of each layer; the rest speaks of the ablated model, `stopped`
of its training.
Numbers are the same, bit for bit, whenever the run is repeated or resumed.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from undo_jax import tasks as settings
from undo_jax.frontier import labels
from undo_jax.frontier.compute import Compute
from undo_jax.frontier.robustness import higher_is_worse, worst_case
from undo_jax.stages import Stage, lineage, models

SCHEMA = 1


def assemble(
  *,
  setting: str,
  seed: int,
  budgets: Sequence[int],
  stages: Sequence[Stage],
  outcomes: Mapping[str, dict[str, Any]],
) -> dict[str, Any]:
  """Returns the results of finished stages; see the module's docstring.

  Args:
    setting: a key of settings.REGISTRY.
    seed: the run's.
    budgets: relearning updates at which models are compared.
    stages: the plan.
    outcomes: done.json of every stage by name.
  """
  metrics = settings.get(setting).METRICS
  names = models(stages)
  by_name = {stage.name: stage for stage in stages}
  attacks = {s.name: s.settings["attack"] for s in stages if s.kind == "attack"}
  costs = {name: _cost(list(stages), outcomes, name) for name in names}
  return {
    "schema": SCHEMA,
    "setting": setting,
    "seed": seed,
    "budgets": list(budgets),
    "metrics": dict(metrics),
    "models": {
      name: {
        "before": _before(outcomes[name]["scores"]),
        "relearn": _relearn(
          attacks[f"attack_{name}"],
          outcomes[f"attack_{name}"],
          higher_is_worse(metrics["forget"]),
        ),
        "compute": {
          **dataclasses.asdict(costs[name]),
          "fraction_of_data_filtering": costs[name].flops
          / costs["data_filtering"].flops,
        },
        "labels": labels.budget(stages, outcomes, name),
        "stopped": _stopped(by_name[name], outcomes),
        **_ablation(by_name[name], outcomes),
      }
      for name in names
    },
  }


def _cost(stages, outcomes, name) -> Compute:
  costs = [Compute(**outcomes[parent]["compute"]) for parent in lineage(stages, name)]
  return sum(costs, start=Compute())


def _stopped(stage, outcomes):
  trained = stage.inputs["model"] if stage.kind == "ablate" else stage.name
  return {name: outcomes[trained][name] for name in ("reason", "updates")}


def _ablation(stage, outcomes):
  if stage.kind != "ablate":
    return {}
  whole = outcomes[stage.name]["whole"]
  before = {name: whole[name] for name in ("retain", "forget")}
  return {"ablation": {"before": before, **stage.settings["routing"]}}


def _before(scores):
  groups = {name: scores[name] for name in ("retain", "forget")}
  by_task = {name: score for name, score in scores.items() if name not in groups}
  return {**groups, "by_task": by_task}


def _relearn(settings, outcome, more_is_worse):
  forget_RxS = np.asarray(outcome["scores"]["forget"])
  retain_RxS = np.asarray(outcome["scores"]["retain"])
  worst_S, index_S = worst_case(forget_RxS, higher_is_worse=more_is_worse)
  rates = np.asarray(outcome["learning_rates"])
  lora = settings.get("lora")
  attack = {"kind": "lora", **lora} if lora else {"kind": "full"}
  return {
    "attack": attack
    | {name: settings[name] for name in ("perturb", "trainable") if name in settings},
    "learning_rates": outcome["learning_rates"],
    "steps": outcome["steps"],
    "worst_forget": np.asarray(worst_S).tolist(),
    "worst_learning_rate": rates[np.asarray(index_S)].tolist(),
    "retain": retain_RxS[index_S, np.arange(len(index_S))].tolist(),
    "forget_by_learning_rate": forget_RxS.tolist(),
    "retain_by_learning_rate": retain_RxS.tolist(),
    "by_task": {
      name: np.asarray(scores)[index_S, np.arange(len(index_S))].tolist()
      for name, scores in outcome["scores"].items()
      if name not in ("retain", "forget")
    },
  }
