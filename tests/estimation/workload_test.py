"""What a run has to do, against counts by hand and what is in its directory."""

import json

import pytest

from tests import minimal
from undo_jax import config as c
from undo_jax import testing
from undo_jax.estimation import workload
from undo_jax.hardware.flops import forward_flops
from undo_jax.models.config import num_params
from undo_jax.plan import translation
from undo_jax.plan.config import parse
from undo_jax.plan.stages import identities
from undo_jax.utils import files

# Problems that are scored: of each of four operations, and of two of them attacked.
ROWS = 6 * 2


@pytest.fixture(scope="module")
def plans():
  config = minimal.only(minimal.config(seeds=(0, 1)), ("base", "max_ent", "undo"))
  # Both seeds pretrain the same model.
  config.streams.update(init=5, data=5, eval=5)
  config.attacks.relearn.seeds = (0, 1)
  declared = parse(config)
  return {seed: translation.plan(declared, seed) for seed in declared.seeds}


def by_group(works):
  groups = {}
  for work in works:
    groups.setdefault(work.group, []).append(work)
  return groups


def test_flops_are_those_of_training_and_evaluations(plans):
  works = by_group(workload.stages_of(files.path("/nowhere"), plans))
  model = plans[0][1].model
  a_row = forward_flops(model, 16)
  (base,) = works["base"]
  # A training row costs three passes; it is scored once. The longest problem has 8
  # tokens, or its own length up to the next multiple of 8.
  evaluated = workload.scored_shapes(plans[0][0])
  assert sum(rows for rows, _ in evaluated) == ROWS
  scoring = sum(n * forward_flops(model, length) for n, length in evaluated)
  assert base.flops == 3 * 16 * 3 * a_row + scoring
  (unlearned,) = works["max_ent"]
  assert unlearned.flops == 2 * 16 * 2 * 3 * a_row + scoring
  # A teacher's pass on top; a check every second update and one at the end.
  assert works["undo_alpha_0.5"][0].flops == 5 * 16 * 4 * a_row + 3 * scoring
  # Two learning rates, evaluated twice, and the model before.
  relearn = works["relearn on base"][0]
  assert relearn.flops == 2 * 4 * 8 * 3 * a_row + (1 + 2 * 2) * scoring


def test_what_seeds_share_is_there_once(plans):
  works = by_group(workload.stages_of(files.path("/nowhere"), plans))
  assert len(works["base"]) == len(works["max_ent"]) == 1
  assert len(works["undo_alpha_0.5"]) == 2  # Of two noises.
  assert len(works["relearn on undo_alpha_0.5"]) == 4  # Two seeds each.
  assert {work.state for of_group in works.values() for work in of_group} == {"to do"}


def test_what_is_there_is_not_to_do(plans, tmp_path, capsys):
  known = identities(plans[0])
  for name in ("base", "max_ent"):
    directory = tmp_path / "stages" / f"{name}-{known[name]}"
    (directory / "checkpoints").mkdir(parents=True)
  done = tmp_path / "stages" / f"base-{known['base']}"
  (done / "done.json").write_text("{}")
  row = {"step": 1, "kind": "train"}
  rows = [row | {"share_of_peak": share} for share in (0.25, 0.5, 0.5)]
  (done / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
  mesh = testing.mesh(1)
  workload.print_plan(tmp_path, plans, mesh)
  lines = capsys.readouterr().out.splitlines()
  table = {line.split("  ")[0]: line.split()[-5:] for line in lines}
  assert table["base"] == ["1", "0", "1", "0", "0.0"]
  assert table["max_ent"][:3] == ["0", "1", "1"]
  works = list(workload.stages_of(tmp_path, plans))
  left = sum(work.flops for work in works if work.state != "done")
  assert table["all"] == ["1", "1", str(len(works)), f"{left:.2e}", "0.0"]
  assert lines[-2].startswith("times at ")
  assert lines[-1].startswith("on disk: ")


def test_large_models_are_expected_to_come_nearer_to_the_peak(plans, monkeypatch):
  peaks = {"float32": 100.0, "bfloat16": 300.0}
  monkeypatch.setattr(workload, "matmul_flops_per_second", peaks.get)
  nowhere, mesh = files.path("/nowhere"), testing.mesh(1)
  assert workload.flops_per_second(nowhere, plans.values(), mesh) == 20.0
  monkeypatch.setattr(workload, "LARGE", num_params(plans[0][1].model))
  assert workload.flops_per_second(nowhere, plans.values(), mesh) == 50.0
  config = minimal.config()
  config.model.dtype = "bfloat16"
  plan = translation.plan(parse(config), 0)
  assert workload.flops_per_second(nowhere, [plan], mesh) == 150.0


def test_a_selection_scores_every_row_of_its_splits():
  config = minimal.config()
  config.selections.few = c.selection(rows=4)
  config.mixtures.selected = c.selected("few", config.mixtures.pretrain)
  config.models.base.mixture.batch = "selected"
  plan = translation.plan(parse(config), 0)
  (stage,) = (each for each in plan if each.name == "selection_few")
  rows = {"retain": 64, "forget": 60, "attack": 10}
  # 17 tokens and 16 pairs, a multiplication and an addition each.
  assert workload.flops_of(stage, (), rows) == 2 * 33 * 124
  assert workload.flops_of(stage, ()) == 0
