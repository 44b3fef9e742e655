"""Results of 44 models: sweeps of several families and methods alone."""

from collections.abc import Sequence
import math

from tests.frontier import made_up
from tests.frontier.made_up import ARITHMETIC, FILTERED_FLOPS, TASKS
from undo_jax.frontier.results import ModelResult, Results

# Label, swept field, its values; half-life of relearning, cost and retain score of the
# first and the last member; color and marker, where they are named.
FAMILIES = {
  "undo": ("UNDO", "noise.alpha", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), (6, 110),
           (0.15, 0.9), (0.985, 0.955), "#0072b2", "o"),
  "undo_beta": ("UNDO, normal noise", "noise.beta", (0.05, 0.1, 0.2, 0.4, 0.8), (6, 60),
                (0.2, 0.7), (0.98, 0.93), None, None),
  "max_ent_weight": ("MaxEnt", "options.retain_weight", (0.3, 1, 3, 10, 30), (7, 4),
                     (0.01, 0.014), (0.9, 0.985), None, None),
  "npo": ("NPO", "options.beta", (0.01, 0.03, 0.1, 0.3), (4, 6.5), (0.012, 0.018),
          (0.985, 0.95), None, None),
  "rmu_layer": ("RMU", "options.layer", (1, 2, 3, 4, 5, 6), (4, 7), (0.006, 0.013),
                (0.97, 0.93), None, None),
  "routed": ("gradient routing", "labels.share", (0.01, 0.03, 0.1, 0.3, 1.0), (8, 75),
             (0.6, 0.62), (0.9, 0.93), "#00796b", "p"),
}  # fmt: skip
ALONE = ("base", "data_filtering", "max_ent", "grad_diff", "oracle_matching")
MORE = ("rep_noise", "tar", "latent_adversarial", "circuit_breakers", "sgtm")
LAST = ("unlearn_and_distill",)


def _between(ends: Sequence[float], place: float) -> float:
  first, last = ends
  return first * (last / first) ** place


def crowded(seeds: Sequence[int] = (0, 1, 2), last_step: int = 200) -> Results:
  """Return 44 models under three attacks."""
  attacks = {
    "relearn": made_up.adversary(),
    "lora": made_up.adversary("LoRA, rank 8", "low-rank adapters (LoRA, rank 8)"),
    "embedding": made_up.adversary("embedding", "the embedding"),
  }
  models = {}
  for name in (*ALONE, *MORE, *LAST):
    known = ARITHMETIC.get(name)
    forget, life, retain, cost, label, color, marker = known or (
      *(0.03, 4 + len(name), 0.94 + len(name) / 500, 0.02 + len(name) / 800),
      *(name.replace("_", " "), None, None),
    )
    models[name] = _model(seeds, last_step, forget, life, retain, cost,
                          label=label, color=color, marker=marker)  # fmt: skip
  for family, (label, field, values, lives, costs, retains, *look) in FAMILIES.items():
    for index, value in enumerate(values):
      place = index / (len(values) - 1)
      shown = {"alpha": "α", "beta": "β"}.get(field.split(".")[1], field.split(".")[1])
      models[f"{family}_{value}"] = _model(
        seeds, last_step, 0.02, _between(lives, place), _between(retains, place),
        _between(costs, place), label=f"{label} {shown} = {value:g}", color=look[0],
        marker=look[1], family=family, swept={field: value},
      )  # fmt: skip
  return made_up.results(models, attacks=attacks)


def _model(
  seeds: Sequence[int],
  last_step: int,
  forget: float,
  life: float,
  retain: float,
  cost: float,
  **look,
) -> ModelResult:
  runs = []
  for index, seed in enumerate(seeds):
    drift = 0.05 * math.sin(5 * index + life) if index else 0.0
    attacks = {
      attack: made_up.attacked(
        forget, life * (1 + drift) / speed, retain * (1 - drift / 9),
        range(0, last_step + 1, 10),
      )
      for attack, speed in (("relearn", 1.0), ("lora", 0.6), ("embedding", 0.25))
    }  # fmt: skip
    runs.append(
      made_up.run(
        attacks,
        seed=seed,
        retain=retain * (1 - drift / 9),
        forget=forget,
        by_task=dict(zip(TASKS, (retain, retain, forget), strict=True)),
        flops=round(cost * (1 + drift) * FILTERED_FLOPS),
        fraction=cost * (1 + drift),
        share=0.0004,
      )
    )
  return made_up.model(runs, **look)
