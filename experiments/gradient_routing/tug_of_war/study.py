"""What the study computes: a part is a seed of the two tasks."""

from collections.abc import Iterator, Sequence

import numpy as np

from experiments.gradient_routing.tug_of_war import figures, two_tasks
from experiments.gradient_routing.tug_of_war import results as results_lib
from experiments.gradient_routing.tug_of_war.config import Config
from experiments.gradient_routing.tug_of_war.results import Errors, Part
from experiments.shared import studies
from experiments.shared.running import seed_parts


def compute(config: Config, names: Sequence[str]) -> Iterator[tuple[str, Part]]:
  """Yield (part, its errors by way) of the missing parts."""
  seed_of, ways = seed_parts(config.seeds), config.two_tasks.ways
  errors = two_tasks.train(
    config.two_tasks, [seed_of[name] for name in names], list(ways.values())
  )
  for name, errors_Wx2x2 in zip(names, np.asarray(errors).tolist(), strict=True):
    yield name, {way: _named(x) for way, x in zip(ways, errors_Wx2x2, strict=True)}


def _named(errors_2x2: list[list[float]]) -> Errors:
  before, after = (dict(zip(two_tasks.TASKS, row, strict=True)) for row in errors_2x2)
  return {"before": before, "after": after}


make = studies.maker(
  Config, studies.seed_names, compute, results_lib, figures, assembles_config=True
)
