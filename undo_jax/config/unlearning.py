"""Models that unlearn, and options of the first methods."""

from collections.abc import Mapping
from typing import Any

from ml_collections import config_dict

from undo_jax.config.blocks import Config
from undo_jax.config.entries import like, look
from undo_jax.config.recipes import recipe


def unlearn(
  objective: str,
  *,
  optimizer: Config,
  batch_size: int,
  options: Mapping[str, object],
  num_microbatches: int = 1,
  start: str = "base",
  forget: str = "unlearn_forget",
  retain: str = "unlearn_retain",
) -> Config:
  """Return unlearning of a model by an objective of forget and retain rows."""
  return recipe(
    phase="unlearn",
    start=start,
    objective=objective,
    options=options,
    frozen={"reference": start},
    mixture={"forget": forget, "retain": retain},
    optimizer=optimizer,
    batch_size=batch_size,
    num_microbatches=num_microbatches,
  )


def weights(
  *, retain: float, forget: float = 1.0, retain_loss: str = "cross_entropy"
) -> Config:
  """Return the options of unlearning by a forget and a retain term."""
  return config_dict.create(
    retain_weight=retain,  # Of the retain term; the paper's a for WMDP ...
    forget_weight=forget,  # ... and 1 - a of the forget term.
    # On retain data: cross_entropy, or kl to the model from before unlearning.
    retain_loss=retain_loss,
  )


def rmu(
  *, layers: tuple[int, ...], coefficient: float, retain: float, forget: float = 1.0
) -> Config:
  """Return the options of RMU."""
  return config_dict.create(
    layers=layers,  # Trained down-projections; the last one's output is steered.
    coefficient=coefficient,  # Length of the steering target.
    retain_weight=retain,  # Of the drift of retain hidden states ...
    forget_weight=forget,  # ... and of the steering error.
  )


def rep_noise(
  max_ent: Config, *, alpha: float = 1.0, beta: float = 0.001, **changes: object
) -> Config:
  """Return MaxEnt with representation noise, with run=False.

  Args:
    max_ent: an entry of MaxEnt.
    alpha: of the ascent on forget data, read off all hidden states.
    beta: of the distance of the MLPs' outputs from noise.
    changes: other fields.
  """
  entry = like(max_ent, objective="max_ent_rep_noise", run=False, **changes)
  # only_differing leaves out tokens that forget and retain rows share.
  entry.options.update({"alpha": alpha, "beta": beta, "only_differing": False})
  return entry


def task_vector(
  *,
  scale: float = 1.0,
  start: str = "base",
  mixture: str = "unlearn_forget",
  **finetuning: Any,
) -> Config:
  """Return a model minus what finetuning on forget data adds, with run=False.

  theta_0 - scale * (theta - theta_0),  theta after the last update (Ilharco et al.,
  Editing Models with Task Arithmetic, arXiv 2212.04089)

  Args:
    scale: minus optimizer.displacement.
    start: the entry that forgets.
    mixture: of config.mixtures, of forget data.
    finetuning: optimizer, batch_size and others, see `recipe`.
  """
  entry = recipe(phase="unlearn", start=start, mixture=mixture, **finetuning)
  entry.optimizer.displacement = -scale
  entry.run = False
  look(entry, "negated task vector", "#9a6324", "X")
  return entry


def weight_distortion(
  *,
  std: float = 0.02,
  start: str = "base",
  mixture: str = "unlearn_retain",
  **finetuning: Any,
) -> Config:
  """Return a model with normal noise on all weights, finetuned on retain data.

  It has run=False (Siddiqui et al., From Dormant to Deleted, arXiv 2505.22310).

  Args:
    std: of the noise.
    start: the entry that forgets.
    mixture: of config.mixtures, without forget data.
    finetuning: optimizer, batch_size and others, see `recipe`.
  """
  entry = recipe(phase="unlearn", start=start, mixture=mixture, **finetuning)
  entry.noise.std = std
  entry.run = False
  look(entry, "weight distortion", "#4b5320", "H")
  return entry
