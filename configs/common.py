"""What every config file shares: typed arguments, placeholders."""

from ml_collections import config_dict


def parse_size(arg: str | None, sizes: tuple[str, ...]) -> str:
  """Returns the size that follows the colon in --config=FILE:SIZE.

  Raises:
    ValueError: if it is not one of `sizes`; no argument means the first.
  """
  size = arg or sizes[0]
  if size not in sizes:
    raise ValueError(
      f"unknown size {size!r} after the colon of --config; known are "
      + ", ".join(sizes)
    )
  return size


def streams() -> config_dict.ConfigDict:
  """Returns the overrides of the random streams: None means the run's seed."""
  return config_dict.create(
    init=config_dict.placeholder(int),  # Fresh weights of base and filtering.
    data=config_dict.placeholder(int),  # Generated documents; order in training.
    noise=config_dict.placeholder(int),  # UNDO's noise; the random student.
    distill_data=config_dict.placeholder(int),  # Order of distillation data.
    attack=config_dict.placeholder(int),  # Order of the attacker's data.
    eval=config_dict.placeholder(int),  # Evaluation problems.
  )


def mixtures(**weights: dict[str, float]) -> config_dict.ConfigDict:
  """Returns what each use of the data draws its rows from: weights by split.

  Every use names every split, so that each weight can be overridden: 0 leaves out.

  Args:
    weights: for each of pretrain, data_filtering, unlearn_forget, unlearn_retain,
      distill and attack the splits with a weight; they need not sum to 1.
  """
  splits = list(dict.fromkeys(split for part in weights.values() for split in part))
  return config_dict.ConfigDict(
    {
      use: {split: float(part.get(split, 0.0)) for split in splits}
      for use, part in weights.items()
    }
  )


def report(*, budgets: tuple[int, ...]) -> config_dict.ConfigDict:
  """Returns what the report compares, which changes no other result."""
  return config_dict.create(
    budgets=budgets,  # Relearning updates; those that are evaluated.
  )


def mesh() -> config_dict.ConfigDict:
  """Returns the mesh: devices along each axis; one may be -1, all the others."""
  return config_dict.create(
    replica=1,  # Members of the attack's population.
    data=-1,  # Rows of a batch.
    fsdp=1,  # Rows of a batch and parts of parameters.
    tensor=1,  # Heads, MLP units, vocabulary.
  )
