"""The engines that there are; apart, since workers need not import them."""

from undo_jax.engines import ray_tasks, slurm_jobs
from undo_jax.engines.engine import EngineKind
from undo_jax.utils.registry import Registry

LOCAL = "local"  # No engine: in this process, one stage after the other.
REGISTRY: Registry[EngineKind] = Registry(
  "engine", EngineKind, {"ray": ray_tasks.ENGINE, "slurm": slurm_jobs.ENGINE}
)
