"""Builders of config files: what every config has, and the entries of its tables.

A config declares a run by two tables. `config.models` says how each model is made,
`config.attacks` how the models are attacked. The functions of this package return
entries of these tables; undo_jax/plan/config.py describes their fields:

  from undo_jax import config as c

  def get_config(arg=None):
    config = c.run("arithmetic")
    ...
    config.models.base = c.pretrain(
      mixture="pretrain", optimizer=c.cosine(num_steps=800, learning_rate=2e-3),
      batch_size=128)
    config.models.max_ent = c.unlearn(
      "max_ent", start="base", options=c.weights(retain=1.0),
      optimizer=c.optimizer(num_steps=60, learning_rate=3e-4), batch_size=128)
    config.models.undo = c.undo(
      teacher="max_ent", alphas=(0.3, 0.5, 0.7), mixture="distill", ...)
    config.attacks.relearn = c.attack(learning_rates=(1e-4, 1e-3), ...)

Every field can be overridden: --config.models.undo.sweep.noise.alpha="(0.2,0.8)".
Config files import nothing else of the project.
"""

from undo_jax.config.attack_suites import (
  beside,
  edits,
  frozen_weights,
  further_attacks,
  reading,
  relearning,
)
from undo_jax.config.attacks import ALL_KERNELS, PAPER_RATES, attack, edit, lora
from undo_jax.config.blocks import Config, block, maybe, optional, table
from undo_jax.config.data import (
  documents,
  fact_splits,
  labelled,
  mixtures,
  selected,
  selection,
  standard_library,
)
from undo_jax.config.entries import like, look, noise
from undo_jax.config.files import parse_size, shipped
from undo_jax.config.methods import METHOD_RATES, unlearning_methods
from undo_jax.config.models import plain_decoder, preset, small_model
from undo_jax.config.optimizers import cosine, optimizer, warmup_stable_decay
from undo_jax.config.pretraining import data_filtering, finetune, given, pretrain
from undo_jax.config.recipes import recipe, recovered, saliency, teacher_predictions
from undo_jax.config.routing import coherence, routed
from undo_jax.config.runs import FIGURES, mesh, references, report, run, streams
from undo_jax.config.searches import choices, integers, log_uniform, search, uniform
from undo_jax.config.students import (
  distill,
  distillation,
  noised_finetune,
  oracle_matching,
  prompted,
  pruned,
  shaped,
  undo,
  unlearn_and_distill,
)
from undo_jax.config.unlearning import (
  rep_noise,
  rmu,
  task_vector,
  unlearn,
  weight_distortion,
  weights,
)
from undo_jax.config.variants import (
  around,
  averaged,
  layered,
  masked,
  sharpness_aware,
  smoothed,
)

__all__ = (
  "ALL_KERNELS",
  "Config",
  "Config",
  "FIGURES",
  "METHOD_RATES",
  "PAPER_RATES",
  "around",
  "attack",
  "averaged",
  "beside",
  "block",
  "choices",
  "coherence",
  "cosine",
  "data_filtering",
  "distill",
  "distillation",
  "documents",
  "edit",
  "edits",
  "fact_splits",
  "finetune",
  "frozen_weights",
  "further_attacks",
  "given",
  "integers",
  "labelled",
  "layered",
  "like",
  "log_uniform",
  "look",
  "lora",
  "masked",
  "maybe",
  "mesh",
  "mixtures",
  "noise",
  "noised_finetune",
  "optimizer",
  "optional",
  "oracle_matching",
  "parse_size",
  "plain_decoder",
  "preset",
  "pretrain",
  "prompted",
  "pruned",
  "reading",
  "recipe",
  "recovered",
  "references",
  "relearning",
  "rep_noise",
  "report",
  "rmu",
  "routed",
  "run",
  "saliency",
  "search",
  "selected",
  "selection",
  "shaped",
  "sharpness_aware",
  "shipped",
  "small_model",
  "smoothed",
  "standard_library",
  "streams",
  "table",
  "task_vector",
  "teacher_predictions",
  "undo",
  "uniform",
  "unlearn",
  "unlearn_and_distill",
  "unlearning_methods",
  "warmup_stable_decay",
  "weight_distortion",
  "weights",
)
