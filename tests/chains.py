"""A base trained alone, and unlearned from its directory in another run."""

from tests import minimal
from undo_jax import testing
from undo_jax.plan.config import parse
from undo_jax.running import programs
from undo_jax.running.runs import run_single


def make(root):
  """Return the root of both runs, the base's directory, the second run's outcomes."""
  run_single("pretrain", minimal.config(), root / "base", models=["base"])
  base = directory(root / "base", "base")
  outcomes = run_single(
    "unlearn", minimal.config(), root / "unlearned", checkpoint=base, models=["max_ent"]
  )
  return root, base, outcomes


def model_of(**changes):
  return parse(minimal.config(**changes)).model


def directory(workdir, name):
  """Return the directory of a stage."""
  (path,) = (workdir / "stages").glob(f"{name}-*")
  return path


def stages_abstract(source):
  """Return the shapes of a source's parameters, on one device."""
  return programs.abstract_params(source.model, testing.mesh(1))
