"""What results.json says of an attack, from made-up outcomes of a plan."""

import pytest

from configs import arithmetic
from undo_jax import stages
from undo_jax.frontier import results


def assembled(**lora):
  config = arithmetic.get_config("tiny")
  config.attack.lora.update(lora)
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
  outcomes = {"train": trained, "attack": attacked, "data": {}}
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
