"""A teacher's predictions kept in files: what is lost by k tokens, and what is saved.

COMMAND, about a minute on 2 idle CPU cores:

  python -m benchmarks.teacher_predictions

The teacher is the base of configs/arithmetic.py:tiny after 200 updates, on
few rows. For each k, of V tokens:

  error     KL(p || q) in nats a token, of the teacher's p and the q that takes the k
            likeliest tokens from p and shares the rest evenly: mean over all scored
            positions, and largest.
  teach     KL(p || s) of k + 1 classes as a share of that of all tokens, s a student
            that is the noised teacher: what is left of the loss that trains it.
  bytes     of a token in the files.
  keep      microseconds a token of the stage that keeps it: the teacher's pass,
            chunk by chunk, and the files.
  read      microseconds a token of a batch's predictions from the files.

Then a distillation's update, batch by batch with its input, in the three ways by turns.
"""

import dataclasses
import pathlib
import statistics
import tempfile
import time
from typing import Any

from absl import app, logging

from benchmarks import common
from undo_jax.utils import tables

TOKENS = (1, 2, 4, 8, 16, 32)  # k; the last is V.
UPDATES, ROUNDS = 5, 5  # Timed, of each way.
STUDENT, TEACHER = "undo_alpha_0.5", "base"
FIELDS = {
  "data.num_equations": 1000,
  "models.base.optimizer.num_steps": 200,
  "models.undo.frozen.teacher": TEACHER,
  "models.undo.sweep.noise.alpha": (0.5,),
}


def declare(workdir: pathlib.Path, k: int | None) -> Any:
  """Return a run of a student and what it needs; k None: the teacher in its step."""
  from undo_jax import config as builders
  from undo_jax import running
  from undo_jax.distributed import sharding
  from undo_jax.plan import lineages, translation
  from undo_jax.plan.config import parse
  from undo_jax.utils import files

  config = builders.shipped("arithmetic:tiny")
  config.update_from_flattened_dict(FIELDS)
  config.models.undo.teacher_predictions.keep = k is not None
  config.models.undo.options.teacher_top_k = k or 0
  declared = parse(config)
  plan = translation.plan(declared, 0)
  return running.Run(
    files.path(workdir),
    sharding.make_mesh(),
    checkpoint_every=declared.checkpoint_every,
    evaluation_rows=declared.evaluation_rows,
    replicas_at_once=None,
    stages=tuple(lineages.needed(plan, [STUDENT])),
    writers=(),
  )


def make(run: Any) -> None:
  """Make the data and the teacher."""
  from undo_jax import running

  running.run_stages(dataclasses.replace(run, stages=run.stages[:2]))


def keep(run: Any) -> float:
  """Keep the teacher's predictions; return the stage's seconds without compiling."""
  from undo_jax import running
  from undo_jax.running import predictions

  stage = run.stages[2]
  with tempfile.TemporaryDirectory() as warm:
    predictions.run_predictions(run, stage, pathlib.Path(warm), "warm-up")
  start = time.perf_counter()
  running.run_stages(dataclasses.replace(run, stages=run.stages[:3]))
  return time.perf_counter() - start


def batches(run: Any) -> Any:
  """Return an endless iterator over the student's batches, on the host."""
  from undo_jax.data import pipeline
  from undo_jax.running.data import batches_of

  return pipeline.iterator(batches_of(run, run.stages[-1]))


def errors(run: Any) -> dict[int, tuple[float, float, float]]:
  """Return for each k the mean and largest error, and the share of the loss."""
  import jax
  import numpy as np

  from undo_jax import objectives
  from undo_jax.models.decoder import Decoder
  from undo_jax.running import noise_programs
  from undo_jax.running.run import load

  stage, model = run.stages[-1], run.stages[-1].model
  params, batch = load(run, TEACHER, model), next(batches(run))
  noised = noise_programs.noise(model, run.mesh)(params, jax.random.key(0), 0.5, 0.1)
  logits = jax.jit(Decoder(model).apply)(params, batch["inputs"]).logits
  p = np.exp(np.float64(jax.nn.log_softmax(logits)))
  scored = batch["mask"] > 0
  ordered = -np.sort(-p[scored], axis=-1)

  def lost(k):
    tail = ordered[:, k:]
    even = tail.mean(-1, keepdims=True) if tail.size else tail
    return np.sum(tail * np.log(np.maximum(tail, 1e-300) / even), axis=-1)

  def loss(k):
    made = objectives.make(
      stage.objective, Decoder(model).apply, **stage.options | {"teacher_top_k": k}
    )
    return float(jax.jit(made)(noised, {"teacher": params}, batch, None)[0].mean())

  whole = loss(0)
  return {
    k: (float(lost(k).mean()), float(lost(k).max()), loss(k) / whole) for k in TOKENS
  }


def read_seconds(run: Any, k: int) -> float:
  """Return the seconds of reading the predictions of a batch's rows, in any order."""
  import numpy as np

  from undo_jax.data import predictions

  stage = run.stages[2]
  layout = predictions.layout(stage.model.vocab_size, top_k=k, dtype="float32")
  folder, rows = (
    run.directories[stage.name] / "predictions",
    FIELDS["data.num_equations"],
  )
  arrays = predictions.load(folder, "retain", layout, rows=rows, length=stage.length)
  size, rng = run.stages[-1].batch_size, np.random.default_rng(0)
  seconds = []
  for _ in range(20):
    chosen = rng.integers(rows, size=size)
    start = time.perf_counter()
    for array in arrays.values():
      np.stack([array[row] for row in chosen])
    seconds.append(time.perf_counter() - start)
  return statistics.median(seconds)


def updater(run: Any) -> Any:
  """Return a function that trains the student by UPDATES; seconds of each."""
  import jax

  from undo_jax.distributed import sharding
  from undo_jax.running import programs
  from undo_jax.running.run import load

  stage, rows = run.stages[-1], batches(run)
  program = programs.training_of(stage, run.mesh)
  params = load(run, TEACHER, stage.model)
  freeze = programs.freeze(stage.model, run.mesh)
  frozen = {role: freeze(params) for role in stage.frozen}
  held = [program.create(params)]

  def train() -> float:
    start = time.perf_counter()
    for _ in range(UPDATES):
      batch = sharding.put_batch(next(rows), run.mesh)
      held[0], _ = program.step(held[0], frozen, batch, jax.random.key(0))
    jax.block_until_ready(held[0])
    return (time.perf_counter() - start) / UPDATES

  train()  # Compiles.
  return train


def measure(workdir: pathlib.Path) -> None:
  """Print both tables."""
  runs = {k: declare(workdir, k) for k in (None, *TOKENS)}
  make(runs[None])
  lost, stage = errors(runs[None]), runs[None].stages[-1]
  tokens = 2 * FIELDS["data.num_equations"] * stage.length
  rows = []
  for k in TOKENS:
    kept = keep(runs[k])
    seconds = read_seconds(runs[k], k) / (stage.batch_size * stage.length)
    each = runs[k].done(runs[k].stages[2].name)["bytes"] / tokens
    mean, most, share = lost[k]
    numbers = (f"{mean:.2g}", f"{most:.2g}", f"{share:.3f}", f"{each:.0f}")
    rows.append((k, *numbers, f"{1e6 * kept / tokens:.2f}", f"{1e6 * seconds:.2f}"))
  header = ("k", "error", "largest", "teach", "bytes", "keep, us", "read, us")
  print(tables.markdown(header, rows))
  ways = {"teacher in the step": None, "kept, all tokens": TOKENS[-1], "kept, k = 8": 8}
  updaters = {way: updater(runs[k]) for way, k in ways.items()}
  times: dict[str, list[float]] = {way: [] for way in ways}
  for _ in range(ROUNDS):
    for way, train in updaters.items():
      times[way].append(1e3 * train())
  shown = [
    (way, f"{statistics.median(t):.1f}", f"{min(t):.1f} to {max(t):.1f}")
    for way, t in times.items()
  ]
  print(tables.markdown(("update", "ms, median", "range"), shown))


def main(argv: list[str]) -> None:
  """Measure in a directory that is gone afterwards."""
  del argv
  logging.set_verbosity(logging.ERROR)
  common.use_cpu()
  common.as_launched()
  with common.Stopwatch() as watch, tempfile.TemporaryDirectory() as directory:
    measure(pathlib.Path(directory))
  print(f"{watch.seconds:.0f} s; others used {watch.others:.1f} cores meanwhile")


if __name__ == "__main__":
  app.run(main)
