"""The attack of the tiny arithmetic config, for the benchmarks that time it."""

from typing import Any

from benchmarks.sizes import TINY
from undo_jax.models.config import ModelConfig

PACKAGES = "jax jaxlib flax optax numpy".split()
RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
BATCH_SIZE, LENGTH = 32, 16
EVALUATE_EVERY = 10  # Updates.
NUM_EVALUATION, EVALUATION_ROWS = 100, 512  # Problems of a kind; in one pass.
TOKENIZER = "characters:arithmetic"


class Setting:
  """The model, the data and the attack, ready on the device."""

  def __init__(self, num_steps: int, model: ModelConfig = TINY):
    import jax

    from undo_jax.distributed import sharding
    from undo_jax.running import programs

    self.model = model
    self.mesh = sharding.make_mesh()
    self.params = programs.initialize(self.model, self.mesh)(jax.random.key(0))
    self.key = jax.random.key(1)
    self.num_steps = num_steps
    self.tasks, self.problems = _problems()
    self.batches = _batches(num_steps)

  def optimizer(self, learning_rate: float) -> Any:
    """Return the attack's optimizer settings with a learning rate."""
    from undo_jax.training.optimizers import OptimizerConfig

    return OptimizerConfig(learning_rate=learning_rate, num_steps=self.num_steps)


def _problems():
  """Return the tasks and the encoded evaluation problems."""
  import jax

  from undo_jax.data import arithmetic, tokenizers
  from undo_jax.evaluation import arithmetic as evaluation

  problems = arithmetic.evaluation_problems(
    0,
    num_per_task=NUM_EVALUATION,
    kinds=("equation",),
    division=arithmetic.Division(attacked=0.0, validation=0.0),
    part="test",
  )
  tasks = evaluation.by_task(problems)
  encoded = evaluation.encode(tasks, tokenizers.make(TOKENIZER))
  return tuple(tasks), jax.device_put(encoded)


def _batches(num_steps):
  """Return forget batches with the leading axes [evaluations, updates]."""
  import jax
  import numpy as np

  from undo_jax.data import arithmetic, packing, tokenizers

  tokenizer = tokenizers.make(TOKENIZER)
  problems = arithmetic.problems(
    0,
    operations=arithmetic.FORGET,
    num_equations=num_steps * BATCH_SIZE,
    num_word_problems=0,
    split="train",
  )
  documents = (tokenizer.encode(problem.text) for problem in problems)
  rows = packing.rows(documents, LENGTH, mode="one_per_row", tokenizer=tokenizer)
  tokens, masks = (np.stack(arrays) for arrays in zip(*rows, strict=True))
  batch = packing.to_batch({"tokens": tokens, "mask": masks})
  leading = (num_steps // EVALUATE_EVERY, EVALUATE_EVERY, BATCH_SIZE)
  return jax.tree.map(lambda x: x.reshape(*leading, *x.shape[1:]), batch)
