"""Models that are distilled, noised before or not."""

from collections.abc import Mapping
from typing import Any

from ml_collections import config_dict

from undo_jax.config.blocks import Config, table
from undo_jax.config.entries import like, look
from undo_jax.config.recipes import recipe


def distill(
  *,
  teacher: str,
  optimizer: Config,
  batch_size: int,
  mixture: str = "distill",
  num_microbatches: int = 1,
  start: str = "teacher",
  base: str | None = "base",
  options: Mapping[str, object] | None = None,
  predictions: Config | None = None,
) -> Config:
  """Return distillation of a teacher's outputs into a student.

  Args:
    teacher: the model that teaches.
    optimizer: see `optimizer`.
    batch_size: rows an update.
    mixture: of config.mixtures.
    num_microbatches: gradients summed over parts of a batch.
    start: where the student starts: "teacher", "random" or an entry.
    base: the model from before unlearning, a second teacher where options say so.
    options: see `distillation`.
    predictions: see `teacher_predictions`; None: the teacher runs in every update.
  """
  entry = recipe(
    phase="distill",
    start=start,
    objective="forward_kl",
    options=distillation() if options is None else options,
    frozen={"teacher": teacher, "base": base},
    mixture=mixture,
    optimizer=optimizer,
    batch_size=batch_size,
    num_microbatches=num_microbatches,
    init_stream="noise",
    order_stream="distill_data",
  )
  entry.teacher_predictions.update(predictions or {})
  return entry


def distillation(
  *,
  divergence: str = "forward_kl",
  temperature: float = 1.0,
  jsd_beta: float = 0.5,
  teacher_top_k: int = 0,
) -> Config:
  """Return the options of distillation: on outputs, from the unlearned model.

  Args:
    divergence: forward_kl, reverse_kl or jsd (generalized Jensen-Shannon).
    temperature: T of both softmaxes; the divergence is then times T^2.
    jsd_beta: the teacher's weight in (0, 1) in the mixture of jsd.
    teacher_top_k: how many of the teacher's likeliest tokens are kept at each
      position, with all others as one class; 0: all tokens.
  """
  return config_dict.create(
    kl_weight=1.0,  # Of the divergence from the teacher's outputs.
    activation_weight=0.0,  # Of the layers' squared error on the teacher's inputs.
    base_share=0.0,  # Of the model from before unlearning as a second teacher.
    base_choice="mixed",  # mixed adds up both KLs; switch draws one an update.
    divergence=divergence,
    temperature=temperature,
    jsd_beta=jsd_beta,
    teacher_top_k=teacher_top_k,
  )


def undo(
  *, teacher: str, alphas: tuple[float, ...], beta: float = 0.1, **distilling: Any
) -> Config:
  """Return UNDO: an unlearned model, noised and distilled from itself.

  Args:
    teacher: the unlearned model.
    alphas: noise strengths in [0, 1], a model of each.
    beta: scale of the noise in [0, 1].
    distilling: see `distill`.
  """
  entry = distill(teacher=teacher, **distilling)
  entry.noise.beta = beta
  entry.sweep = {"noise": {"alpha": alphas}}
  look(entry, "UNDO", "#0072b2", "o")
  return entry


def noised_finetune(
  *,
  alphas: tuple[float, ...],
  mixture: str,
  optimizer: Config,
  batch_size: int,
  start: str = "base",
  beta: float = 0.1,
  num_microbatches: int = 1,
) -> Config:
  """Return a model that is noised and trained by cross-entropy: no teacher.

  What the mixture leaves out is not relearned; that its rows are known counts as
  labels. (For a base that teaches its noised self, see `undo` with teacher="base".)

  Args:
    alphas: noise strengths in [0, 1], a model of each.
    mixture: of config.mixtures, one without forget data or of `selected` rows.
    optimizer: see `optimizer`.
    batch_size: rows an update.
    start: the entry that is noised.
    beta: scale of the noise in [0, 1].
    num_microbatches: gradients summed over parts of a batch.
  """
  entry = recipe(
    phase="other",
    start=start,
    mixture=mixture,
    optimizer=optimizer,
    batch_size=batch_size,
    num_microbatches=num_microbatches,
    order_stream="distill_data",
  )
  entry.noise.beta = beta
  entry.sweep = {"noise": {"alpha": alphas}}
  look(entry, "noised, finetuned", "Greens", "h")
  return entry


def prompted(
  entry: Config, prompt: str, *, teacher: str = "base", **changes: object
) -> Config:
  """Return distillation from a teacher that reads a prompt, with run=False.

  The student learns to predict without the prompt what the teacher predicts with it;
  no other model has to forget (DUET, arXiv 2601.21283, which keeps the likeliest
  tokens: options.teacher_top_k).

  Args:
    entry: of distillation.
    prompt: read before every row, by the teacher alone.
    teacher: the model that reads it.
    changes: other fields.
  """
  follower = like(entry, teacher_prompt=prompt, run=False, **changes)
  follower.frozen.teacher = teacher
  look(follower, "prompted teacher", "Greys", "p")
  return follower


def shaped(
  entry: Config,
  *,
  shares: tuple[float, ...],
  alpha: float = 1.0,
  by: str = "saliency",
  saliency: Mapping[str, object] | None = None,
  **changes: object,
) -> Config:
  """Return an entry whose noise falls on a share of the weights, by a score.

  Args:
    entry: of UNDO, or any that starts from a model.
    shares: of all weights that get `alpha`, a model of each.
    alpha: noise strength of these, in [0, 1].
    by: saliency, magnitude, largest_singular, smallest_singular or, as a control,
      random.
    saliency: other fields, see the function of that name.
    changes: other fields of the entry.
  """
  follower = like(entry, **changes)
  follower.noise.alpha = alpha
  follower.noise.saliency.update({"by": by} | dict(saliency or {}))
  follower.sweep = {"noise": {"saliency": {"share": shares}}}
  look(follower, f"UNDO shaped by {by}", "Oranges", "v")
  return follower


def pruned(entry: Config, *, shares: tuple[float, ...], **changes: Any) -> Config:
  """Return an entry that starts without the smallest weights, with run=False.

  Prune and distill: an entry of UNDO with zeros in place of its noise.

  Args:
    entry: of UNDO, or any that starts from a model.
    shares: of all weights that are set to zero, a model of each.
    changes: other fields of the entry.
  """
  follower = shaped(entry, shares=shares, by="magnitude", **changes)
  follower.run = False
  follower.noise.beta = 0.0
  look(follower, "prune and distill", "Purples", "v")
  return follower


def unlearn_and_distill(student: Config, **changes: object) -> Config:
  """Return distillation as another entry's, into a random student."""
  entry = like(student, start="random", **changes)
  entry.sweep = table()
  entry.optimizer.trainable = ()  # A random student learns everything.
  look(entry, "unlearn and distill", "#009e73", "P")
  return entry


def oracle_matching(
  *, optimizer: Config, batch_size: int, num_microbatches: int = 1
) -> Config:
  """Return the base trained for a fixed budget to imitate data filtering."""
  entry = distill(
    teacher="data_filtering",
    start="base",
    optimizer=optimizer,
    batch_size=batch_size,
    num_microbatches=num_microbatches,
    options={},
  )
  entry.phase = "other"
  look(entry, "oracle matching", "#aa4499", "D")
  return entry
