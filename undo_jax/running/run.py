"""What all stages of a run share: its place, models, problems and scores."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import math
from typing import Any, TypeAlias

import jax
from jax.sharding import Mesh
import numpy as np

from undo_jax import tasks
from undo_jax.checkpoints import sources
from undo_jax.distributed import processes, sharding
from undo_jax.frontier import compute
from undo_jax.hardware import chips
from undo_jax.hardware.matmul import matmul_flops_per_second
from undo_jax.models.config import ModelConfig
from undo_jax.plan.stages import DataStage, ModelStage, Stage, identities
from undo_jax.running import programs
from undo_jax.training.checkpointing import Checkpoints, load_params
from undo_jax.training.meter import Meter
from undo_jax.training.writers import NoWriter, StageWriter, Writer
from undo_jax.utils import files
from undo_jax.utils.leases import Lease
from undo_jax.utils.types import Params, Problems

Outcome: TypeAlias = dict[str, Any]  # What a finished stage leaves in done.json.
Scores: TypeAlias = dict[str, float]
Score: TypeAlias = Callable[[Params, Problems], Scores]
# Scores of whole groups, before those by task; not every task has the last.
GROUPS = ("retain", "forget", "forget_attacked")


@dataclasses.dataclass(frozen=True)
class Run:
  """Where and how stages run, which changes no result, and the plan."""

  workdir: files.Path
  mesh: Mesh
  checkpoint_every: int  # Updates.
  evaluation_rows: int  # Problems in one forward pass.
  replicas_at_once: int | None  # Of an attack; None: all.
  stages: tuple[Stage, ...]
  given: Mapping[str, sources.Source] = dataclasses.field(default_factory=dict)
  max_loss: float = math.inf  # Beyond it training has diverged.
  profile_steps: tuple[int, int] | None = None  # Updates of each stage to trace.
  models_at_once: int = 1  # Attacked by one program, at most.
  students_at_once: int = 1  # Of one teacher, that take each batch together, at most.
  updates_at_once: int = 1  # Of training in one dispatch, at most.
  checkpoints_kept: int = 2  # Of a stage that is not finished.
  writers: tuple[str, ...] = ("jsonl", "tensorboard")  # Of training.writers.
  label: str = ""  # Before a stage's name in what is printed: which seed of several.
  # On the directory of the stage that runs; None in all processes but the first.
  lease: Lease | None = None

  @functools.cached_property
  def directories(self) -> dict[str, files.Path]:
    """The directory of each stage."""
    root = self.workdir / "stages"
    known = identities(self.stages)
    return {name: root / f"{name}-{identity}" for name, identity in known.items()}

  @property
  def data(self) -> DataStage:
    """The data stage, the first of the plan."""
    stage = self.stages[0]
    assert isinstance(stage, DataStage), "the plan begins with the data"
    return stage

  def done(self, name: str) -> Outcome | None:
    """Return the done.json of a finished stage, or None."""
    path = self.directories[name] / "done.json"
    return files.read_record(path) if path.exists() else None

  def is_done(self, directory: str) -> bool:
    """Whether the stage of a directory, by its name, is finished."""
    return (self.workdir / "stages" / directory / "done.json").exists()

  def may_write(self) -> bool:
    """Whether this run still holds the running stage, as far as is known."""
    return self.lease is None or self.lease.is_held()

  def may_save(self) -> bool:
    """Whether it is; looked up."""
    return self.lease is None or self.lease.is_held(ask=True)


def problems_of(run: Run) -> tuple[tuple[str, ...], Problems]:
  """Return the names of the scores by task and the test's problems on the devices."""
  return _placed(run, tasks.get(run.data.task).problems)


def validation_of(run: Run) -> Problems | None:
  """Return the problems that stop rules and searches read, or None: there are none."""
  find = tasks.get(run.data.task).validation
  return None if find is None else _placed(run, find)[1]


def worked_problems_of(run: Run, count: int, seed: int) -> Problems:
  """Return the test's problems, each after so many worked ones."""
  find: Any = tasks.get(run.data.task).worked
  assert find is not None, "the config's checks ask for worked examples"
  return _placed(run, functools.partial(find, count=count, seed=seed))[1]


def _placed(run: Run, find: Callable) -> tuple[tuple[str, ...], Problems]:
  data = run.data
  names, arrays = find(data.data, data.seeds, files.here(run.directories[data.name]))
  return names, sharding.put_whole(arrays, sharding.replicated(run.mesh))


def scorer_of(
  run: Run,
  stage: ModelStage,
  names: tuple[str, ...],
  beside: tuple[str, str, float] | None = None,
) -> Score:
  """Return the compiled `(params, problems) -> scores` of the stage's task.

  Of what an edit puts beside the weights too, see programs.evaluate.
  """
  rows = run.evaluation_rows
  evaluate = programs.evaluate(stage.model, run.mesh, stage.task, names, rows, beside)

  def score(params: Params, problems: Problems) -> Scores:
    scores = jax.device_get(evaluate(params, problems))
    order = (name for name in (*GROUPS, *names) if name in scores)
    return {name: rounded(scores[name]) for name in order}

  return score


def scores_of(run: Run, stage: ModelStage, params: Params) -> Outcome:
  """Return a model's scores on the test and, where there are any, on validation.

  Raises:
    FloatingPointError: if they are not finite.
  """
  names, problems = problems_of(run)
  score, selection = scorer_of(run, stage, names), validation_of(run)
  scores = {"scores": finite(stage.name, score(params, problems))}
  if selection is None:
    return scores
  return scores | {"validation": score(params, selection)}


def finite(name: str, scores: Scores) -> Scores:
  """Return a model's scores.

  Raises:
    FloatingPointError: if those of a group are not finite: it is no model to go on
      from, and a score of it would say that everything was forgotten.
  """
  missing = [group for group in ("retain", "forget") if scores.get(group, 0.0) is None]
  if missing:
    raise FloatingPointError(
      f"{name}: the scores {', '.join(missing)} are not finite: the model has "
      "diverged; lower its learning rate, or give another checkpoint"
    )
  return scores


def load(run: Run, name: str, model: ModelConfig) -> Params:
  """Return the parameters of a finished or given stage's model."""
  abstract = programs.abstract_params(model, run.mesh)
  if name in run.given:
    return sources.load(run.given[name], abstract)
  return load_params(run.directories[name] / "checkpoints", abstract)


def writer_of(run: Run, mirror: files.Mirror, start: int) -> Writer:
  """Return the writer of a stage that goes on after some updates."""
  if not processes.is_first():
    return NoWriter()
  return StageWriter(mirror, run.writers, resume_step=start, may_write=run.may_write)


def checkpoints_of(run: Run, directory: files.Path) -> Checkpoints:
  """Return the checkpoints of the stage that runs."""
  return Checkpoints(
    directory / "checkpoints",
    num_kept=run.checkpoints_kept,
    is_resumed=True,
    may_save=run.may_save,
  )


def meter_of(run: Run, cost: compute.Compute, dtype: str) -> Meter:
  """Return the meter of a stage, of the cost of one update.

  Args:
    run: the run.
    cost: of an update.
    dtype: that the model multiplies in.
  """
  peak = chips.peak(list(run.mesh.devices.flat))
  if peak is None and jax.default_backend() == "cpu":
    peak = matmul_flops_per_second(dtype) * jax.process_count()
  return Meter(tokens=cost.tokens, flops=cost.flops, peak=peak)


def rounded(values) -> Any:
  """Return float32 values as the shortest decimals that give them back.

  A value that is not finite, such as the score of a diverged model, becomes None,
  since JSON cannot hold it.
  """
  if np.ndim(values):
    return [rounded(value) for value in values]
  return float(str(np.float32(values))) if np.isfinite(values) else None
