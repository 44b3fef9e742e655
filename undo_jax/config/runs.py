"""What every run has: its tables, devices, random streams, references, report."""

from ml_collections import config_dict

from undo_jax.config.blocks import Config, optional, table


def run(task: str) -> Config:
  """Return a config with the fields that every run has, and empty tables.

  Args:
    task: of undo_jax/tasks, or MODULE:NAME.
  """
  config = table()
  config.task = task  # Which data and scores.
  config.seeds = (0,)  # Roots of all random streams: a run of each.
  config.streams = streams()  # Each stream's own seed, where one is given.
  config.mesh = mesh()  # How the devices are used.
  config.checkpoint_every = 100  # Updates between checkpoints within a stage.
  # So many while a stage runs: where a disk has damaged the newest, the stage goes on
  # from the one before it. A finished stage has its last alone.
  config.checkpoints_kept = 2
  config.max_loss = 1e6  # Training stops where a loss is beyond, of either sign.
  config.evaluation_rows = 512  # Rows scored in one forward pass; bounds the memory.
  # Members of an attack that train together, to their end; None: all of them.
  config.replicas_at_once = config_dict.placeholder(int)
  # Models that the same attack runs on as one program, so many times the members: for
  # accelerators that the members of one leave idle.
  config.models_at_once = 1
  # Students of one teacher that take each batch together, which it then predicts once,
  # where memory allows.
  config.students_at_once = 4
  # Updates of training that are dispatched together where nothing else is due between
  # them: for small models on accelerators, which would wait for the host.
  config.updates_at_once = 1
  # Where the metrics of a stage go; also mlflow, trackio, wandb, or MODULE:NAME.
  config.writers = ("jsonl", "tensorboard")
  config.selections = table()  # Of rows that mixtures may name; see `selection`.
  config.models = table()
  config.attacks = table()
  config.references = references()
  return config


def references(
  *,
  base: str | None = None,
  filtered: str | None = None,
  unlearned: str | None = None,
) -> Config:
  """Return the models that the others are compared with, each optional.

  Args:
    base: the model before unlearning; it costs nothing.
    filtered: never saw forget data; marks robustness 1.
    unlearned: forgot in its outputs only; marks robustness 0.
  """
  return optional(str, base=base, filtered=filtered, unlearned=unlearned)


def streams() -> Config:
  """Return the overrides of the random streams: None means the run's seed."""
  return config_dict.create(
    init=config_dict.placeholder(int),  # Fresh weights of base and filtering.
    data=config_dict.placeholder(int),  # Generated documents; order in training.
    noise=config_dict.placeholder(int),  # UNDO's noise; the random student.
    distill_data=config_dict.placeholder(int),  # Order of distillation data.
    attack=config_dict.placeholder(int),  # Order of the attacker's data.
    eval=config_dict.placeholder(int),  # Evaluation problems.
  )


def mesh() -> Config:
  """Return the mesh: devices along each axis; one may be -1, all the others."""
  return config_dict.create(
    replica=1,  # Members of the attack's population.
    data=-1,  # Rows of a batch.
    fsdp=1,  # Rows of a batch and parts of parameters.
    tensor=1,  # Heads, MLP units, vocabulary.
  )


FIGURES = (
  *("robustness_compute", "robustness_labels", "relearning_curves", "retain_forget"),
  *("attack_defense", "learning_rates"),
)


def report(
  *,
  budgets: tuple[int, ...],
  worst_over: tuple[str, ...] = (),
  rival: str | None = None,
  filtering: tuple[str, ...] = (),
  smallest_retain: float = 0.9,
  figures: tuple[str, ...] = FIGURES,
) -> Config:
  """Return the settings of the report, which change no other result."""
  report = config_dict.create(
    budgets=budgets,  # Relearning updates; those that are evaluated.
    # Attacks that the worst case is taken over; (): all whose attacker lacks the base.
    worst_over=worst_over,
    # An entry whose members the page holds the others against, at equal compute.
    rival=config_dict.placeholder(str),
    # Entries of data filtering at other lengths, for compute at equal retain.
    filtering=filtering,
    smallest_retain=smallest_retain,  # Share of the base's; below, a model is broken.
    figures=figures,  # Drawn below the tables.
  )
  report.rival = rival
  return report
