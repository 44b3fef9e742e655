"""The programs of a run's stages with the shapes they are compiled for."""

from collections.abc import Iterator
import json
import pathlib
import tempfile
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from undo_jax import objectives, stages
from undo_jax import tasks as settings_lib
from undo_jax.distributed import sharding
from undo_jax.models.config import ModelConfig
from undo_jax.running import programs
from undo_jax.stages import Stage


class Lowered(NamedTuple):
  """A program that stages share, and the shapes of its arguments."""

  names: tuple[str, ...]  # Of these stages.
  program: Any  # What jax.jit returned.
  args: tuple[Any, ...]  # jax.ShapeDtypeStruct with shardings.


def of_run(config: Any, mesh: Mesh) -> Iterator[Lowered]:
  """Yields each program of a run once, as the run calls it; nothing is computed.

  Training and unlearning steps, the evaluation, and the relearning of a population.

  Args:
    config: of the run, see configs/.
    mesh: of the devices to compile for.
  """
  plan = stages.plan(config)
  tasks, problems = _problems(plan[0], mesh)
  for alike in _alike(plan, "train"):
    shared = of_stage(alike[0], mesh)
    yield shared._replace(names=tuple(stage.name for stage in alike))
  model = ModelConfig(**config.model)
  score = programs.evaluate(model, mesh, config.setting, tasks, config.evaluation_rows)
  yield Lowered(
    ("evaluation",), score, (programs.abstract_params(model, mesh), problems)
  )
  for alike in _alike(plan, "attack"):
    program = _attack(alike[0].settings, mesh, tasks, problems, config)
    yield Lowered(tuple(stage.name for stage in alike), *program)


def of_stage(stage: Stage, mesh: Mesh) -> Lowered:
  """Returns the step of a stage that trains, as the run calls it.

  Args:
    stage: of stages.plan, of kind "train".
    mesh: of the devices to compile for.
  """
  return Lowered((stage.name,), *_training(stage.settings, mesh))


def _alike(plan: list[Stage], kind: str) -> list[list[Stage]]:
  """Groups the stages of a kind by what their program is made from."""
  # Where the weights come from and when to stop is not in the program.
  outside = ("parts", "seeds", "noise", "stop")
  groups: dict[str, list[Stage]] = {}
  for stage in plan:
    if stage.kind == kind:
      inside = {k: v for k, v in stage.settings.items() if k not in outside}
      parts = sorted(stage.settings["parts"])
      key = json.dumps([inside, parts], sort_keys=True)
      groups.setdefault(key, []).append(stage)
  return list(groups.values())


def _training(settings, mesh):
  model = ModelConfig(**settings["model"])
  program = programs.training_of(settings, mesh)
  frozen = {
    name: _replicated((model.width,), jnp.float32, mesh)
    if name == "direction"
    else programs.abstract_frozen(model, mesh)
    for name in objectives.method(settings["objective"], settings["options"]).frozen
  }
  rows = stages.part_rows(settings, settings["batch_size"])
  parts = {
    name: _batch((size, settings["length"]), mesh) for name, size in rows.items()
  }
  if settings["objective"].startswith("routed"):  # Each row tells its source.
    where, size = sharding.batch_sharding(mesh), settings["batch_size"]
    source = jax.ShapeDtypeStruct((size,), jnp.int32, sharding=where)
    parts["batch"]["source"] = source
  batch = parts["batch"] if list(parts) == ["batch"] else parts
  return program.step, (program.abstract, frozen, batch, _key())


def _attack(settings, mesh, tasks, problems, config):
  attack = settings["attack"]
  at_once = config.replicas_at_once
  program = programs.attack_of(settings, mesh, tasks, config.evaluation_rows, at_once)
  model = ModelConfig(**settings["model"])
  base = {"base": programs.abstract_params(model, mesh)}
  evaluations = min(
    attack["evaluations_per_call"], attack["num_steps"] // attack["evaluate_every"]
  )
  leading = (evaluations, attack["evaluate_every"])
  batches = _batch((*leading, attack["batch_size"], settings["length"]), mesh)
  frozen = base if "lora" in attack else ()
  return program.program, (program.abstract, frozen, problems, batches, _key())


def _problems(data: Stage, mesh: Mesh) -> tuple[tuple[str, ...], Any]:
  """Returns the evaluation's tasks and its problems' shapes.

  Problems that need no prepared rows are made, since how many and how long they are
  follows from them.
  """
  setting = settings_lib.get(data.settings["setting"])
  with tempfile.TemporaryDirectory() as directory:
    find = getattr(setting, "problem_shapes", setting.problems)
    tasks, arrays = find(
      data.settings["data"], data.settings["seeds"], pathlib.Path(directory)
    )
  where = sharding.rows_or_replicated(arrays, mesh)
  return tasks, jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), arrays
  )


def _batch(shape, mesh):
  where = sharding.batch_sharding(mesh, leading=len(shape) - 2)
  dtypes = {"inputs": jnp.int32, "targets": jnp.int32, "mask": jnp.float32}
  return {
    name: jax.ShapeDtypeStruct(shape, dtype, sharding=where)
    for name, dtype in dtypes.items()
  }


def _replicated(shape, dtype, mesh):
  return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding.replicated(mesh))


def _key():
  return jax.eval_shape(lambda: jax.random.key(0))
