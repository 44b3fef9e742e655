"""Routing in the pipeline at a minimal size: labels, ablation, resume, export."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import minimal
from undo_jax import config as builders
from undo_jax import running, tasks, testing
from undo_jax.checkpoints import cards, exporting
from undo_jax.distributed import sharding
from undo_jax.estimation import programs as estimated
from undo_jax.models.decoder import Decoder
from undo_jax.plan import checks, lineages, translation
from undo_jax.plan.config import parse
from undo_jax.running import data, programs
from undo_jax.tasks import arithmetic
from undo_jax.training.checkpointing import load_params
from undo_jax.utils.types import ConfigError

PRETRAINED = ("routed", "routed_control", "sgtm")
DISTILLED = ("routed_distillation", "sgtm_distillation")
# The base is that of tests/chains.py.
MINIMAL = minimal.OVERRIDES | {
  "model.num_kv_heads": 2,
  "models.undo.optimizer.num_steps": 2,
  "models.undo.optimizer.warmup_steps": 0,
  "models.undo.stop.rule": None,
  "models.routed_undo.sweep.noise.alpha": (0.5,),
  "attacks.relearn.learning_rates": (1e-2,),
  "attacks.relearn.num_steps": 2,
  "attacks.relearn.evaluate_every": 1,
  "report.budgets": (1, 2),
  "models.data_filtering_labelled.labels.share": 0.5,
  **{f"models.{name}.optimizer.num_steps": 3 for name in PRETRAINED},
  **{f"models.{name}.sweep.noise.alpha": (0.5,) for name in DISTILLED},
}
for _name in (*PRETRAINED, *DISTILLED):
  MINIMAL[f"models.{_name}.reserve.mlp_units"] = 8
  MINIMAL[f"models.{_name}.reserve.kv_heads"] = 1
TASKS = [
  f"{operation}_equation"
  for operation in ("addition", "subtraction", "multiplication", "division")
]
# Of the MLP; the widths of the key/value head that is reserved and of its two queries.
UNITS, HEAD, QUERIES = 8, 8, 16
# Of the two ways to route one is pretrained, the other distilled.
DISTILLATION = "sgtm_distillation_alpha_0.5"
NAMES = ("relearn_routed", DISTILLATION)
# Where the reserved entries stand, by hand.
RESERVED = {
  "mlp/gate": np.s_[:, :, -UNITS:],
  "mlp/up": np.s_[:, :, -UNITS:],
  "mlp/down": np.s_[:, -UNITS:],
  "attention/query": np.s_[:, :, -QUERIES:],
  "attention/key": np.s_[:, :, -HEAD:],
  "attention/value": np.s_[:, :, -HEAD:],
  "attention/out": np.s_[:, -QUERIES:],
}


def config_of(**changes):
  config = builders.shipped("routing_arithmetic:labelled")
  config.lock()
  config.update_from_flattened_dict(MINIMAL | changes)
  return config


def run_of(workdir, names, mesh=None, **changes):
  config, mesh = parse(config_of(**changes)), mesh or testing.mesh(1)
  checks.check(config, dict(mesh.shape))
  return running.Run(
    workdir,
    mesh,
    checkpoint_every=1,
    evaluation_rows=64,
    replicas_at_once=None,
    stages=tuple(lineages.needed(translation.plan(config, 0), names)),
  )


def score(params, problems):
  """Stand in for the evaluation, whose compiling would take half of the time."""
  up = params["layers"]["mlp"]["up"]["kernel"]
  scores = {"retain": jnp.mean(up**2), "forget": jnp.mean(up[:, :, -UNITS:] ** 2)}
  return scores | dict.fromkeys(TASKS, jnp.float32(len(problems)))


@pytest.fixture(scope="module", autouse=True)
def made_cheap():
  with pytest.MonkeyPatch.context() as patch:
    cheap = dataclasses.replace(
      arithmetic.TASK, make_evaluate=lambda *args, **kwargs: score
    )
    patch.setattr(tasks, "get", lambda name: cheap)
    yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory, chain):
  run = run_of(tmp_path_factory.mktemp("routing"), NAMES)
  for name in ("data", "base"):
    shutil.copytree(chain[1].parent / run.directories[name].name, run.directories[name])
  return run, running.run_stages(run)


def params_of(run, name):
  abstract = programs.abstract_params(parse(config_of()).model, run.mesh)
  if name.startswith("relearn_"):  # A population of one.
    where = sharding.replicated(run.mesh)
    abstract = jax.tree.map(
      lambda s: jax.ShapeDtypeStruct((1, *s.shape), s.dtype, sharding=where), abstract
    )
  return load_params(run.directories[name] / "checkpoints", abstract)


def kernels(params):
  return {
    name: np.array(params["layers"][name.split("/")[0]][name.split("/")[1]]["kernel"])
    for name in RESERVED
  }


def batches_of(run, name, count=4):
  stage = next(s for s in run.stages if s.name == name)
  dataset = data.batches_of(run, stage)
  return [dataset[i] for i in range(count)]


def test_routed_pretraining_reads_the_rows_of_the_base_and_their_labels(finished):
  run, _ = finished
  known = {}
  for base, batch in zip(
    batches_of(run, "base", 16), batches_of(run, "routed_whole", 16), strict=True
  ):
    sources = batch.pop("source")
    jax.tree.map(np.testing.assert_array_equal, base, batch)
    for row, source in zip(map(bytes, batch["inputs"]), sources, strict=True):
      known.setdefault(row, set()).add(int(source))
  sources_of = [source for sources in known.values() for source in sources]
  # A row has one label, a half of each split is labelled.
  assert abs(sources_of.count(0) - 32) <= 3 and abs(sources_of.count(1) - 32) <= 3
  assert abs(sources_of.count(2) - 64) <= 6


def test_masked_parts_share_no_row_of_a_label(finished):
  run, _ = finished
  rows = {"forget": set(), "retain": set(), "unlabelled": set()}
  for batch in batches_of(run, f"{DISTILLATION}_whole", 24):
    assert {part: len(x["inputs"]) for part, x in batch.items()} == {
      "forget": 4,
      "retain": 4,
      "unlabelled": 8,
    }
    for part, x in batch.items():
      rows[part] |= set(map(bytes, x["inputs"]))
  assert all(len(own) > 20 for own in rows.values())
  # The same equation may have been drawn for both.
  assert len(rows["forget"] & rows["unlabelled"]) < 8
  assert not rows["forget"] & rows["retain"]


@pytest.mark.parametrize("name", ["routed", DISTILLATION])
def test_ablation_zeroes_what_was_reserved_and_nothing_else(finished, name):
  run, outcomes = finished
  whole, ablated = params_of(run, f"{name}_whole"), params_of(run, name)
  for path, kernel in kernels(whole).items():
    assert np.all(kernel[RESERVED[path]] != 0)
    kernel[RESERVED[path]] = 0
    np.testing.assert_array_equal(kernel, kernels(ablated)[path])
  np.testing.assert_array_equal(whole["embedding"], ablated["embedding"])
  after, before = outcomes[name], outcomes[f"{name}_whole"]["scores"]
  assert after["scores"] == {
    score: before[f"ablated_{score}"] for score in after["scores"]
  }
  assert after["whole"] == {score: before[score] for score in after["scores"]}
  assert after["updates"] == 0 and after["compute"]["flops"] == 0


def test_the_attack_cannot_bring_ablated_units_back(finished):
  run, _ = finished
  before, after = (kernels(params_of(run, n)) for n in ("routed", "relearn_routed"))
  for path, where in RESERVED.items():
    assert np.all(after[path][0][where] == 0)
    assert np.any(after[path][0] != before[path])


def test_an_exported_model_has_no_reserved_units(finished, tmp_path):
  run, _ = finished
  exporting.export(run.directories["routed"], tmp_path / "out")
  exported = exporting.read(tmp_path / "out")
  small = exported.config
  assert (small.mlp_width, small.num_heads, small.num_kv_heads) == (24, 2, 1)
  tokens = np.arange(24).reshape(2, 12)
  model = parse(config_of()).model
  expected = jax.jit(Decoder(model).apply)(params_of(run, "routed"), tokens).logits
  got = jax.jit(Decoder(small).apply)(exported.params, tokens).logits
  np.testing.assert_allclose(got, expected, atol=2e-6)
  card = (tmp_path / "out" / "README.md").read_text()
  assert "routed on forget, retain data, 0.5 of the rows labelled" in card
  assert "the reserved 8 MLP units and 1 key/value heads of each layer set to" in card
  names = [e.stage.name for e in cards.history(run.directories[DISTILLATION])]
  assert names == ["data", "base", f"{DISTILLATION}_whole", DISTILLATION]


def test_a_stage_that_was_stopped_goes_on_bit_for_bit(finished, tmp_path, monkeypatch):
  name = "routed_whole"
  run, outcomes = finished
  again = run_of(tmp_path, [name])
  put, calls = sharding.put_batch, []

  def stop_at_the_third(*args, **kwargs):
    calls.append(args)
    if len(calls) == 3:
      raise KeyboardInterrupt
    return put(*args, **kwargs)

  monkeypatch.setattr(sharding, "put_batch", stop_at_the_third)
  with pytest.raises(KeyboardInterrupt):
    running.run_stages(again)
  assert again.done(name) is None
  assert running.run_stages(again)[name] == outcomes[name]
  assert len(calls) == 4  # Two updates before, one after.
  jax.tree.map(
    np.testing.assert_array_equal, params_of(run, name), params_of(again, name)
  )


def test_four_devices_give_the_same_losses(finished, tmp_path):
  run, _ = finished
  mesh = testing.mesh(4, data=1, fsdp=2, tensor=2)
  four = run_of(tmp_path, ["routed"], mesh)
  running.run_stages(four)
  losses = [losses_of(one, "routed_whole") for one in (run, four)]
  assert len(losses[0]) == 3
  np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
  ablated = kernels(params_of(four, "routed"))
  assert all(np.all(ablated[path][where] == 0) for path, where in RESERVED.items())


def losses_of(run, name):
  lines = (run.directories[name] / "metrics.jsonl").read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  return [row["loss"] for row in rows if row["kind"] == "train"]


def test_a_share_that_labels_no_row_ends_before_the_first_model(tmp_path):
  run = run_of(tmp_path, ["routed"], **{"models.routed.labels.share": 0.01})
  with pytest.raises(ConfigError, match="labels.share: at 0.01 of the 64 rows of"):
    running.run_stages(run)
  assert run.done("data") and not run.done("routed_whole")


def test_programs_are_estimated_for_the_batches_they_get(finished):
  run, _ = finished
  by_name = {
    name: lowered
    for lowered in estimated.of_run(parse(config_of()), run.mesh)
    for name in lowered.names
  }
  for name in ("routed_whole", f"{DISTILLATION}_whole"):
    program, (state, frozen, batch, key) = by_name[name][1:]
    (real,) = batches_of(run, name, 1)
    shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
    assert shapes(batch) == shapes(real)
    jax.eval_shape(program, state, frozen, batch, key)
