"""What a search has to do at most: trials, FLOPs and time."""

from collections.abc import Mapping, Sequence
import math

from undo_jax import config as builders
from undo_jax.estimation import workload
from undo_jax.plan.stages import DataStage, Stage, identities
from undo_jax.running.search_space import Space, spaces
from undo_jax.utils import files, tables

HEADER = ("search", "trials", "FLOPs a trial", "FLOPs in all", "minutes in all")


def print_plan(workdir: files.Path, config: builders.Config) -> None:
  """Print for each searched model what its trials cost at most, and all together.

  This is with all fields at their high ends, no stop rule applied, and every model
  within its bounds. Stages that the workdir has already are not subtracted.

  Args:
    workdir: of the search; is only read, and may be missing.
    config: that declares it.
  """
  searched = spaces(config)
  first = searched[0].declare(searched[0].corners()[0])
  plans = searched[0].plans(first).values()
  rate = workload.flops_per_second(workdir, plans, first.mesh)
  rows, shared = [], dict[str, float]()
  for space in searched:
    trial, others = costs(space)
    shared |= others
    rows.append((space.name, space.search.trials, trial, space.search.trials * trial))
  common = math.fsum(shared.values())
  rows.append(("what trials share", "", common, common))
  rows.append(("all", "", "", math.fsum(row[3] for row in rows)))
  print(tables.text(HEADER, [_row(*row, rate=rate) for row in rows]))
  print(
    f"at most, at {rate / 1e9:.3g} GFLOP/s; the compilation of programs comes on top"
  )


def costs(space: Space) -> tuple[float, dict[str, float]]:
  """Return the FLOPs of a trial at most, and of each stage that all trials share."""
  low, high = (space.plans(space.declare(v)) for v in space.corners()[:2])
  known = {name for plan in low.values() for name in _directories(plan)}
  trial, shared = 0.0, {}
  for plan in high.values():
    evaluated = workload.scored_shapes(plan[0])
    for directory, stage in _directories(plan).items():
      flops = workload.flops_of(stage, evaluated)
      if directory in known:
        shared[directory] = flops
      else:
        trial += flops
  return trial, shared


def _directories(plan: Sequence[Stage]) -> Mapping[str, Stage]:
  known = identities(plan)
  return {
    f"{stage.name}-{known[stage.name]}": stage
    for stage in plan
    if not isinstance(stage, DataStage)
  }


def _row(
  name: str, trials: int | str, trial: float | str, whole: float, *, rate: float
) -> tuple[str, ...]:
  each = trial if isinstance(trial, str) else f"{trial:.2e}"
  return (name, str(trials), each, f"{whole:.2e}", f"{whole / rate / 60:.1f}")
