"""The programs of a run's stages with the shapes they are compiled for."""

import collections
from collections.abc import Iterator, Sequence
import json
import pathlib
import tempfile
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from undo_jax import objectives, tasks
from undo_jax.distributed import sharding
from undo_jax.plan import stages, translation
from undo_jax.plan.config import RunConfig
from undo_jax.plan.stages import BATCH, AttackStage, DataStage, EditStage, TrainStage
from undo_jax.running import predictions, programs
from undo_jax.utils.types import Problems

EVALUATION = ("evaluation",)  # The names of the program that scores models.


class Lowered(NamedTuple):
  """A program that stages share, and the shapes of its arguments."""

  names: tuple[str, ...]  # Of these stages.
  program: Any  # What jax.jit returned.
  args: tuple[Any, ...]  # jax.ShapeDtypeStruct with shardings.


def of_run(config: RunConfig, mesh: Mesh) -> Iterator[Lowered]:
  """Yield each program of a run once, as the run calls it; nothing is computed.

  Training and unlearning steps, the evaluation, a call of relearning (of one group of
  the members), and edits with what scores the edited model beside those it was made
  from.

  Args:
    config: of the run, see plan.config.
    mesh: of the devices to compile for.
  """
  plan = translation.plan(config, config.seeds[0])
  data = plan[0]
  assert isinstance(data, DataStage), "the plan begins with the data"
  names, problems = _problems(data, mesh)
  for alike in _alike([stage for stage in plan if isinstance(stage, TrainStage)]):
    shared = of_stage(alike[0], mesh)
    yield shared._replace(names=tuple(stage.name for stage in alike))
  model, rows = config.model, config.evaluation_rows
  score = programs.evaluate(model, mesh, config.task, names, rows)
  yield Lowered(EVALUATION, score, (programs.abstract_params(model, mesh), problems))
  for alike in _alike([stage for stage in plan if isinstance(stage, AttackStage)]):
    program = _attack(alike, mesh, names, problems, config)
    yield Lowered(tuple(stage.name for stage in alike), *program)
  edits: dict[str, list[EditStage]] = {}
  for stage in (stage for stage in plan if isinstance(stage, EditStage)):
    edits.setdefault(f"{stage.edit} {json.dumps(stage.options)}", []).append(stage)
  for alike in edits.values():
    program = _edit(alike[0], mesh, score, problems)
    yield Lowered(tuple(stage.name for stage in alike), *program)


def of_stage(stage: TrainStage, mesh: Mesh) -> Lowered:
  """Return the step of a stage that trains, as the run calls it.

  Args:
    stage: of a plan.
    mesh: of the devices to compile for.
  """
  return Lowered((stage.name,), *_training(stage, mesh))


Compiled = TypeVar("Compiled", TrainStage, AttackStage)


def _alike(plan: Sequence[Compiled]) -> list[list[Compiled]]:
  """Group stages by what their program is made from."""
  # Where the weights come from and when to stop is not in the program.
  outside = ("name", "parts", "seeds", "noise", "stop", "init", "frozen", "labels")
  outside += ("attack", "target", "sorts", "is_counted", "init_stream", "order_stream")
  outside += ("noise_shape", "noise_again", "saliency", "predictions")
  outside += ("trained_saliency", "first", "samples", "selection")
  groups: dict[str, list[Compiled]] = {}
  for stage in plan:
    inside = {k: v for k, v in stages.to_json(stage).items() if k not in outside}
    # Rates and, in training, how many updates there are: numbers in equal programs.
    numbers = {"learning_rate", "final_learning_rate", "warmup_steps", "decay_steps"}
    numbers |= {"num_steps"} if isinstance(stage, TrainStage) else set()
    inside["optimizer"] = {
      k: v for k, v in inside["optimizer"].items() if k not in numbers
    }
    key = json.dumps([inside, sorted(stage.parts)], sort_keys=True)
    groups.setdefault(key, []).append(stage)
  return list(groups.values())


def _training(stage: TrainStage, mesh: Mesh):
  model = stage.model
  program = programs.training_of(stage, mesh)
  method = objectives.method(stage.objective, stage.options)
  frozen = {role: programs.abstract_frozen(model, mesh) for role in stage.frozen}
  for role, draw in method.derived.items():
    shape = jax.eval_shape(lambda key, draw=draw: draw(key, model), _key())
    frozen[role] = _replicated(shape.shape, shape.dtype, mesh)
  parts = {name: _batch((n, stage.length), mesh) for name, n in stage.rows.items()}
  if method.sources == "rows":  # Each row tells its source.
    where = sharding.batch_sharding(mesh)
    size = (stage.rows[BATCH],)
    parts[BATCH]["source"] = jax.ShapeDtypeStruct(size, jnp.int32, sharding=where)
  if stage.kept is not None:
    layout = predictions.layout(model, stage.kept)
    parts = {name: part | _predicted(part, layout) for name, part in parts.items()}
  batch = parts[BATCH] if list(parts) == [BATCH] else parts
  return program.step, (program.abstract, frozen, batch, _key())


def _attack(
  alike: Sequence[AttackStage], mesh: Mesh, names, problems, config: RunConfig
):
  stage, rows, at_once = alike[0], config.evaluation_rows, config.replicas_at_once
  same = collections.Counter(stage.but_for_target for stage in alike)
  num_models = min(config.models_at_once, max(same.values()))
  program = programs.attack_of(stage, mesh, names, rows, at_once, num_models)
  evaluations = min(
    stage.evaluations_per_call, stage.optimizer.num_steps // stage.evaluate_every
  )
  leading = (evaluations, stage.evaluate_every)
  batches = _batch((*leading, stage.batch_size, stage.length), mesh)
  base = {"base": programs.abstract_params(stage.model, mesh)}
  frozen = base if program.reads_base else ()
  own = (program.abstract,) * num_models, (frozen,) * num_models
  group = jax.ShapeDtypeStruct((), jnp.int32)
  return program.program, (*own, problems, batches, _key(), group)


def _edit(stage: EditStage, mesh: Mesh, score: Any, problems: Problems):
  """Return an edit and what scores it as one program, which holds what both do."""
  options = json.dumps(stage.options)
  edit = programs.edit(stage.model, mesh, stage.edit, options, stage.strengths[0])

  def edited_and_scored(params, base, key, problems):
    # The run has the whole model before it is scored.
    edited = jax.lax.optimization_barrier(edit(params, base, key))
    return score(edited, problems)

  params = programs.abstract_params(stage.model, mesh)
  base = None if stage.base is None else params
  return jax.jit(edited_and_scored), (params, base, _key(), problems)


def _problems(data: DataStage, mesh: Mesh) -> tuple[tuple[str, ...], Problems]:
  """Return the evaluation's tasks and its problems' shapes.

  Problems that need no prepared rows are made, since how many and how long they are
  follows from them.
  """
  task = tasks.get(data.task)
  find = task.problem_shapes or task.problems
  with tempfile.TemporaryDirectory() as directory:
    names, arrays = find(data.data, data.seeds, pathlib.Path(directory))
  where = sharding.replicated(mesh)
  return names, jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), arrays
  )


def _batch(shape, mesh):
  where = sharding.batch_sharding(mesh, leading=len(shape) - 2)
  dtypes = {"inputs": jnp.int32, "targets": jnp.int32, "mask": jnp.float32}
  return {
    name: jax.ShapeDtypeStruct(shape, dtype, sharding=where)
    for name, dtype in dtypes.items()
  }


def _predicted(part, layout):
  """Return the shapes of a teacher's predictions beside those of a batch."""
  shape, where = part["inputs"].shape, part["inputs"].sharding
  return {
    name: jax.ShapeDtypeStruct((*shape, width), dtype, sharding=where)
    for name, (width, dtype) in layout.items()
  }


def _replicated(shape, dtype, mesh):
  return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding.replicated(mesh))


def _key():
  return jax.eval_shape(lambda: jax.random.key(0))
