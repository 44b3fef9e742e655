"""How far a model's predictions have moved from another's, on rows of a mixture."""

from collections.abc import Callable, Mapping
import functools
import itertools
from typing import Any

import jax
from jax.sharding import Mesh

from undo_jax.data import pipeline
from undo_jax.distributed import placement, sharding
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder
from undo_jax.objectives import chunked
from undo_jax.objectives.distillation import forward_kl
from undo_jax.plan.stages import TrainStage
from undo_jax.running import programs
from undo_jax.running.data import mixture_of
from undo_jax.running.run import Run, load
from undo_jax.utils.types import Batch, Params, SumCount

ROWS = 256  # At least so many are read.


def between(run: Run, name: str, base: str, weights: Mapping[str, float]) -> float:
  """Compute the mean KL(base || model) in nats over the masked tokens of rows.

  Args:
    run: in which both models are made.
    name: the model's stage.
    base: that of the model it is compared with.
    weights: of splits, whose rows are drawn in these proportions.

  Returns:
    The mean over about ROWS rows; NaN or infinite where predictions are.
  """
  stage = next(s for s in run.stages if s.name == name)
  assert isinstance(stage, TrainStage), "only such models are searched"
  model = stage.model
  summed = _summed(model, run.mesh)
  params, reference = (load(run, each, model) for each in (name, base))
  _, shards = sharding.batch_shards(run.mesh)
  size = -(-run.evaluation_rows // shards) * shards
  batches = pipeline.iterator(mixture_of(run, weights, batch_size=size, seed=0))
  total = count = 0.0
  for batch in itertools.islice(batches, -(-ROWS // size)):
    part = summed(params, reference, sharding.put_batch(batch, run.mesh))
    total, count = total + float(part.sum), count + float(part.count)
  return total / count


@functools.cache
def _summed(
  model: ModelConfig, mesh: Mesh
) -> Callable[[Params, Params, Batch], SumCount]:
  """Return `(params, base, batch) -> SumCount` of the divergence, compiled."""
  apply = chunked.deferring(Decoder(model))
  where = programs.shardings_of(programs.abstract_params(model, mesh))

  def summed(params, base, batch):
    def logits(tree) -> Any:
      return apply(tree, batch["inputs"]).logits

    return forward_kl(logits(params), logits(base), batch["mask"])

  return jax.jit(
    placement.on(mesh, summed),
    in_shardings=(where, where, sharding.batch_sharding(mesh)),
    out_shardings=sharding.replicated(mesh),
  )
