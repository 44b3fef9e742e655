"""Students of one teacher that go together: it predicts each batch once for all.

A student's program reads the teacher's predictions from the batch, alone as with
others, so that its results do not depend on who goes with it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import math
from typing import Any

import jax
from jax.sharding import Mesh

from undo_jax import objectives
from undo_jax.distributed import sharding
from undo_jax.hardware import memory
from undo_jax.plan.stages import BATCH, Stage, TrainStage, identities
from undo_jax.running import predictions, programs
from undo_jax.running.run import Run
from undo_jax.utils.records import FieldError
from undo_jax.utils.types import Params

# Of predictions on a device; beyond it, a teacher's logits stay inside of the step,
# where they are there for a microbatch at a time.
MOST_BYTES = 2**28
FREE_SHARE = 0.25  # Of what a device has free, that students in waiting may take.


def can_share(stage: Stage, mesh: Mesh, at_once: int) -> bool:
  """Whether a stage is a student that reads its teacher's predictions of each batch.

  Args:
    stage: of a plan.
    mesh: of the devices.
    at_once: the run's students_at_once.
  """
  if at_once == 1 or not isinstance(stage, TrainStage) or "teacher" not in stage.frozen:
    return False
  kept = objectives.REGISTRY.get(stage.objective).kept
  if kept is None or stage.model.logits_chunk is not None:
    return False
  if set(stage.rows) != {BATCH} or stage.options.get("prompt"):
    return False
  try:
    kept(stage.model, stage.options)
  except FieldError:
    return False
  return predicted_bytes(stage, mesh) <= MOST_BYTES


def share(run: Run, stage: TrainStage) -> bool:
  """Whether a stage of a run reads its teacher's predictions of each batch."""
  return can_share(stage, run.mesh, _at_once(run))


def are_alike(run: Run, stage: Stage, other_run: Run, other: Stage) -> bool:
  """Whether two stages are students of one teacher that read the same batches."""
  both = (run, stage), (other_run, other)
  if not all(can_share(s, r.mesh, _at_once(r)) for r, s in both):
    return False
  first, second = (
    _shared(s, {name: path.name for name, path in r.directories.items()})
    for r, s in both
    if isinstance(s, TrainStage)
  )
  return first == second


def together(
  plan: Sequence[Stage], mesh: Mesh, at_once: int
) -> Iterator[tuple[str, list[TrainStage]]]:
  """Yield each teacher with its students in a plan that may go together."""
  known, groups = identities(plan), dict[str, list[TrainStage]]()
  for stage in plan:
    if isinstance(stage, TrainStage) and can_share(stage, mesh, at_once):
      groups.setdefault(repr(_shared(stage, known)), []).append(stage)
  for students in groups.values():
    if len(students) > 1:
      yield students[0].frozen["teacher"], students


def number(run: Run, stage: Stage) -> int:
  """Return how many students like this one may go together, by what memory is free."""
  at_once = _at_once(run)
  if not isinstance(stage, TrainStage) or not can_share(stage, run.mesh, at_once):
    return 1
  free = FREE_SHARE * memory.free_bytes(run.mesh.devices.flat[0])
  return max(1, min(at_once, 1 + int(free // state_bytes(stage, run.mesh))))


def state_bytes(stage: TrainStage, mesh: Mesh) -> int:
  """Return what a student that waits for its turn takes on a device."""
  leaves = jax.tree.leaves(programs.training_of(stage, mesh).abstract)
  sizes = (
    math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves
  )
  return sum(sizes)


def predicted_bytes(stage: TrainStage, mesh: Mesh) -> int:
  """Return what a teacher's predictions of a batch take on a device."""
  rows = -(-stage.batch_size // (mesh.shape["data"] * mesh.shape["fsdp"]))
  return 4 * rows * stage.length * stage.model.vocab_size


def predicting(
  run: Run, stage: TrainStage, frozen: dict[str, Params]
) -> Callable[[Any], Any]:
  """Return what places a batch on the devices, with the teacher's predictions of it."""
  program = predictions.of_batch(stage.model, run.mesh)

  def put(batch):
    placed = sharding.put_batch(batch, run.mesh)
    return placed | program(frozen["teacher"], placed["inputs"])

  return put


def _at_once(run: Run) -> int:
  """Return how many go together; none where updates are dispatched or traced."""
  is_alone = run.updates_at_once > 1 or run.profile_steps is not None
  return 1 if is_alone else run.students_at_once


def _shared(stage: TrainStage, known: Mapping[str, str]) -> tuple[Any, ...]:
  """Return what students have in common that go together.

  What they read is told by what determines it, by the names of stages.
  """
  inputs = {role: known[name] for role, name in stage.inputs.items()}
  read = {role: inputs.get(role) for role in ("data", "teacher", "selection")}
  order = stage.seeds[stage.order_stream]
  rows = stage.parts, stage.rows, stage.length, stage.labels, stage.order_stream
  return read, stage.model, order, *rows
