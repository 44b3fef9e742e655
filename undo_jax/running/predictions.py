"""A teacher's predictions for all rows of some splits, once for all its students."""

from collections.abc import Callable
import contextlib
import dataclasses
import functools
import logging

import jax
from jax.sharding import Mesh
import numpy as np

from undo_jax import tasks
from undo_jax.data import predictions
from undo_jax.distributed import placement, preemption, processes, sharding
from undo_jax.frontier import compute
from undo_jax.hardware.flops import forward_flops
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder
from undo_jax.objectives import chunked, divergences
from undo_jax.plan.predictions import Kept
from undo_jax.plan.stages import PredictionsStage
from undo_jax.running import programs
from undo_jax.running.run import Outcome, Run, load
from undo_jax.training.writers import Progress
from undo_jax.utils import files
from undo_jax.utils.leases import LeaseLost
from undo_jax.utils.types import Params, Rows

LOGGER = logging.getLogger("undo_jax")
FOLDER = "predictions"  # In the stage's directory.
# (frozen params, inputs int32 [B, L]) -> what divergences.predictions returns.
Predict = Callable[[Params, jax.Array], dict[str, jax.Array]]


@functools.cache
def predict(model: ModelConfig, mesh: Mesh, top_k: int) -> Predict:
  """Return the compiled program of a model's predictions, whole in every process."""
  return _predict(model, mesh, top_k, sharding.replicated(mesh))


@functools.cache
def of_batch(model: ModelConfig, mesh: Mesh) -> Predict:
  """Return that of its predictions of all tokens, which lie where the rows do."""
  return _predict(model, mesh, 0, sharding.batch_sharding(mesh))


def _predict(
  model: ModelConfig, mesh: Mesh, top_k: int, where: jax.sharding.Sharding
) -> Predict:
  apply = chunked.deferring(Decoder(model))
  kept = functools.partial(divergences.predictions, k=top_k)

  def of(params, inputs):
    return chunked.mapped(kept, apply(params, inputs).logits)

  return jax.jit(
    placement.on(mesh, of),
    # The parameters keep the shardings they come with.
    in_shardings=(None, sharding.batch_sharding(mesh)),
    out_shardings=where,
  )


def layout(model: ModelConfig, kept: Kept) -> predictions.Layout:
  """Return the arrays that are kept of a model's predictions."""
  return predictions.layout(model.vocab_size, top_k=kept.top_k, dtype=kept.dtype)


def row_bytes(stage: PredictionsStage) -> int:
  """Return what is kept of the predictions of a row."""
  kept = layout(stage.model, stage.kept).values()
  return stage.length * sum(w * np.dtype(dtype).itemsize for w, dtype in kept)


def run_predictions(
  run: Run, stage: PredictionsStage, directory: files.Path, title: str
) -> Outcome:
  """Run the teacher over every row of its splits, chunk by chunk, and keep the rest.

  A chunk is of run.evaluation_rows rows, and is written before the next one is begun.
  """
  sources = {split: _rows(run, split) for split in stage.splits}
  total = sum(map(len, sources.values()))
  folder = directory / FOLDER
  freeze = programs.freeze(stage.model, run.mesh)
  params = freeze(load(run, stage.source, stage.model))
  with contextlib.ExitStack() as stack:
    progress = Progress(title, total=total, initial=0, unit="row")
    stack.callback(progress.close)
    stack.enter_context(preemption.deferred())
    for split, rows in sources.items():
      _run_split(run, stage, params, folder, split, rows, progress)
  return {
    "predicted": total,
    "bytes": total * row_bytes(stage),
    "compute": dataclasses.asdict(cost(stage, rows=total)),
  }


def _run_split(
  run: Run,
  stage: PredictionsStage,
  params: Params,
  folder: files.Path,
  split: str,
  rows: Rows,
  progress: Progress,
) -> None:
  """Predict the rows of a split that are not written yet, and join them."""
  kept = layout(stage.model, stage.kept)
  program = predict(stage.model, run.mesh, stage.kept.top_k)
  shards = run.mesh.shape["data"] * run.mesh.shape["fsdp"]
  size = -(-run.evaluation_rows // shards) * shards
  where = sharding.batch_sharding(run.mesh)
  written = lambda: predictions.num_written(folder, split, kept, len(rows))  # noqa: E731
  done = processes.on_first("written", written)
  if done:
    LOGGER.info("%s: %d of %d rows are there", split, done, len(rows))
  progress.update(done)
  while done < len(rows):
    stop = min(done + size, len(rows))
    inputs = _inputs(rows, done, stop, size)
    predicted = jax.device_get(program(params, sharding.put_whole(inputs, where)))
    arrays = {name: array[: stop - done] for name, array in predicted.items()}
    if not processes.on_first("lease", run.may_save):
      raise LeaseLost(str(folder))
    if processes.is_first():
      predictions.write_part(folder, split, done, predictions.cast(arrays, kept))
    progress.update(stop - done)
    done = stop
    preemption.check()
  processes.on_first("joined", lambda: predictions.join(folder, split, kept))


def _rows(run: Run, split: str) -> Rows:
  data = run.data
  directory = files.here(run.directories[data.name])
  return tasks.get(data.task).source(data.data, directory, split)


def _inputs(rows: Rows, start: int, stop: int, size: int) -> np.ndarray:
  """Return what a model reads of some rows, int32 [size, L], filled up with zeros."""
  tokens = np.stack([rows[index]["tokens"][:-1] for index in range(start, stop)])
  return np.pad(tokens.astype(np.int32), ((0, size - len(tokens)), (0, 0)))


def with_predictions(run: Run, name: str, split: str, rows: Rows) -> Rows:
  """Return the rows of a split, each with what a finished stage predicts in it."""
  stage = next(s for s in run.stages if s.name == name)
  assert isinstance(stage, PredictionsStage), "the plan names a stage of this kind"
  folder = files.here(run.directories[name]) / FOLDER
  kept = layout(stage.model, stage.kept)
  arrays = predictions.load(folder, split, kept, rows=len(rows), length=stage.length)
  processes.on_first(split, lambda: predictions.check(folder, split, kept))
  return predictions.WithPredictions(rows, arrays)


def cost(stage: PredictionsStage, *, rows: int) -> compute.Compute:
  """Return what it costs: a forward pass of every row."""
  return compute.Compute(flops=rows * forward_flops(stage.model, stage.length))
