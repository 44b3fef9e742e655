"""What a run has to do: its stages, which are finished already, FLOPs and time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import math
import pathlib
import statistics
import tempfile

import jax
from jax.sharding import Mesh

from undo_jax import tasks
from undo_jax.estimation import disk
from undo_jax.hardware import chips
from undo_jax.hardware.flops import forward_flops
from undo_jax.hardware.matmul import matmul_flops_per_second
from undo_jax.models.config import num_params
from undo_jax.plan.stages import (
  Against,
  AttackStage,
  DataStage,
  EditStage,
  ModelStage,
  PredictionsStage,
  SaliencyStage,
  SelectionStage,
  Stage,
  TrainStage,
  identities,
)
from undo_jax.running import (
  attack,
  edit,
  predictions,
  saliency,
  selection,
  students,
  training,
)
from undo_jax.training import writers
from undo_jax.utils import files, tables

# Of the peak, where no finished stage says how fast this machine is; on a CPU, of
# models with so many parameters and more, another. As measured there: .2 to .3 at 0.4 M
# parameters, .4 to .5 at 29 M, .6 to .8 at 135 M.
SHARE_OF_PEAK, SHARE_IF_LARGE, LARGE = 0.2, 0.5, 10_000_000
HEADER = ("stages", "done", "begun", "of", "FLOPs to do", "minutes to do")


@dataclasses.dataclass(frozen=True)
class Work:
  """A stage of a run; those that seeds share are one."""

  stage: Stage
  state: str  # "done", "begun" or "to do".
  rows: Mapping[str, int] | None  # Of each split; None: they are not made yet.
  # Evaluations included; training at most, where a rule may stop it. 0: that depends on
  # how many rows there will be.
  flops: int

  @property
  def group(self) -> str:
    """What it is listed under: the model, or the attack on it."""
    if isinstance(self.stage, Against):
      return f"{self.stage.attack} on {self.stage.target}"
    return self.stage.name


def print_plan(
  workdir: files.Path,
  plans: Mapping[int, Sequence[Stage]],
  mesh: Mesh,
  *,
  students_at_once: int = 1,
  checkpoints_kept: int = 2,
  replicas_at_once: int | None = None,
) -> None:
  """Print the stages of a run by group, and in all, their time and disk space.

  Args:
    workdir: of the run; is only read, and may be missing.
    plans: stages by seed.
    mesh: of the devices that are here.
    students_at_once: the run's.
    checkpoints_kept: the run's.
    replicas_at_once: the run's.

  Raises:
    ConfigError: if the stages take more than the disk has free.
  """
  works = list(stages_of(workdir, plans))
  rate = flops_per_second(workdir, plans.values(), mesh)
  by_group: dict[str, list[Work]] = {}
  for work in works:
    by_group.setdefault(work.group, []).append(work)
  rows = [_row(group, of_group, rate) for group, of_group in by_group.items()]
  print(tables.text(HEADER, [*rows, _row("all", works, rate)]))
  if any(not work.flops for work in works):
    print("teachers' passes over all rows are left out until the data are there")
  plan = next(iter(plans.values()))
  for teacher, group in students.together(plan, mesh, students_at_once):
    names = ", ".join(stage.name for stage in group)
    size = max(students.state_bytes(stage, mesh) for stage in group) / 2**30
    print(
      f"{names}: up to {students_at_once} at a time share the passes of {teacher}, as "
      f"far as memory allows; each after the first takes {size:.3g} GiB"
    )
  print(f"times at {rate / 1e9:.3g} GFLOP/s; the compilation of programs comes on top")
  left = [work for work in works if work.state != "done"]
  kept = sum(disk.kept_bytes(work.stage, mesh, work.rows) for work in left)
  opened = (
    disk.open_bytes(work.stage, mesh, checkpoints_kept, replicas_at_once)
    for work in left
  )
  disk.check(workdir, kept, max(opened, default=0))


def stages_of(
  workdir: files.Path, plans: Mapping[int, Sequence[Stage]]
) -> Iterator[Work]:
  """Yield each stage of a run once, the data left out."""
  seen = set()
  for plan in plans.values():
    evaluated, known = scored_shapes(plan[0]), identities(plan)
    rows = _num_rows(workdir / "stages" / f"{plan[0].name}-{known[plan[0].name]}")
    for name, identity in known.items():
      stage = next(stage for stage in plan if stage.name == name)
      if isinstance(stage, DataStage) or (name, identity) in seen:
        continue
      seen.add((name, identity))
      state = _state(workdir / "stages" / f"{name}-{identity}")
      yield Work(stage, state, rows, flops_of(stage, evaluated, rows))


def flops_of(
  stage: Stage,
  evaluated: Sequence[tuple[int, int]],
  rows: Mapping[str, int] | None = None,
) -> int:
  """Return the FLOPs of a stage: training, at most, and evaluations.

  Args:
    stage: of a plan.
    evaluated: rows and length of the evaluation's problems, by bucket.
    rows: of each split; None: they are not made yet, and what reads all of them is 0.
  """
  if isinstance(stage, PredictionsStage):
    count = sum(rows[split] for split in stage.splits) if rows else 0
    return predictions.cost(stage, rows=count).flops
  if isinstance(stage, SelectionStage):
    count = sum(rows[split] for split in stage.splits) if rows else 0
    return selection.cost(stage, rows=count).flops
  if isinstance(stage, SaliencyStage):
    return saliency.cost(stage).flops
  if not isinstance(stage, ModelStage):
    return 0
  scoring = sum(n * forward_flops(stage.model, length) for n, length in evaluated)
  if isinstance(stage, AttackStage):
    steps, members = stage.optimizer.num_steps, len(stage.learning_rates)
    trained = steps * attack.cost(stage, members=members).flops
    return trained + (1 + steps // stage.evaluate_every * members) * scoring
  if isinstance(stage, EditStage):
    return edit.cost(stage).flops + len(stage.strengths) * scoring
  if not isinstance(stage, TrainStage):
    return scoring
  steps = stage.optimizer.num_steps
  checks = steps // stage.stop.evaluate_every if stage.stop else 0
  return training.cost(stage, updates=steps).flops + (1 + checks) * scoring


def _num_rows(directory: files.Path) -> Mapping[str, int] | None:
  """Return the rows of each split, of a finished data stage."""
  path = directory / "done.json"
  return files.read_record(path)["rows"] if path.exists() else None


def scored_shapes(data: Stage) -> list[tuple[int, int]]:
  """Return rows and length of what is scored, by bucket."""
  assert isinstance(data, DataStage), "the plan begins with the data"
  task = tasks.get(data.task)
  find = task.problem_shapes or task.problems
  with tempfile.TemporaryDirectory() as directory:
    _, arrays = find(data.data, data.seeds, pathlib.Path(directory))
  leaves = jax.tree_util.tree_leaves_with_path(arrays)
  return [x.shape for path, x in leaves if "inputs" in jax.tree_util.keystr(path[-1:])]


def _state(directory: files.Path) -> str:
  if (directory / "done.json").exists():
    return "done"
  begun = (directory / "checkpoints", directory / predictions.FOLDER)
  return "begun" if any(path.exists() for path in begun) else "to do"


def _row(group: str, works: Sequence[Work], rate: float) -> tuple[str, ...]:
  counts = [sum(work.state == state for work in works) for state in ("done", "begun")]
  flops = sum(work.flops for work in works if work.state != "done")
  shown = f"{flops:.2e}" if flops else "0"
  return (group, *map(str, counts), str(len(works)), shown, f"{flops / rate / 60:.1f}")


def flops_per_second(
  workdir: files.Path, plans: Iterable[Sequence[Stage]], mesh: Mesh
) -> float:
  """Return the FLOPs a second to expect, from finished stages or from the peak."""
  of_chips = chips.peak(list(mesh.devices.flat))
  stages = (stage for plan in plans for stage in plan)
  models = (stage.model for stage in stages if isinstance(stage, ModelStage))
  model = max(models, key=num_params)
  peak = of_chips or matmul_flops_per_second(model.dtype)
  if shares := list(_measured(workdir)):
    return peak * statistics.median(shares)
  is_large = of_chips is None and num_params(model) >= LARGE
  return peak * (SHARE_IF_LARGE if is_large else SHARE_OF_PEAK)


def _measured(workdir: files.Path) -> Iterable[float]:
  """Yield the share of the peak that each finished stage's training has reached."""
  directory = workdir / "stages"
  for stage in sorted(directory.iterdir()) if directory.exists() else ():
    path = stage / "metrics.jsonl"
    if (stage / "done.json").exists() and path.exists():
      values = [row.get("share_of_peak") for row in writers.read_jsonl(path)]
      shares = [x for x in values if isinstance(x, float) and x]
      if shares and math.isfinite(sum(shares)):
        yield statistics.median(shares)
