"""What all stages of a run share: where it is, its models, problems and scores."""

from collections.abc import Mapping
import dataclasses
import functools
import math
from typing import Any

import jax
from jax.sharding import Mesh
import numpy as np

from undo_jax import tasks as settings_lib
from undo_jax.checkpoints import sources
from undo_jax.distributed import processes, sharding
from undo_jax.frontier import compute
from undo_jax.hardware import chips
from undo_jax.models.config import ModelConfig
from undo_jax.running import programs
from undo_jax.stages import Stage, identities
from undo_jax.training.checkpointing import load_params
from undo_jax.training.meter import Meter, matmul_flops_per_second
from undo_jax.training.writers import NoWriter, StageWriter, Writer
from undo_jax.utils import files
from undo_jax.utils.types import Params


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

  @functools.cached_property
  def directories(self) -> dict[str, files.Path]:
    """The directory of each stage."""
    root = self.workdir / "stages"
    found = identities(list(self.stages))
    return {name: root / f"{name}-{identity}" for name, identity in found.items()}

  def done(self, name: str) -> dict[str, Any] | None:
    """Returns what a finished stage left, or None."""
    path = self.directories[name] / "done.json"
    return files.read_json(path) if path.exists() else None


def problems_of(run: Run, stage: Stage) -> tuple[tuple[str, ...], Any]:
  """Returns the evaluation tasks and their problems on the devices."""
  data = next(s for s in run.stages if s.name == stage.inputs["data"])
  setting = settings_lib.get(data.settings["setting"])
  directory = files.here(run.directories[data.name])
  tasks, arrays = setting.problems(
    data.settings["data"], data.settings["seeds"], directory
  )
  where = sharding.rows_or_replicated(arrays, run.mesh)
  return tasks, sharding.put_whole(arrays, where)


def scorer_of(run: Run, stage: Stage, model: ModelConfig, tasks: tuple[str, ...]):
  """Returns the compiled `(params, problems) -> scores` of the stage's setting."""
  setting = stage.settings["setting"]
  return programs.evaluate(model, run.mesh, setting, tasks, run.evaluation_rows)


def load(run: Run, name: str, model: ModelConfig) -> Params:
  """Returns the parameters of a finished or given stage's model."""
  abstract = programs.abstract_params(model, run.mesh)
  if name in run.given:
    return sources.load(run.given[name], abstract)
  return load_params(run.directories[name] / "checkpoints", abstract)


def writer_of(mirror: files.Mirror, start: int) -> Writer:
  """Returns the writer of a stage that goes on after so many updates."""
  return StageWriter(mirror, resume_step=start) if processes.is_first() else NoWriter()


def meter_of(run: Run, cost: compute.Compute) -> Meter:
  """Returns the meter of a stage, of the cost of one update."""
  peak = chips.peak(list(run.mesh.devices.flat))
  if peak is None and jax.default_backend() == "cpu":
    peak = matmul_flops_per_second() * jax.process_count()
  return Meter(tokens=cost.tokens, flops=cost.flops, peak=peak)


def floats(scores) -> dict[str, float]:
  """Returns scores on devices as numbers of JSON."""
  return {name: rounded(value) for name, value in jax.device_get(scores).items()}


def rounded(values) -> Any:
  """Returns float32 values as the shortest decimals that give them back."""
  return (
    [rounded(v) for v in values] if np.ndim(values) else float(str(np.float32(values)))
  )


def score_names(tasks: tuple[str, ...]) -> tuple[str, ...]:
  """Returns the names of all scores of an evaluation."""
  return ("retain", "forget", *tasks)
