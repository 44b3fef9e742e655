"""What results.json says of an attack, from made-up outcomes of a plan."""

import pytest

from configs import arithmetic
from undo_jax import stages
from undo_jax.frontier import results


def assembled(routing=(), **lora):
  config = arithmetic.get_config("tiny")
  config.attack.lora.update(lora)
  config.routing.methods = routing
  plan = stages.plan(config)
  trained = {
    "scores": {"retain": 0.9, "forget": 0.1, "division_equation": 0.1},
    "updates": 3,
    "reason": "step limit",
    "compute": {"updates": 3, "tokens": 5, "flops": 7},
  }
  attacked = {
    "learning_rates": [1e-3, 1e-2],
    "steps": [0, 10],
    "scores": {"retain": [[0.9, 0.8], [0.9, 0.7]], "forget": [[0.1, 0.2], [0.1, 0.4]]},
  }
  ablated = trained | {
    "scores": {"retain": 0.8, "forget": 0.2},
    "whole": {"retain": 0.9, "forget": 0.7, "division_equation": 0.7},
    "updates": 0,
    "reason": "ablated",
    "compute": {"updates": 0, "tokens": 0, "flops": 0},
  }
  outcomes = {"train": trained, "ablate": ablated, "attack": attacked, "data": {}}
  return results.assemble(
    setting="arithmetic",
    seed=0,
    budgets=(10,),
    stages=plan,
    outcomes={stage.name: outcomes[stage.kind] for stage in plan},
  )["models"]


@pytest.mark.parametrize(
  "lora, expected",
  [
    ({}, {"kind": "full"}),
    ({"alpha": 3.0}, {"kind": "full"}),
    (
      {"rank": 4, "targets": ("layers/mlp/up/kernel",)},
      {"kind": "lora", "rank": 4, "alpha": 16.0, "targets": ["layers/mlp/up/kernel"]},
    ),
  ],
)
def test_every_model_names_the_attack_beside_its_scores(lora, expected):
  models = assembled(**lora)
  assert len(models) == 10
  for model in models.values():
    assert model["relearn"]["attack"] == expected
    assert model["relearn"]["worst_forget"] == [0.1, 0.4]
    assert model["relearn"]["worst_learning_rate"] == [1e-3, 1e-2]
    assert model["relearn"]["retain"] == [0.9, 0.7]


def test_an_ablated_model_tells_of_its_training_and_of_what_it_was():
  models = assembled(routing=("routed", "routed_distillation"))
  assert len(models) == 12 and "ablation" not in models["base"]
  for name in ("routed", "routed_distillation_alpha_0.5"):
    model = models[name]
    assert (model["before"]["retain"], model["before"]["forget"]) == (0.8, 0.2)
    assert model["ablation"] == {
      "before": {"retain": 0.9, "forget": 0.7},
      "mlp_units": 48,
      "kv_heads": 0,
    }
    assert model["stopped"] == {"reason": "step limit", "updates": 3}
    # Of its own training alone: the base costs nothing.
    assert (model["compute"]["updates"], model["compute"]["flops"]) == (3, 7)
