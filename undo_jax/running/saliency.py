"""Gradients of a model, squared or not: which weights hold the capability."""

from collections.abc import Callable
import contextlib
import dataclasses
import functools
import logging
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from undo_jax import objectives
from undo_jax.data import pipeline
from undo_jax.distributed import placement, preemption, sharding
from undo_jax.frontier import compute
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder
from undo_jax.objectives import chunked
from undo_jax.plan.stages import SaliencyStage
from undo_jax.running import programs
from undo_jax.running.data import batches_of
from undo_jax.running.noise_programs import Fisher
from undo_jax.running.run import Outcome, Run, checkpoints_of, load
from undo_jax.training.checkpointing import load_params
from undo_jax.training.saliency import add_gradients
from undo_jax.training.writers import Progress
from undo_jax.utils import files
from undo_jax.utils.types import Params

LOGGER = logging.getLogger("undo_jax")


@dataclasses.dataclass(frozen=True)
class Averaging:
  """How powers of gradients are averaged, compiled."""

  zeros: Callable[[], Params]
  # (estimate so far, params, batch, share) -> estimate.
  add: Callable[[Params, Params, Any, float], Params]


def abstract_fisher(model: ModelConfig, mesh: Mesh) -> Fisher:
  """Return the shapes and shardings of both estimates, float32."""
  return dict.fromkeys(("forget", "retain"), programs.abstract_params(model, mesh))


@functools.cache
def averaging(model: ModelConfig, mesh: Mesh, power: int = 2) -> Averaging:
  """Return the programs of a model's diagonal Fisher estimate; see Averaging.

  The gradients are those of the mean cross-entropy of a batch, computed in float32.
  """
  decoder = Decoder(dataclasses.replace(model, dtype="float32"))
  objective = objectives.make("cross_entropy", chunked.deferring(decoder))
  abstract = programs.abstract_params(model, mesh)
  shardings = jax.tree.map(lambda s: s.sharding, abstract)

  def add(total, params, batch, share):
    return add_gradients(objective, total, params, batch, share=share, power=power)

  def zeros():
    return jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.float32), abstract)

  where = shardings, shardings, sharding.batch_sharding(mesh), None
  return Averaging(
    zeros=jax.jit(zeros, out_shardings=shardings),
    add=jax.jit(
      placement.on(mesh, add),
      in_shardings=where,
      out_shardings=shardings,
      donate_argnums=0,
    ),
  )


def run_saliency(
  run: Run, stage: SaliencyStage, directory: files.Path, title: str
) -> Outcome:
  """Average powers of a model's gradients, of forget and of retain batches.

  After i of n batches their sum divided by n is saved, so at the end the mean.
  """
  program = averaging(stage.model, run.mesh, stage.power)
  checkpoints = checkpoints_of(run, directory)
  done, total = checkpoints.latest() or 0, stage.num_batches
  if done:
    LOGGER.info("%s: resuming after batch %d", title, done)
    rest = {"step": jnp.zeros((), jnp.int32)}
    abstract = abstract_fisher(stage.model, run.mesh)
    fisher, _ = checkpoints.restore(done, abstract, rest)
  else:
    fisher = {part: program.zeros() for part in stage.parts}
  params = load(run, stage.source, stage.model)
  rows = pipeline.iterator(batches_of(run, stage), start=done)
  with contextlib.ExitStack() as stack:
    stack.callback(checkpoints.close)
    progress = Progress(title, total=total, initial=done)
    stack.callback(progress.close)
    stack.enter_context(preemption.deferred())
    while done < total:
      for part, batch in sharding.put_batch(next(rows), run.mesh).items():
        fisher[part] = program.add(fisher[part], params, batch, 1.0 / total)
      done += 1
      progress.update(1)
      if done % run.checkpoint_every == 0 or done == total:
        checkpoints.save(done, fisher, {"step": jnp.int32(done)})
        preemption.check(checkpoints.finish)
    checkpoints.finish()
  return {"batches": total, "compute": dataclasses.asdict(cost(stage))}


def load_fisher(run: Run, name: str) -> Fisher:
  """Return what a finished stage has averaged."""
  abstract = abstract_fisher(_stage(run, name).model, run.mesh)
  return load_params(run.directories[name] / "checkpoints", abstract)


def load_source(run: Run, name: str) -> Params:
  """Return the model whose gradients a stage has averaged."""
  stage = _stage(run, name)
  return load(run, stage.source, stage.model)


def _stage(run: Run, name: str) -> SaliencyStage:
  stage = next(s for s in run.stages if s.name == name)
  assert isinstance(stage, SaliencyStage), "the plan names a stage of this kind"
  return stage


def cost(stage: SaliencyStage) -> compute.Compute:
  """Return what it costs: a forward and a backward pass a batch, and no update."""
  passes = compute.training(
    stage.model,
    objectives.method("cross_entropy", {}),
    updates=stage.num_batches,
    batch_size=sum(stage.rows.values()),
    length=stage.length,
  )
  return dataclasses.replace(passes, updates=0)
