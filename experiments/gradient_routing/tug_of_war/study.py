"""What the study computes: a part is a seed of the two tasks."""

from collections.abc import Iterator, Mapping, Sequence
import functools

from ml_collections import ConfigDict
import numpy as np

from experiments.gradient_routing import typed
from experiments.gradient_routing.running import Outcome, Study, seed_parts
from experiments.gradient_routing.tug_of_war import figures, two_tasks
from experiments.gradient_routing.tug_of_war import results as results_lib
from experiments.gradient_routing.tug_of_war.config import Config
from experiments.gradient_routing.tug_of_war.results import Errors, Part


def make(config: ConfigDict) -> Study[Part]:
  """Return the study of a config, or raise ConfigError."""
  checked = typed.read(Config, config)
  return Study(
    parts=list(seed_parts(checked.seeds)),
    compute=functools.partial(compute, checked),
    finish=functools.partial(finish, checked),
  )


def finish(config: Config, parts: Mapping[str, Part]) -> Outcome:
  """Return the results of all parts."""
  results = results_lib.assemble(config, parts)
  return Outcome(results, figures.draw(results), results_lib.table(results))


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
