"""Entries of the table of models: all fields that they have."""

from collections.abc import Mapping

from ml_collections import config_dict

from undo_jax.config.blocks import Config, block, optional, table
from undo_jax.config.entries import noise
from undo_jax.config.runs import streams


def recipe(
  *,
  phase: str,
  mixture: str | Mapping[str, str],
  optimizer: Config,
  batch_size: int,
  num_microbatches: int = 1,
  start: str = "random",
  objective: str = "cross_entropy",
  options: Mapping[str, object] | None = None,
  frozen: Mapping[str, str | None] | None = None,
  init_stream: str = "init",
  order_stream: str = "data",
) -> Config:
  """Return how a model is made; other functions set the fields for their purpose.

  Args:
    phase: pretrain, unlearn or distill: the command that makes this model alone;
      other: no command does.
    mixture: of config.mixtures, or one for each part of a batch.
    optimizer: see `optimizer`.
    batch_size: rows an update, of each part.
    num_microbatches: gradients summed over parts of a batch.
    start: "random", "teacher" (the model of that role) or another entry.
    objective: a name in undo_jax/objectives, or MODULE:NAME.
    options: of the objective.
    frozen: models that the objective only reads, by role.
    init_stream: random stream of fresh weights.
    order_stream: random stream of the order of the data.
  """
  entry = table()
  entry.run = True  # False: as if the entry were not there.
  entry.phase = phase
  entry.start = start
  # A stage's directory or Hugging Face's: the model is taken from it, not trained.
  entry.checkpoint = config_dict.placeholder(str)
  entry.noise = noise()  # What training starts from is first noised.
  entry.noise.saliency = saliency()
  # Updates after which it is noised again, with new noise, in training; None: never.
  entry.noise.again_every = config_dict.placeholder(int)
  entry.noise.again_times = 1  # How often.
  entry.objective = objective
  entry.options = table()
  entry.options.update(dict(options or {}))
  roles = {"teacher": None, "reference": None, "base": None} | dict(frozen or {})
  entry.frozen = optional(str, **roles)
  entry.teacher_predictions = teacher_predictions()
  # Text that the teacher of a distillation reads before every row, the student not.
  entry.teacher_prompt = config_dict.placeholder(str)
  entry.mixture = table()
  parts = {"batch": mixture} if isinstance(mixture, str) else dict(mixture)
  entry.mixture.update(parts)
  entry.optimizer = optimizer
  entry.batch_size = batch_size
  entry.num_microbatches = num_microbatches
  # Of sharpness-aware minimization, length of its perturbation; 0: off.
  entry.rho = 0.0
  entry.trained = _trained()
  # What is to be forgotten in folds: the first `forgotten` of `count` are, and of the
  # rows that are kept a share is of the others; see `layered`.
  entry.folds = config_dict.create(count=1, forgotten=1, share=0.5)
  entry.smoothing = _smoothing()
  entry.stop = config_dict.create(
    rule=config_dict.placeholder(str),  # See `recovered`; None: a fixed budget.
    evaluate_every=100,  # Updates between checks; also after the first.
    options=table(),
  )
  entry.init_stream, entry.order_stream = init_stream, order_stream
  entry.streams = streams()  # Seeds of this model's own, in place of the run's.
  # Units that routing reserves in each layer, and that are ablated at the end.
  entry.reserve = config_dict.create(mlp_units=0, kv_heads=0, old_target=0.0)
  entry.labels = config_dict.create(
    share=1.0,  # Of the rows that are labelled, where labels are read.
    drop_forget=False,  # Leaves out rows labelled forget.
    sorts=config_dict.placeholder(str),  # Whose pretraining data had to be labelled.
  )
  entry.is_counted = True  # Its cost counts for the models made from it.
  entry.is_attacked = True  # By the attacks that name no models.
  entry.look = optional(str, label=None, color=None, marker=None)  # On the page.
  # Fields with tuples of values, as in {"noise": {"alpha": (0.3, 0.5)}}: the entry
  # becomes one for each combination, with the values in its name.
  entry.sweep = table()
  return entry


def _trained() -> Config:
  """Return the weights that are trained, of those that optimizer.trainable names."""
  return config_dict.create(
    # forget: those with the largest squared gradients F on forget rows; ratio: with the
    # highest F_forget / (F_forget + F_retain); attribution: WAGLE's score, of mean
    # gradients; random: a control; None: all.
    by=config_dict.placeholder(str),
    share=0.5,  # Of all weights.
    model="base",  # The entry whose gradients are squared.
    mixtures=block(forget="unlearn_forget", retain="unlearn_retain"),
    num_batches=1,  # That are averaged, of each mixture.
    batch_size=256,  # Rows of each.
    curvature=1e-3,  # Of the retain loss, in attribution's score.
  )


def _smoothing() -> Config:
  """Return how the loss is smoothed: not at all, until `kind` is set."""
  return config_dict.create(
    # random, gradient_penalty, curvature (training/smoothing.py); None: off.
    kind=config_dict.placeholder(str),
    radius=0.01,  # How far from the weights gradients are taken.
    weight=1.0,  # Of the penalty.
    samples=3,  # Of random.
  )


def saliency() -> Config:
  """Return the weights that a noise's alpha applies to: all, unless `by` is set."""
  return config_dict.create(
    # saliency: by squared gradients F, those with the highest F_forget / (F_forget +
    # F_retain); random: a control; magnitude: the smallest; dampening: selective
    # synaptic dampening with noise.alpha = 1 and noise.beta = 0; largest_singular or
    # smallest_singular: of each matrix the directions with the largest or smallest
    # singular values; None: all weights.
    by=config_dict.placeholder(str),
    share=0.5,  # Of all weights, or directions, which get noise.alpha ...
    low=0.0,  # ... and the alpha of the others.
    granularity="weight",  # Or unit: the inputs of an output, the entries of a token.
    selection=10.0,  # Of dampening: where F_forget is above so many F_retain ...
    dampening=1.0,  # ... the weight is times min(so many F_retain / F_forget, 1).
    model="base",  # The entry whose gradients are squared.
    mixtures=block(forget="unlearn_forget", retain="unlearn_retain"),
    num_batches=150,  # That are averaged, of each mixture.
    batch_size=16,  # Rows of each.
  )


def teacher_predictions(*, keep: bool = False, dtype: str = "float32") -> Config:
  """Return whether a teacher's predictions are kept, for distillation of outputs.

  Args:
    keep: whether the teacher runs once over all rows of the mixture's splits, before
      any student, and students read its predictions from files. Students with the same
      teacher, splits and options.teacher_top_k share them.
    dtype: of the log-probabilities: float32 or float16.
  """
  return config_dict.create(keep=keep, dtype=dtype)


def recovered(*, evaluate_every: int, tolerance: float, relative: bool) -> Config:
  """Return the stop rule: a student has recovered its teacher's retain score."""
  options = config_dict.create(
    tolerance=tolerance,  # Largest part of the score that may be missing ...
    relative=relative,  # ... as a share of the teacher's, or else absolute.
    # Scores that must all recover: retain, forget, those by task; (): fixed budget.
    scores=("retain",),
  )
  rule = config_dict.placeholder(str)
  block = config_dict.create(rule=rule, evaluate_every=evaluate_every, options=options)
  block.rule = "recovered"
  return block
