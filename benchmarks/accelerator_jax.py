"""Our side of `accelerator`: a function a part, and the whole work of a process."""

import dataclasses
import functools
import gc
import os
import re
import subprocess
import sys
import time
from typing import Any

from benchmarks import common
from benchmarks.accelerator_common import (
  SIZES,
  Report,
  Row,
  Setting,
  short,
  speeds,
  timed,
)

UPDATES = 4  # Of the attack, between two scores.
AT_ONCE = 16  # Updates of the small model in one dispatch.
SCORED = 2  # Rows.


def device(size: str, setting: Setting, report: Report) -> None:
  """Tell what the device is."""
  del size, setting
  import jax

  from undo_jax.hardware import chips, matmul

  chip = jax.devices()[0]
  peak = chips.peak([chip])
  if peak is None and chip.platform == "cpu":
    peak = matmul.matmul_flops_per_second()
  memory = chip.memory_stats() or {}
  report(
    {
      "kind": chip.device_kind,
      "platform": chip.platform,
      "devices": len(jax.devices()),
      "peak": peak,
      "bytes": memory.get("bytes_limit"),
      "backend": chip.client.platform_version.splitlines()[0],
    }
  )


def tests(size: str, setting: Setting, report: Report) -> None:
  """Run a subset of the tests on the device, one of it."""
  del size
  environment = {
    # Whatever JAX finds, of CPUs one: the tests' own choice would be eight.
    "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", ""),
    "JAX_NUM_CPU_DEVICES": "1",
    # Float32 products are float32 products, on GPUs and TPUs too.
    "JAX_DEFAULT_MATMUL_PRECISION": "highest",
  }
  done = subprocess.run(
    # Those named after devices need several.
    [
      *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "not devices"),
      *setting.tests,
    ],
    cwd=common.ROOT,
    env=os.environ | environment,
    capture_output=True,
    text=True,
  )
  print(done.stdout, done.stderr)
  said = done.stdout.strip().splitlines()[-1:]
  if done.returncode:
    said += re.findall(r"^FAILED \S*?::(\S+)", done.stdout, re.MULTILINE)
    said += done.stderr.strip().splitlines()[:1]
  report({"what": "tests", "note": "; ".join(said), "status": done.returncode})


def small(size: str, setting: Setting, report: Report) -> None:
  """Time updates of a model for which the host is the slower one."""
  import jax
  import numpy as np

  from undo_jax.training.step import scan_steps

  shape = SIZES[size]
  rows, length = shape.attempts[0][1], shape.length
  for count in (1, AT_ONCE):
    trained = _Trained(shape.model, "forward_kl", rows, length)
    if count > 1:
      stacked = {name: np.stack([x] * count) for name, x in trained.batch.items()}
      trained.use(jax.jit(scan_steps(trained.step), donate_argnums=0), stacked)
    compiling = trained.compile()
    seconds = timed(trained, trained.wait, setting.seconds / 2)
    flops = count * trained.flops
    rates = speeds(seconds, count, "updates", flops, setting.peak)
    report(
      {
        "what": f"small, {count} a dispatch",
        "size": size,
        "side": "undo_jax",
        "batch": f"{rows} x {length}",
        "compile_seconds": compiling,
        **rates,
      }
    )


def train(size: str, setting: Setting, report: Report) -> None:
  """Time pretraining, distillation, the attack and generation of a size."""
  shape = SIZES[size]
  kinds = {"pretraining": "cross_entropy", "distillation": "forward_kl"}
  for what, objective in kinds.items():
    report(_first_that_fits(what, size, shape, objective, setting))
  report(_attack(size, shape, setting))
  report(_generation(size, shape, setting))


def _first_that_fits(what, size, shape, objective, setting) -> Row:
  """Return the row of the first attempt that the memory suffices for."""
  refused = []
  for remat, rows in shape.attempts:
    model = dataclasses.replace(shape.model, remat=remat)
    row = _row(what, size, f"{rows} x {shape.length}")
    row["note"] = "; ".join([f"recomputed: {remat}", *refused])
    try:
      make = functools.partial(_Trained, model, objective, rows, shape.length)
      return row | _timed(make, rows * shape.length, setting)
    except Exception as error:  # noqa: BLE001
      if not is_out_of_memory(error):
        return row | {"note": short(error)}
      refused.append(f"{rows} rows with {remat} did not fit")
    gc.collect()  # What the attempt held.
  return row | {"note": "out of memory: " + "; ".join(refused)}


def _timed(make, tokens, setting) -> Row:
  """Return the fields of a program; nothing of it is left behind."""
  work = make()
  compiling = work.compile()
  seconds = timed(work, work.wait, setting.seconds)
  return {
    "compile_seconds": compiling,
    "memory_bytes": work.memory_bytes,
    **speeds(seconds, tokens, "tokens", work.flops, setting.peak),
  }


def _attack(size, shape, setting) -> Row:
  """Return the row of relearning."""
  members, rows = shape.members, shape.attack_rows
  row = _row("attack", size, f"{members} x {rows} x {shape.length}")
  model = dataclasses.replace(shape.model, remat=shape.attempts[-1][0])
  try:
    make = functools.partial(_Attacked, model, members, rows, shape.length)
    tokens = UPDATES * members * rows * shape.length
    row["note"] = f"{members} learning rates, {UPDATES} updates and a score a dispatch"
    return row | _timed(make, tokens, setting)
  except Exception as error:  # noqa: BLE001
    note = "out of memory" if is_out_of_memory(error) else short(error)
    return row | {"note": note}


def _generation(size, shape, setting) -> Row:
  """Return the row of greedy generation."""
  import jax
  import numpy as np

  from undo_jax.models.decoder import Decoder
  from undo_jax.models.generation import make_generate
  from undo_jax.running import programs

  row = _row("generation", size, f"{shape.prompts} x ({shape.prompt} + {shape.prompt})")
  try:
    model, mesh = shape.model, _mesh()
    params = programs.initialize(model, mesh)(jax.random.key(0))
    params = programs.freeze(model, mesh)(params)
    generate = make_generate(Decoder(model), num_tokens=shape.prompt)
    prompts = common.draw_tokens(model.vocab_size, (shape.prompts, shape.prompt), 0)
    # The whole answer comes to the host, as it does to whoever reads it.
    call = lambda: np.asarray(generate(params, prompts).tokens_BxT)  # noqa: E731
    start = time.perf_counter()
    call()
    compiling = time.perf_counter() - start
    seconds = timed(call, lambda: None, setting.seconds)
    tokens = shape.prompts * shape.prompt
    rates = speeds(seconds, tokens, "tokens", 0.0, None)
    return row | {"compile_seconds": compiling, **rates}
  except Exception as error:  # noqa: BLE001
    return row | {"note": short(error)}


def _row(what: str, size: str, batch: str) -> Row:
  return {"what": what, "size": size, "side": "undo_jax", "batch": batch}


def is_out_of_memory(error: Exception) -> bool:
  """Whether the device had too little memory for what was asked of it."""
  text = str(error)
  return "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower()


def _mesh():
  """Return the mesh of the first device alone."""
  import jax

  from undo_jax.distributed import sharding

  return sharding.make_mesh(devices=jax.devices()[:1])


class _Work:
  """A compiled program that takes a state and gives the next one."""

  _last: tuple[int, ...] = ()  # Arguments after the key.

  def __init__(self):
    import jax

    self.mesh, self._key = _mesh(), jax.random.key(0)

  def compile(self) -> float:
    """Compile it and runs it once; return the seconds of both."""
    import jax

    start = time.perf_counter()
    arguments = (self.state, *self._rest(), self._key, *self._last)
    compiled = self.step.lower(*arguments).compile()
    memory = compiled.memory_analysis()
    self.memory_bytes = None
    if memory is not None:
      self.memory_bytes = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
      )
    del arguments
    self._compiled: Any = compiled
    self()
    self.wait()
    jax.block_until_ready(self.state)
    return time.perf_counter() - start

  def __call__(self) -> None:
    """Start the program once more."""
    arguments = (self.state, *self._rest(), self._key, *self._last)
    self.state, self._answer = self._compiled(*arguments)

  def wait(self) -> None:
    """Return when all that was started is done."""
    import jax

    jax.block_until_ready((self.state, self._answer))


class _Trained(_Work):
  """An update of pretraining or distillation, the program of the library's stages."""

  def __init__(self, model, objective: str, rows: int, length: int):
    import jax

    from undo_jax import objectives
    from undo_jax.frontier import compute
    from undo_jax.running import programs

    super().__init__()
    program = programs.training(model, self.mesh, objective, (), _optimizer(1e-4), 1)
    initialize = programs.initialize(model, self.mesh)
    self._frozen = {}
    if objective == "forward_kl":
      freeze = programs.freeze(model, self.mesh)
      self._frozen["teacher"] = freeze(initialize(jax.random.key(1)))
    self.state = program.create(initialize(jax.random.key(0)))
    tokens = common.draw_tokens(model.vocab_size, (rows, length + 1), 0)
    self.use(program.step, common.batch_of(tokens))
    self.flops = compute.training(
      model,
      objectives.method(objective, {}),
      updates=1,
      batch_size=rows,
      length=length,
    ).flops

  def use(self, step: Any, batch: Any) -> None:
    """Take a step, and the batch or batches of one call."""
    import jax

    self.step, self.batch = step, batch
    self._placed = jax.device_put(batch, jax.devices()[0])

  def _rest(self):
    return self._frozen, self._placed


class _Attacked(_Work):
  """Updates of relearning at some learning rates with a score after them."""

  _last = (0,)  # The group of members, the only one.

  def __init__(self, model, members: int, rows: int, length: int):
    import jax
    import numpy as np

    from undo_jax import objectives
    from undo_jax.frontier import compute
    from undo_jax.running import programs

    super().__init__()
    program = programs.attack(
      model, self.mesh, "language", (), SCORED, _optimizer(1e-5), members
    )
    self.step = program.program
    params = programs.initialize(model, self.mesh)(jax.random.key(0))
    rates = jax.numpy.full(members, 1e-5)
    self.state = program.create(params, rates, jax.random.key(0))
    del params
    draw = lambda *shape: common.batch_of(  # noqa: E731
      common.draw_tokens(model.vocab_size, (*shape, length + 1), 0)
    )
    problems = draw(SCORED) | {"group": np.arange(SCORED, dtype=np.int32)}
    where = jax.devices()[0]
    self._placed = jax.device_put(((), problems, draw(1, UPDATES, rows)), where)
    self.flops = compute.training(
      model,
      objectives.method("cross_entropy", {}),
      updates=UPDATES,
      batch_size=rows * members,
      length=length,
    ).flops

  def _rest(self):
    return self._placed


def _optimizer(learning_rate: float):
  from undo_jax.training.optimizers import OptimizerConfig

  return OptimizerConfig(learning_rate=learning_rate, num_steps=1_000_000)
