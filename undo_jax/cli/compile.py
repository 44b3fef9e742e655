"""Compile every stage of a config for TPUs or GPUs that this machine lacks.

COMMAND (the first needs the extra `tpu-compile`, the second `gpu`):

  undo-jax compile --config=pods:gemma2_2b --topology=v5e:4x4
  undo-jax compile --config=pods:gemma2_2b --topology=h100:2x8

Missing files that the config names are replaced by made-up ones, which the first line
lists: memory and time of a step depend on shapes alone. For each program the command
prints its memory on a chip, FLOPs, collectives and, for TPUs, the compiler's
estimate of its time; see undo_jax/estimation/. The exit status is 1 if one does not
fit a chip's memory.
"""

import os
import pathlib
import sys
import tempfile

from absl import flags
import jax

from undo_jax.cli import overrides
from undo_jax.cli.process import Main
from undo_jax.distributed import sharding
from undo_jax.estimation import programs, stand_ins, table, topologies
from undo_jax.estimation.estimate import estimate
from undo_jax.plan import checks
from undo_jax.plan.config import parse


def define() -> Main:
  """Define the flags; the main prints the table, exit status 1 if one does not fit."""
  config = overrides.define()
  topology = flags.DEFINE_string(
    "topology",
    "v5e:4x4",
    "v5e or v6e, 2x2 to 16x16; v5p, 2x2x1 to 8x8x8; a100 or h100, 8 or 2x8.",
  )
  only = flags.DEFINE_list("stages", [], "Only the programs of these stages.")

  def main(argv: list[str]) -> None:
    del argv
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # There is no TPU to ask,
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # nor CUDA.
    jax.config.update("jax_platforms", "cpu")
    # A program for devices that are not here cannot be read from the cache.
    jax.config.update("jax_enable_compilation_cache", False)
    fits = compile_run(config.value, str(topology.value), list(only.value or ()))
    sys.exit(0 if fits else 1)

  return main


def compile_run(config: object, topology: str, only: list[str]) -> bool:
  """Compile a config's programs for a slice; return whether all fit."""
  with tempfile.TemporaryDirectory() as directory:
    replaced = stand_ins.fill(config, pathlib.Path(directory))
    if replaced:
      print(f"not here, and replaced by made-up ones: {', '.join(replaced)}")
    return _compile(config, topology, only)


def _compile(config, topology, only):
  devices, chip = topologies.get(topology)
  declared = parse(config)
  mesh = sharding.make_mesh(**declared.mesh, devices=devices)
  checks.check(declared, dict(mesh.shape))
  estimates = []
  print(table.heading(chip, dict(mesh.shape)), flush=True)
  for names, program, args in programs.of_run(declared, mesh):
    if not only or set(only) & set(names):
      estimated = estimate(", ".join(names), program, args, chip, len(devices))
      estimates.append(estimated)
      print(table.line(estimated), flush=True)
  print(table.collectives(estimates))
  return all(each.fits for each in estimates)
