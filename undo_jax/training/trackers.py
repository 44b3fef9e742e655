"""Writers for experiment trackers, each in the tracker's own format.

Every stage is a run of the tracker, named after the stage's directory; a resumed stage
continues its run. Unless a tracker's own environment variables say otherwise, rows
stay in the run's workdir and no network is used:

| writer | kept in | sent elsewhere by | read by |
| --- | --- | --- | --- |
| tensorboard | stages/NAME/tensorboard | | tensorboard --logdir=WORKDIR |
| wandb | WORKDIR/wandb | WANDB_MODE=online | wandb sync WORKDIR/wandb/offline-* |
| mlflow | WORKDIR/mlflow.db | MLFLOW_TRACKING_URI | mlflow ui, sqlite:///mlflow.db |
| trackio | WORKDIR/trackio | TRACKIO_SERVER_URL, TRACKIO_SPACE_ID | trackio show |
"""

import contextlib
import math
import os
import pathlib
import re
import time
from typing import Any

from undo_jax.utils import files

PROJECT = "undo_jax"


class Scalars:
  """Takes the numbers of rows, named kind/value; updates at most once in SECONDS."""

  SECONDS = 1.0

  def __init__(self) -> None:
    self._last = -math.inf

  def write(self, step: int, kind: str, **values: object) -> None:
    """Write the numbers of a row."""
    if kind == "train":
      if time.monotonic() - self._last < self.SECONDS:
        return
      self._last = time.monotonic()
    numbers = {
      f"{kind}/{name}": value
      for name, value in values.items()
      if isinstance(value, int | float)
    }
    if numbers:
      self.log(step, numbers)

  def log(self, step: int, numbers: dict[str, int | float]) -> None:
    """Write numbers by name."""
    raise NotImplementedError

  def close(self) -> None:
    """Write what is left."""
    raise NotImplementedError


class TensorBoard(Scalars):
  """A file of events; TensorBoard drops older ones past the update resumed from."""

  def __init__(self, mirror: files.Mirror, resume_step: int):
    super().__init__()
    from tensorboardX import SummaryWriter  # Here, since it takes a while.

    directory = str(mirror.local / "tensorboard")
    self._events = SummaryWriter(directory, purge_step=resume_step + 1)

  def log(self, step: int, numbers: dict[str, int | float]) -> None:
    """Write numbers by name."""
    for name, value in numbers.items():
      self._events.add_scalar(name, value, step)

  def close(self) -> None:
    """Write what is left."""
    self._events.close()


class WeightsAndBiases(Scalars):
  """A run of Weights & Biases, offline unless WANDB_MODE says otherwise."""

  def __init__(self, mirror: files.Mirror, resume_step: int):
    super().__init__()
    import wandb

    del resume_step  # It keeps its own count, and takes no step twice.
    place = _workdir(mirror)
    mode: Any = os.environ.get("WANDB_MODE", "offline")
    self._run = wandb.init(
      project=os.environ.get("WANDB_PROJECT", PROJECT),
      group=place.name,
      name=mirror.name,
      id=_identity(place, mirror)[-120:],
      resume="allow",
      reinit="create_new",
      dir=str(place),
      mode=mode,
      settings=wandb.Settings(
        silent=True, console="off", disable_git=True, disable_code=True
      ),
    )

  def log(self, step: int, numbers: dict[str, int | float]) -> None:
    """Write numbers by name."""
    self._run.log(numbers, step=step)

  def close(self) -> None:
    """Write what is left."""
    self._run.finish()


class MLflow(Scalars):
  """A run of MLflow, in a database of the workdir unless MLFLOW_TRACKING_URI is set."""

  def __init__(self, mirror: files.Mirror, resume_step: int):
    super().__init__()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import filelock
    from mlflow.tracking import MlflowClient

    del resume_step  # What is logged twice has two times.
    place = _workdir(mirror)
    uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
    with filelock.FileLock(place / ".mlflow.lock"):  # Of drivers that share a workdir.
      self._client = MlflowClient(tracking_uri=uri)
      existing = self._client.get_experiment_by_name(PROJECT)
      experiment = (
        existing.experiment_id
        if existing
        else self._client.create_experiment(
          PROJECT, artifact_location=str(place / "mlflow")
        )
      )
      name = _identity(place, mirror)
      same = self._client.search_runs(
        [experiment], f"attributes.run_name = '{name}'", max_results=1
      )
      run = same[0] if same else self._client.create_run(experiment, run_name=name)
    self._run = run.info.run_id

  def log(self, step: int, numbers: dict[str, int | float]) -> None:
    """Write numbers by name."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [Metric(name, value, now, step) for name, value in numbers.items()]
    self._client.log_batch(self._run, metrics=metrics)

  def close(self) -> None:
    """Write what is left."""
    self._client.set_terminated(self._run)


class Trackio(Scalars):
  """A run of Trackio, in the workdir unless its variables name a server."""

  def __init__(self, mirror: files.Mirror, resume_step: int):
    super().__init__()
    del resume_step
    place = _workdir(mirror)
    os.environ.setdefault("TRACKIO_DIR", str(place / "trackio"))
    with contextlib.redirect_stdout(None):
      import trackio

      self._run: Any = trackio.init(
        project=PROJECT,
        group=place.name,
        name=mirror.name,
        resume="allow",
        embed=False,
        auto_log_cpu=False,
        auto_log_gpu=False,
      )

  def log(self, step: int, numbers: dict[str, int | float]) -> None:
    """Write numbers by name."""
    self._run.log(numbers, step=step)

  def close(self) -> None:
    """Write what is left."""
    with contextlib.redirect_stdout(None):
      self._run.finish()


def _identity(place: pathlib.Path, mirror: files.Mirror) -> str:
  """Return a name of a stage that trackers accept in filters and as an id."""
  return re.sub(r"[^\w.-]", "-", f"{place.name}-{mirror.name}")


def _workdir(mirror: files.Mirror) -> pathlib.Path:
  """Return the workdir of a stage; where it lies in a store, the stage's mirror."""
  local = mirror.local.absolute()
  is_stage = mirror.is_local and local.parent.name == "stages"
  return local.parent.parent if is_stage else local
