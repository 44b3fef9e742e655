"""One record of each kind, as someone's own file would hold them."""

import dataclasses
import json

import optax

from undo_jax.attacks import finetuning
from undo_jax.attacks.attack import Attack, Members
from undo_jax.frontier.figures.figure import Figure
from undo_jax.models.decoder import partition_rules
from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.objectives.method import Method
from undo_jax.tasks import arithmetic
from undo_jax.training.optimizers import UpdateRule
from undo_jax.training.stop_rules import StopRule
from undo_jax.training.writers import WriterKind
from undo_jax.utils.types import SumCount


def make(apply, *, weight: float = 1.0):
  """Return L = -weight * CE(forget)."""

  def objective(params, frozen, batch, key):
    del frozen, key
    forget = batch["forget"]
    logits = apply(params, forget["inputs"]).logits
    lost = cross_entropy(logits, forget["targets"], forget["mask"])
    return SumCount(-weight * lost.sum, lost.count), {"forget_cross_entropy": lost}

  return objective


METHOD = Method(
  make=make, trains=("forget", "retain"), is_unlearning=True, label="ascent"
)


def members(model, options, objective) -> Members:
  """Return members that train a copy of the embedding."""
  del options
  rules = [(path, axes) for path, axes in partition_rules(model) if "embedding" in path]

  def put(trained, frozen):
    return frozen["base"] | trained

  def of_embedding(trained, frozen, batch, key):
    return objective(put(trained, frozen), {}, batch, key)

  return Members(
    start=lambda params, key: {"embedding": params["embedding"]},
    objective=of_embedding,
    weights=put,
    rules=lambda trained: rules,
    reads_base=True,
  )


ATTACK = Attack(
  members=members,
  check=finetuning.check,
  describe=lambda options: "the embedding",
  label="embedding alone",
)
OPTIMIZER = UpdateRule(make=lambda rate, decay: optax.sgd(rate))
# Ends at the first evaluation.
RULE = StopRule(
  make=lambda options, teacher, falling: lambda scores: True,
  check=lambda options: None,
  reads_teacher=False,
)
TASK = dataclasses.replace(
  arithmetic.TASK,
  metrics={
    name: {**metric, "name": f"{name} of my own"}
    for name, metric in arithmetic.TASK.metrics.items()
  },
)


class Lines:
  """Writes a line a row."""

  def __init__(self, mirror, resume_step):
    """Open the file."""
    del resume_step
    self._file = open(mirror.local / "lines.txt", "a", encoding="utf-8")

  def write(self, step, kind, **values):
    """Write the row."""
    self._file.write(json.dumps([step, kind, sorted(values)]) + "\n")

  def close(self):
    """Close the file."""
    self._file.close()


WRITER = WriterKind(open=Lines)


def draw(results, width):
  """Draw nothing but the number of models."""
  text = {"type": "text", "text": str(len(results.models))}
  return {"data": {"values": [{}]}, "mark": text, "width": width // 2}


FIGURE = Figure(draw=draw, title="My own figure", caption="How many models.")
