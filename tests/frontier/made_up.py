"""Results that were never run, for tests of what is made from results."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import re

import numpy as np

from undo_jax.config import FIGURES
from undo_jax.frontier import attack_results
from undo_jax.frontier.labels import LabelBudget
from undo_jax.frontier.results import (
  Ablation,
  Adversary,
  Cost,
  Metric,
  ModelResult,
  ModelRun,
  Relearning,
  Results,
  Scores,
  Stopped,
)
from undo_jax.plan.config import References, Report

RATES = (1e-4, 3e-4, 1e-3, 3e-3)
TOP = 0.98  # Accuracy that every model relearns in the end.
TASKS = ("addition_equation", "addition_word", "multiplication_equation")
UNIT = "fraction of exact answers"
# Forget before, half-life of relearning in updates, retain, compute as a part of data
# filtering's; label, color, marker.
ARITHMETIC = {
  "base": (0.97, 1, 0.99, 0.0, "base", "#111111", "s"),
  "data_filtering": (0.01, 120, 0.99, 1.0, "data filtering", "#666666", "*"),
  "max_ent": (0.02, 5, 0.97, 0.01, "MaxEnt", "#d55e00", "^"),
  "grad_diff": (0.0, 5.5, 0.93, 0.012, "GradDiff", "#e69f00", "v"),
  "rmu": (0.03, 4.8, 0.95, 0.008, "RMU", "#56b4e9", "<"),
  "oracle_matching": (0.01, 7, 0.98, 0.06, "oracle matching", "#aa4499", "D"),
  "unlearn_and_distill": (0.02, 95, 0.98, 1.09, "unlearn and distill", "#009e73", "P"),
  "undo_alpha_0.3": (0.02, 9, 0.98, 0.21, "UNDO α = 0.3", "#0072b2", "o"),
  "undo_alpha_0.5": (0.02, 20, 0.98, 0.44, "UNDO α = 0.5", "#0072b2", "o"),
  "undo_alpha_0.7": (0.01, 85, 0.97, 0.74, "UNDO α = 0.7", "#0072b2", "o"),
}
SMALL = ("base", "data_filtering", "max_ent", "undo_alpha_0.3")
ROUTED = (0.1, 30, 0.9, 0.5, "routed", "#00796b", "p")
FILTERED_FLOPS = 10**15


def metric(higher_is="more capable", *, name="accuracy", unit=UNIT, bounds=(0.0, 1.0)):
  return Metric(name=name, unit=unit, range=bounds, higher_is=higher_is)


def relearning(
  forget_RxS: Sequence[Sequence[float | None]],
  *,
  steps: Sequence[int] = (0, 10, 20, 50),
  rates: Sequence[float] = RATES,
  retain_RxS: Sequence[Sequence[float | None]] | None = None,
  higher_is_worse: bool = True,
  by_task: Mapping[str, Sequence[float]] | None = None,
  more_seeds: Sequence[Sequence[Sequence[float | None]]] = (),
) -> Relearning:
  """Return a model under an attack, from its scores by learning rate.

  Args:
    forget_RxS: of its one seed, or its first.
    steps: [S].
    rates: [R] or more.
    retain_RxS: None: as the forget scores.
    higher_is_worse: of the forget scores.
    by_task: [S] each, the same at all rates.
    more_seeds: forget scores of further seeds of the attack.
  """
  retain_RxS = forget_RxS if retain_RxS is None else retain_RxS
  tasks = {n: [scores] * len(forget_RxS) for n, scores in (by_task or {}).items()}
  outcomes = [
    {
      "learning_rates": list(rates[: len(forget_RxS)]),
      "steps": list(steps),
      "scores": {"retain": retain_RxS, "forget": forget, **tasks},
      "cost": {"updates": 1, "tokens": 512, "flops": 10**9},
    }
    for forget in (forget_RxS, *more_seeds)
  ]
  return attack_results.relearning(
    outcomes,
    directories=["made-up"] * len(outcomes),
    higher_is_worse=higher_is_worse,
  )


def curve(scores: Sequence[float], steps=(0, 10, 20, 50), **more) -> Relearning:
  """Return a model under an attack with a single learning rate."""
  return relearning([scores], steps=steps, **more)


def run(
  attacks: Mapping[str, Relearning],
  *,
  seed: int = 0,
  retain: float | None = 0.9,
  forget: float | None = 0.1,
  by_task: Mapping[str, float | None] | None = None,
  flops: int = FILTERED_FLOPS,
  fraction: float | None = None,
  updates: int = 100,
  share: float | None = None,
  reason: str = "fixed budget",
  ablation: Ablation | None = None,
) -> ModelRun:
  return ModelRun(
    seed=seed,
    workdir=None,
    directory="made-up",
    before=Scores(retain=retain, forget=forget, by_task=dict(by_task or {})),
    attacks=dict(attacks),
    compute=Cost(
      updates=updates, tokens=10**8, flops=flops, fraction_of_filtered=fraction
    ),
    labels=LabelBudget(tokens={}, share_of_pretraining=share),
    stopped=Stopped(reason=reason, updates=updates),
    ablation=ablation,
  )


def model(runs: Sequence[ModelRun], **changes) -> ModelResult:
  plain = {"label": "a model", "color": None, "marker": None, "family": None}
  more = {"swept": {}, "phase": "unlearn", "recipe": "0" * 12, "runs": tuple(runs)}
  return ModelResult(**(plain | more | changes))


def adversary(
  label="full finetuning", trains="all weights", *, noise=0.0, paths=(), **more
):
  return Adversary(label=label, trains=trains, noise=noise, paths=tuple(paths), **more)


def results(models: Mapping[str, ModelResult], **changes) -> Results:
  """Return results whose references are models of the names of ARITHMETIC."""
  roles = {"base": "base", "filtered": "data_filtering", "unlearned": "max_ent"}
  seeds = tuple(each.seed for each in next(iter(models.values())).runs)
  plain = {
    "schema": 3,
    "task": "arithmetic",
    "seeds": seeds,
    "protocol": {"data": {}, "model": {}, "attacks": {"relearn": {}}},
    "metrics": {name: metric() for name in ("retain", "forget")},
    "items": {"retain": 200, "forget": 200},
    "references": References(
      **{role: name if name in models else None for role, name in roles.items()}
    ),
    "report": report(),
    "attacks": {"relearn": adversary()},
    "models": dict(models),
  }
  return Results(**(plain | changes))


def report(**changes) -> Report:
  plain = {
    "budgets": (20, 100),
    "worst_over": (),
    "rival": None,
    "filtering": (),
    "smallest_retain": 0.9,
    "figures": FIGURES,
  }
  return Report(**(plain | changes))


def attacked(
  forget: float, half_life: float, retain: float, steps: Sequence[int]
) -> Relearning:
  """Return an attack whose best learning rate falls as it goes on."""
  steps_S = np.array(steps, dtype=float)
  speed_R = np.array([0.15, 0.5, 1.0, 0.7])[:, None]
  ceiling_R = np.array([1.0, 1.0, 0.97, 0.8])[:, None]
  learned_RxS = ceiling_R * (1 - 0.5 ** (speed_R * steps_S / half_life))
  forget_RxS = forget + (TOP - forget) * learned_RxS
  retain_RxS = retain - 0.1 * np.linspace(0, 1, 4)[:, None] * steps_S / steps_S[-1]
  return relearning(
    forget_RxS.tolist(),
    steps=steps,
    retain_RxS=retain_RxS.tolist(),
    by_task={TASKS[-1]: forget_RxS.max(axis=0).tolist()},
  )


def synthetic(
  names: Sequence[str] = tuple(ARITHMETIC),
  last_step: int = 500,
  *,
  seeds: Sequence[int] = (0,),
  second_attack: bool = False,
  **changes,
) -> Results:
  """Return results of the arithmetic demo's form.

  Args:
    names: of the models; those that ARITHMETIC has not are like a routed one.
    last_step: of the attack, evaluated every 10 updates.
    seeds: of which each but the first relearns at another speed.
    second_attack: LoRA, of 0.6 times the speed, and for longer.
    changes: other fields of the results.
  """
  attacks = {"relearn": adversary()}
  if second_attack:
    attacks["lora"] = adversary("LoRA", "low-rank adapters (LoRA, rank 8)")
  made = {}
  for name in names:
    forget, half_life, retain, fraction, label, color, marker = ARITHMETIC.get(
      name, (*ROUTED[:4], name, *ROUTED[5:])
    )
    runs = []
    for index, seed in enumerate(seeds):
      shift = 0.004 * math.sin(7 * index + len(name)) if index else 0.0
      life = half_life * (1 + 40 * shift)
      steps = {"relearn": range(0, last_step + 1, 10)}
      if second_attack:
        steps["lora"] = range(0, last_step + 101, 50)
      speed = {"relearn": 1.0, "lora": 0.6}
      relearned = {
        attack: attacked(forget, life / speed[attack], retain + shift, steps[attack])
        for attack in attacks
      }
      runs.append(
        run(
          relearned,
          seed=seed,
          retain=retain + shift,
          forget=forget,
          by_task=dict(zip(TASKS, (retain, retain, forget), strict=True)),
          flops=round(fraction * FILTERED_FLOPS),
          fraction=fraction,
          updates=int(20_000 * fraction),
          share=0.0 if name == "base" else 0.00038,
          reason="recovered" if name.startswith("undo") else "fixed budget",
        )
      )
    prefix, _, alpha = name.partition("_alpha_")
    family = {"family": prefix, "swept": {"noise.alpha": float(alpha)}} if alpha else {}
    look = {"label": label, "color": color, "marker": marker}
    made[name] = model(runs, **look, **family)
  return results(made, **({"attacks": attacks} | changes))


def changed_model(of: Results, name: str, **changes) -> Results:
  """Return results with other fields of one model."""
  models = of.models | {name: dataclasses.replace(of.models[name], **changes)}
  return dataclasses.replace(of, models=models)


def changed_run(of: Results, name: str, seed_index: int = 0, **changes) -> Results:
  """Return results with other fields of one model of one seed."""
  runs = list(of.models[name].runs)
  runs[seed_index] = dataclasses.replace(runs[seed_index], **changes)
  return changed_model(of, name, runs=tuple(runs))


def language() -> Results:
  """Return cross-entropies for scores: 2 nats for the base, 5 without."""

  def nats(value):
    return (5 - 3 * np.array(value)).tolist()

  of = synthetic()
  for name, each in of.models.items():
    (only,) = each.runs
    under, before = only.attacks["relearn"], only.before
    under = relearning(
      nats(under.forget_by_learning_rate),
      steps=under.steps,
      retain_RxS=nats(under.retain_by_learning_rate),
      higher_is_worse=False,
    )
    before = Scores(retain=nats(before.retain), forget=nats(before.forget), by_task={})
    of = changed_run(of, name, attacks={"relearn": under}, before=before)
  in_nats = metric(
    "less capable", name="cross-entropy", unit="nats a token", bounds=(None, None)
  )
  metrics = dict.fromkeys(("retain", "forget"), in_nats)
  return dataclasses.replace(of, metrics=metrics, items={})


def cells(page, label):
  """Return the cells of the first row of a model on a page, without warnings."""
  page = re.sub('<a class="mark".*?</a>', "", page).replace("\u00a0", " ")
  row = page.split(f"{label}</th>")[1].split("</tr>")[0]
  return row.replace("</td>", "").split("<td>")[1:]


def row(table, name):
  """Return a model's cells by the heads of their columns."""
  return dict(
    zip(
      table.head[1:],
      next(each.cells for each in table.rows if each.name == name),
      strict=True,
    )
  )


def at_rate(results, name, rate, seed_index=0):
  """Return results in which one learning rate was always the worst."""
  under = results.models[name].runs[seed_index].attacks["relearn"]
  row = under.learning_rates.index(rate)
  forget_RxS = np.full((len(under.learning_rates), len(under.steps)), 0.1)
  forget_RxS[row, 1:] = 0.5
  under = relearning(forget_RxS.tolist(), steps=under.steps)
  return changed_run(results, name, seed_index, attacks={"relearn": under})


def with_edit(
  results: Results,
  scores: Mapping[str, Sequence[float | None]],
  *,
  strengths: Sequence[float] = (0.1, 0.3, 0.5),
  label: str = "pruning",
  **changes,
) -> Results:
  """Return results in which models were edited too.

  Args:
    results: the results.
    scores: by model, forget scores at each strength.
    strengths: ascending.
    label: of the edit, and its name.
    changes: other fields of the row of attacks.
  """
  for name, of_model in scores.items():
    under = relearning([[score] for score in of_model], steps=(0,), rates=strengths)
    for index, each in enumerate(results.models[name].runs):
      attacks = {**each.attacks, label: under}
      results = changed_run(results, name, index, attacks=attacks)
  plain = {"trains": "weights are set to zero", "noise": 0.0, "paths": ()}
  plain |= {"strength": "share of weights", "assumes": ("the weights",)}
  edit = Adversary(label=label, **(plain | changes))
  return dataclasses.replace(results, attacks=results.attacks | {label: edit})
