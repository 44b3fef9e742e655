"""Entries of the table of attacks: what trains, and what edits weights."""

from collections.abc import Mapping

from ml_collections import config_dict

from undo_jax.config.blocks import Config, block, table
from undo_jax.config.entries import like, noise


def attack(
  *,
  learning_rates: tuple[float, ...],
  num_steps: int,
  evaluate_every: int,
  batch_size: int,
  mixture: str = "attack",
  evaluations_per_call: int = 10,
  warmup_steps: int = 0,
  seeds: tuple[int, ...] = (),
) -> Config:
  """Return the relearning adversary: one member for each learning rate and seed."""
  entry = table()
  entry.run = True  # False: as if the entry were not there.
  entry.adversary = "finetuning"  # Or lora; of undo_jax/attacks, or MODULE:NAME.
  entry.options = table()  # Of the adversary.
  entry.models = ()  # That are attacked; (): all whose is_attacked is True.
  entry.mixture = mixture  # Of config.mixtures.
  entry.is_benign = False  # The mixture holds nothing of what was forgotten.
  # Rows of each split that the attacker has, drawn by the stream; None: all.
  entry.samples = config_dict.placeholder(int)
  # The first updates may be on another mixture: of what is kept, then of the attack's.
  entry.first_mixture = config_dict.placeholder(str)
  entry.first_steps = 0
  entry.learning_rates = learning_rates  # One member each.
  entry.optimizer = "adamw"  # Or another of undo_jax/training/optimizers.py.
  entry.num_steps = num_steps  # Relearning updates.
  # Updates between evaluations, inside the program.
  entry.evaluate_every = evaluate_every
  entry.evaluations_per_call = evaluations_per_call  # Between checkpoints.
  entry.batch_size = batch_size  # Rows an update.
  # Linear from 0. With 1, as in the paper's code, update 1 changes nothing, and 40
  # updates are 39.
  entry.warmup_steps = warmup_steps
  entry.still_steps = 0  # Before that at rate 0: the optimizer's moments alone move.
  entry.schedule = "constant"  # After that; or cosine, to 0 at the last update.
  entry.weight_decay = 0.0  # Decoupled.
  entry.clip_norm = config_dict.placeholder(float)  # Global gradient norm; None: none.
  entry.clip_norm = 1.0
  entry.trainable = ()  # What is trained, as in `optimizer`.
  entry.noise = noise()  # The model is first noised; alpha 0: attacked as it is.
  entry.stream = "attack"  # Random stream of the order of the data ...
  entry.seeds = seeds  # ... and seeds within it, a population each; (): one.
  entry.label = config_dict.placeholder(str)  # On the page; None: the adversary's.
  # The items it is scored on: test, or for a search's own attack validation.
  entry.scores = "test"
  return entry


# Path regexes of every matrix but the embedding.
ALL_KERNELS = (r"layers/(attention/(query|key|value|out)|mlp/(gate|up|down))/kernel",)


# The paper's grid of the relearning adversary.
PAPER_RATES = (1e-3, 7e-4, 4e-4, 1e-4, 7e-5, 5e-5, 1e-5, 7e-6, 4e-6, 1e-6)


def lora(
  entry: Config,
  *,
  rank: int,
  alpha: float = 16.0,
  targets: tuple[str, ...] = ALL_KERNELS,
  **changes: object,
) -> Config:
  """Return an attack as another entry's that trains low-rank adapters."""
  follower = like(entry, adversary="lora", **changes)
  follower.options = config_dict.create(
    rank=rank,  # r of the adapters.
    alpha=alpha,  # The adapters' product is scaled by alpha / rank.
    targets=targets,  # Path regexes of the adapted kernels.
  )
  return follower


def edit(
  name: str,
  *,
  strengths: tuple[float, ...],
  options: Mapping[str, object] | None = None,
  seeds: tuple[int, ...] = (),
  mixture: Mapping[str, str] | None = None,
  rows: int | None = None,
  run: bool = True,
) -> Config:
  """Return an attack that edits the weights without training, a member per strength.

  Args:
    name: of undo_jax/attacks, or MODULE:NAME.
    strengths: as the edit's file explains them.
    options: of the edit.
    seeds: of its random draws, if there are any; (): one seed.
    mixture: the mixture of each part of a batch that it reads; None: it reads no rows.
    rows: of each part.
    run: whether the entry is run; False: as if it were not there.
  """
  entry = table()
  entry.run = run
  entry.edit = name
  entry.options = table()
  entry.options.update(dict(options or {}))
  entry.models = ()  # That are attacked; (): all whose is_attacked is True.
  entry.strengths = strengths  # One member each.
  entry.stream = "attack"  # Random stream of what it draws ...
  entry.seeds = seeds  # ... and seeds within it; (): one.
  entry.label = config_dict.placeholder(str)  # On the page; None: the edit's.
  if mixture is not None:
    entry.mixture = block(**mixture)  # By part, of config.mixtures.
    entry.rows = rows  # Of each part, that the attacker has.
  return entry
