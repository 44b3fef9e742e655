"""Engines: where the stages of a run run, if not in this process.

An engine is one file that ends in its record, and a line here; someone else's is named
as MODULE:NAME. What a worker is given are strings: the arguments of a command of ours.
"""

from undo_jax.engines import ray_tasks, slurm_jobs
from undo_jax.engines.engine import EngineKind
from undo_jax.utils.registry import Registry

LOCAL = "local"  # No engine: in this process, one stage after the other.
REGISTRY: Registry[EngineKind] = Registry(
  "engine", EngineKind, {"ray": ray_tasks.ENGINE, "slurm": slurm_jobs.ENGINE}
)
