"""A search for hyper-parameters."""

from collections.abc import Mapping

from ml_collections import config_dict

from undo_jax.config.blocks import Config, block, table


def search(
  *,
  models: Mapping[str, tuple[Config, ...]],
  attack: str,
  seeds: tuple[int, ...] = (1000,),
  trials: int = 12,
  startup: int = 4,
  objective: str = "worst_forget",
  smallest_retain: float = 0.95,
  largest_compute: float | None = 1.0,
  largest_divergence: float | None = None,
  divergence_mixture: str = "unlearn_retain",
) -> Config:
  """Return the settings of `undo-jax search`, which runs before the tables.

  Args:
    models: entries of models with the ranges of their fields: `uniform`,
      `log_uniform`, `integers`, `choices`. A field's name in the search is the last
      part of its path.
    attack: the entry of attacks that is used for trials; it has run=False, validation
      items and seeds of its own.
    seeds: roots of the search's random streams, none of config.seeds.
    trials: of every model.
    startup: number of trials drawn at random before the sampler learns.
    objective: worst_forget or compute_and_worst_forget.
    smallest_retain: share of the base's.
    largest_compute: share of data filtering's; None: any.
    largest_divergence: mean KL(base || model) in nats per token; None: any.
    divergence_mixture: the mixture whose rows it is computed on.
  """
  made = table()
  made.models = table()
  for name, ranges in models.items():
    made.models[name] = table()
    for each in ranges:
      made.models[name][each.path.rpartition(".")[2]] = each
  made.trials = trials  # Of every model; the first has the config's own values.
  made.startup = startup  # Drawn at random before the sampler learns from others.
  made.seeds = seeds  # Roots of the search's streams, which no table may have.
  made.attack = attack  # An entry of attacks whose `run` is False.
  made.objective = objective  # Or compute_and_worst_forget: both are made small.
  made.smallest_retain = smallest_retain  # Share of the base's, on validation.
  made.largest_compute = config_dict.placeholder(float)  # Of filtering's; None: any.
  made.largest_compute = largest_compute
  made.largest_divergence = config_dict.placeholder(float)  # Nats; None: any.
  made.largest_divergence = largest_divergence  # Mean KL(base || model) ...
  made.divergence_mixture = divergence_mixture  # ... on rows without forget data.
  return made


def uniform(path: str, low: float, high: float) -> Config:
  """Return a field's range with uniform probability: "noise.alpha", 0.2, 0.8."""
  return block(path=path, kind="uniform", low=low, high=high)


def log_uniform(
  path: str, low: float, high: float, *, tied: tuple[str, ...] = ()
) -> Config:
  """Return the range of a field whose logarithm is uniform.

  Args:
    path: of the field.
    low: the smallest value, above 0.
    high: the largest.
    tied: other fields that keep their ratio to it.
  """
  return block(path=path, kind="log_uniform", low=low, high=high, tied=tied)


def integers(path: str, low: int, high: int) -> Config:
  """Return the range of a field of whole numbers, both ends included."""
  return block(path=path, kind="integers", low=low, high=high)


def choices(path: str, *values: object) -> Config:
  """Return the values that a field is chosen from."""
  return block(path=path, kind="choices", choices=values)
