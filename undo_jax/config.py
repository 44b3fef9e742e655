"""Builders of config files: what every config has, and the entries of its tables.

A config declares a run by two tables. `config.models` says how each model is made,
`config.attacks` how the models are attacked. The functions below return entries of
these tables; undo_jax/plan/config.py describes their fields:

  from undo_jax import config as c

  def get_config(arg=None):
    config = c.run("arithmetic")
    ...
    config.models.base = c.pretrain(
      mixture="pretrain", optimizer=c.cosine(num_steps=800, learning_rate=2e-3),
      batch_size=128)
    config.models.max_ent = c.unlearn(
      "max_ent", start="base", options=c.weights(retain=1.0),
      optimizer=c.constant(num_steps=60, learning_rate=3e-4), batch_size=128)
    config.models.undo = c.undo(
      teacher="max_ent", alphas=(0.3, 0.5, 0.7), mixture="distill", ...)
    config.attacks.relearn = c.attack(learning_rates=(1e-4, 1e-3), ...)

Every field can be overridden: --config.models.undo.sweep.noise.alpha="(0.2,0.8)".
Config files import nothing else of the project.
"""

from collections.abc import Mapping
import dataclasses
import sysconfig
from typing import Any, TypeAlias

from ml_collections import config_dict

from undo_jax.models import presets
from undo_jax.utils import config_files

# A ConfigDict: type checkers do not know its fields.
Config: TypeAlias = Any


def parse_size(arg: str | None, sizes: tuple[str, ...]) -> str:
  """Return the size that follows the colon in --config=FILE:SIZE.

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


def shipped(name: str) -> Config:
  """Return a config of the project by FILE:SIZE, as in "arithmetic:tiny".

  Raises:
    ConfigError: if there is no such file or size.
  """
  return config_files.load(name)


def fact_splits() -> tuple[str, ...]:
  """Return the splits of the task `facts`."""
  from undo_jax.data import facts  # Here, since it imports the datasets' library.

  return facts.SPLITS


def standard_library(letters: str) -> tuple[str, ...]:
  """Return globs of this Python's own modules, source code that every machine has.

  Args:
    letters: first letters of their names, as in a glob: "a-m".
  """
  return (f"{sysconfig.get_path('stdlib')}/[{letters}]*.py",)


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
  # Members of an attack computed together, likewise; None: all of them.
  config.replicas_at_once = config_dict.placeholder(int)
  # Models that the same attack runs on as one program, so many times the members: for
  # accelerators that the members of one leave idle.
  config.models_at_once = 1
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


def table() -> Config:
  """Return an empty block that keeps the order of its fields."""
  return config_dict.ConfigDict(sort_keys=False)


def block(**fields: object) -> Config:
  """Return a block with these fields, in their order."""
  made = table()
  for name, value in fields.items():
    made[name] = value
  return made


def maybe(kind: type) -> Config:
  """Return the value of a field that is None, or of a type once it is set."""
  return config_dict.placeholder(kind)


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


def optional(kind: type, **values: object) -> Config:
  """Return a block whose fields are of one type or None."""
  block = table()
  for name, value in values.items():
    block[name] = config_dict.placeholder(kind)
    block[name] = value
  return block


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


def mixtures(**weights: dict[str, float]) -> Config:
  """Return the mixtures: for each use of the data the weights of its splits.

  Every mixture names every split, so that each weight can be overridden; 0 leaves a
  split out.

  Args:
    weights: by the name of the mixture, the splits with a weight; weights need not sum
      to 1.
  """
  splits = list(dict.fromkeys(split for part in weights.values() for split in part))
  return block(
    **{
      name: block(**{split: float(part.get(split, 0.0)) for split in splits})
      for name, part in weights.items()
    }
  )


def selection(
  *,
  share: float | None = None,
  rows: int | None = None,
  mixture: str = "pretrain",
  keep: float | None = None,
  seed: int | None = None,
) -> Config:
  """Return an entry of config.selections: rows that a classifier takes as clean.

  Some rows of a mixture's splits are labelled, forget or retain. A classifier learns
  from them and takes rows of these splits, which mixtures may name; see `selected`.

  Args:
    share: share of each split's rows that are labelled, in (0, 1]; at least one row.
    rows: number of labelled rows of all splits together, instead of a share.
    mixture: of config.mixtures, whose splits are meant, such as that of pretraining.
    keep: the share of all rows that is taken, the likeliest retain data; None: all
      rows that are likelier retain than forget data.
    seed: decides which rows are labelled; None: the run's stream data.
  """
  made = block(mixture=mixture)  # The rows of its splits are classified.
  made.share = config_dict.placeholder(float)  # Of each split's rows: labelled ...
  made.rows = config_dict.placeholder(int)  # ... or so many of all; one is None.
  made.keep = config_dict.placeholder(float)  # Of all rows; None: the likelier ones.
  made.seed = config_dict.placeholder(int)  # None: the run's.
  made.share, made.rows, made.keep, made.seed = share, rows, keep, seed
  return made


def selected(selection: str, mixture: Config) -> Config:
  """Return a mixture without the rows that a selection does not take.

  A split of weight w, of whose n rows m are taken, gets the weight w * m / n. Rows
  that the classifier takes by mistake are in the mixture.

  Args:
    selection: of config.selections.
    mixture: another one, of splits.
  """
  return _of_selection(mixture, f":{selection}")


def labelled(selection: str, mixture: Config) -> Config:
  """Return a mixture of only the rows that are labelled for a selection.

  Args:
    selection: of config.selections.
    mixture: another one, of splits, whose weights are taken over.
  """
  return _of_selection(mixture, f":{selection}:labelled")


def _of_selection(mixture: Config, ending: str) -> Config:
  made = table()
  for split in mixture:
    made[f"{split}{ending}"] = mixture.get_oneway_ref(split)
  return made


def documents(
  *,
  validation_fraction: float,
  test_fraction: float = 0.0,
  paths: tuple[str, ...] = (),
) -> Config:
  """Return a corpus of local files; see undo_jax/data/documents/source.py."""
  return config_dict.create(
    paths=paths,  # Files, folders, globs: .txt, .jsonl, .parquet, .html, .py.
    text_field="text",  # The field of a JSON line or Parquet column.
    question_field=config_dict.placeholder(str),  # Pairs instead of texts ...
    answer_field=config_dict.placeholder(str),  # ... whose answers are scored.
    lines=True,  # A .txt holds a document a line; else it is one.
    skip_empty=False,  # Leave out records without text instead of refusing them.
    # Documents held out, by their text: for stop rules, and for what is reported.
    validation_fraction=validation_fraction,
    test_fraction=test_fraction,
    validation_tokens=config_dict.placeholder(int),  # At most so many of either.
    max_documents=config_dict.placeholder(int),  # Of training.
    max_tokens=config_dict.placeholder(int),  # Of training.
    max_document_tokens=config_dict.placeholder(int),  # Longer ones are left out.
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


def mesh() -> Config:
  """Return the mesh: devices along each axis; one may be -1, all the others."""
  return config_dict.create(
    replica=1,  # Members of the attack's population.
    data=-1,  # Rows of a batch.
    fsdp=1,  # Rows of a batch and parts of parameters.
    tensor=1,  # Heads, MLP units, vocabulary.
  )


# ---- Optimizers.


def optimizer(
  *,
  num_steps: int,
  learning_rate: float,
  final_learning_rate: float | None = None,
  warmup_steps: int = 0,
  weight_decay: float = 0.0,
  clip_norm: float | None = 1.0,
  name: str = "adamw",
  decay_steps: int | None = None,
  decay: str = "linear",
  decay_on_recovery: bool = False,
) -> Config:
  """Return an optimizer with its schedule."""
  block = config_dict.create(
    # Or descent, lion, muon, nesterov, sgd; of undo_jax/training/optimizers.py, or
    # MODULE:NAME.
    name=name,
    learning_rate=learning_rate,  # Peak.
    num_steps=num_steps,  # Updates; with a stop rule, at most.
    final_learning_rate=config_dict.placeholder(float),  # At the end; None: constant.
    decay_steps=config_dict.placeholder(int),  # Of the decay; None: a cosine over all.
    decay=decay,  # Linear or 1-sqrt, where decay_steps are set.
    # The decay begins as soon as the stop rule is satisfied, and training ends with it.
    decay_on_recovery=decay_on_recovery,
    # Training ends at the mean of the weights after so many updates and every so many
    # more; None: at those of the last update.
    average_begin=config_dict.placeholder(int),
    average_every=1,
    # The end is so many times as far from the start, on the same line; below 0: on the
    # other side.
    displacement=1.0,
    warmup_steps=warmup_steps,  # Linear from 0; update 1 then is a no-op.
    weight_decay=weight_decay,  # Decoupled, on all parameters.
    clip_norm=config_dict.placeholder(
      float
    ),  # Global gradient norm; None: no clipping.
    # What is trained, and noised before: pairs (path regex, layers), where () are all
    # layers, as in (("layers/mlp/.*", (0, 1)), ("embedding", ())); empty: everything.
    trainable=(),
  )
  block.final_learning_rate, block.clip_norm = final_learning_rate, clip_norm
  block.decay_steps = decay_steps
  return block


def cosine(
  *,
  num_steps: int,
  learning_rate: float,
  warmup_steps: int = 20,
  weight_decay: float = 0.0,
) -> Config:
  """Return an optimizer with a warm-up and a cosine down to a tenth of the peak."""
  return optimizer(
    num_steps=num_steps,
    learning_rate=learning_rate,
    final_learning_rate=0.1 * learning_rate,
    warmup_steps=warmup_steps,
    weight_decay=weight_decay,
  )


def warmup_stable_decay(
  *,
  num_steps: int,
  learning_rate: float,
  decay_steps: int,
  decay: str = "linear",
  final_learning_rate: float = 0.0,
  warmup_steps: int = 20,
  weight_decay: float = 0.0,
  on_recovery: bool = False,
) -> Config:
  """Return an optimizer whose rate is constant and decays in the last updates only.

  Args:
    num_steps: updates, warm-up and decay among them.
    learning_rate: before the decay.
    decay_steps: updates of the decay.
    decay: linear, or 1-sqrt, which falls faster at first.
    final_learning_rate: at the end.
    warmup_steps: linear from 0.
    weight_decay: decoupled, on all parameters.
    on_recovery: whether the decay begins as soon as the entry's stop rule is
      satisfied, and training ends with the decay. It begins after num_steps -
      decay_steps updates at the latest.
  """
  return optimizer(
    num_steps=num_steps,
    learning_rate=learning_rate,
    final_learning_rate=final_learning_rate,
    warmup_steps=warmup_steps,
    weight_decay=weight_decay,
    decay_steps=decay_steps,
    decay=decay,
    decay_on_recovery=on_recovery,
  )


# ---- Entries of the table of models.


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
  """Return how a model is made; the functions below set the fields for their purpose.

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
  # Weights that are trained, of those that optimizer.trainable names.
  entry.trained = config_dict.create(
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
  # What is to be forgotten in folds: the first `forgotten` of `count` are, and of the
  # rows that are kept a share is of the others; see `layered`.
  entry.folds = config_dict.create(count=1, forgotten=1, share=0.5)
  entry.smoothing = config_dict.create(
    # random, gradient_penalty, curvature (training/smoothing.py); None: off.
    kind=config_dict.placeholder(str),
    radius=0.01,  # How far from the weights gradients are taken.
    weight=1.0,  # Of the penalty.
    samples=3,  # Of random.
  )
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


def noise() -> Config:
  """Return the noise of a model: none, until alpha, std or a rule is above 0."""
  return config_dict.create(
    alpha=0.0,  # How far toward random weights, in [0, 1].
    beta=0.1,  # Scale of these, in [0, 1]; 0: pure shrinking.
    # Other alphas: (path regex, layers, alpha), where () are all layers, as in
    # (("embedding", (), 0.0), ("layers/mlp/.*", (0, 1), 0.9)); the first decides.
    rules=(),
    std=0.0,  # Of normal noise that is added to every weight after that.
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


def like(entry: Config, **changes: object) -> Config:
  """Return an entry that follows another one in all fields except those given here.

  A field that is overridden in the other entry, also on the command line, changes here
  too, unless it was given here. Whether the entry is run and attacked, its checkpoint
  and how it is shown are its own.

  Args:
    entry: of a table.
    changes: values by field; for a block, a dict with some of its fields.
  """
  follower = _follow(entry)
  # These are each entry's own.
  own = {"run": True, "is_attacked": True, "checkpoint": None, "label": None}
  for name in follower.keys() & own.keys():
    follower[name] = config_dict.placeholder(type(own[name]) if own[name] else str)
    follower[name] = own[name]
  if "look" in follower:
    follower.look = optional(str, label=None, color=None, marker=None)
  with follower.unlocked():
    follower.update(changes)
  return follower


def _follow(block: Config) -> Config:
  follower = table()
  for name, value in block.items():
    is_block = isinstance(value, config_dict.ConfigDict)
    follower[name] = _follow(value) if is_block else block.get_oneway_ref(name)
  return follower


def pretrain(
  *, mixture: str, optimizer: Config, batch_size: int, num_microbatches: int = 1
) -> Config:
  """Return pretraining from random weights; it counts as given, so it costs nothing."""
  entry = recipe(
    phase="pretrain",
    mixture=mixture,
    optimizer=optimizer,
    batch_size=batch_size,
    num_microbatches=num_microbatches,
  )
  entry.is_counted = False
  look(entry, "base", "#111111", "s")
  return entry


def given(checkpoint: str) -> Config:
  """Return a model that is taken from a checkpoint: a stage's, or Hugging Face's."""
  unused = optimizer(num_steps=1, learning_rate=0.0)
  entry = recipe(phase="pretrain", mixture={}, optimizer=unused, batch_size=1)
  entry.checkpoint = checkpoint
  entry.is_counted = False
  look(entry, "base", "#111111", "s")
  return entry


def finetune(*, start: str, mixture: str, optimizer: Config, batch_size: int) -> Config:
  """Return training by cross-entropy that goes on from another model.

  It teaches what is then to be forgotten, so like pretraining it costs nothing.
  """
  entry = pretrain(mixture=mixture, optimizer=optimizer, batch_size=batch_size)
  entry.start = start
  return entry


def data_filtering(base: Config, *, mixture: str, **changes: object) -> Config:
  """Return pretraining like another entry's, on a mixture without forget data.

  To make the mixture, all pretraining data of the model `base` had to be labelled or,
  for a mixture of selected rows, those that the selection labels.
  """
  labels = {"sorts": "base"}
  entry = like(base, labels=labels, is_counted=True, **changes)
  entry.mixture.batch = mixture
  look(entry, "data filtering", "#666666", "*")
  return entry


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


def sharpness_aware(entry: Config, *, rho: float = 0.01, **changes: object) -> Config:
  """Return an entry under sharpness-aware minimization, with run=False."""
  follower = like(entry, rho=rho, run=False, **changes)
  look(follower, "MaxEnt + SAM", "#882255", ">")
  return follower


# Of the methods below, as published for models of some billion parameters.
METHOD_RATES = {
  "npo": 5e-6,
  "simnpo": 9.5e-6,
  "wga": 1e-5,
  "satimp": 1e-5,
  "ce_u": 1e-5,
  "undial": 1e-4,
  "jensun": 1e-5,
  "idk_dpo": 1e-5,
  "adaptive_rmu": 5e-5,
  "circuit_breakers": 1e-4,
  "latent_adversarial": 5e-5,
  "tamper_resistance": 2e-5,
  "invariant": 5e-6,
  "mudman": 0.1,
  "rep_select": 0.05,
  "distance": 1e-5,
  "task_vector": 1e-5,
  "weight_distortion": 1e-5,
}


def unlearning_methods(
  *,
  num_steps: int,
  batch_size: int,
  layers: tuple[int, ...],
  answer: tuple[int, ...] = (1,),
  learning_rates: Mapping[str, float] = METHOD_RATES,
  retain: float = 1.0,
  components: int = 16,
  num_microbatches: int = 1,
  start: str = "base",
) -> dict[str, Config]:
  """Return an entry for each of some methods, all with run=False.

  Options of a method have the values of its paper. --config.models.NAME.run=True runs
  it, and any value can be overridden.

  Args:
    num_steps: updates.
    batch_size: rows of each kind an update.
    layers: for methods that steer hidden states; the output of the last one is steered.
    answer: token ids of an answer that says nothing (jensun, idk_dpo); by default the
      end of the text.
    learning_rates: by the methods' names, see undo_jax/objectives.
    retain: weight of the retain term, that of the forget term being 1.
    components: of rep_select, at most the smallest side of the MLPs' matrices.
    num_microbatches: gradients summed over parts of a batch.
    start: the entry that forgets.
  """
  kept = {"retain_weight": retain}
  both = weights(retain=retain)
  own: dict[str, Mapping[str, object]] = {
    "npo": {**both, "beta": 0.1},
    "simnpo": {**both, "beta": 4.5, "margin": 0.0},
    "wga": {**both, "exponent": 1.0},
    "satimp": {**both, "saturation": 5.0, "importance": 1.0},
    "ce_u": both,
    "undial": {**both, "penalty": 10.0},
    "jensun": {**kept, "forget_weight": 1.0, "answer": answer},
    "idk_dpo": {**both, "beta": 0.1, "answer": answer},
    "adaptive_rmu": {**kept, "forget_weight": 1.0, "layers": layers, "scale": 5.0},
    "circuit_breakers": {"layers": layers, "strength": 10.0},
    "latent_adversarial": {
      **kept,
      "forget_weight": 1.0,
      "around": "grad_diff",
      "layer": layers[-1],
      "radius": 2.0,  # Of the push on the layer's output, at every position ...
      "steps": 16,  # ... and of its descent, each a pass of the forget rows.
      "step_size": 0.25,
      "retain_loss": "cross_entropy",
      # Of rmu, where that is `around`.
      "layers": (),
      "coefficient": 0.0,
    },
    "tamper_resistance": {
      **kept,
      "resistance_weight": 4.0,
      "retain_loss": "cross_entropy",
      "adversary_rates": (2e-6, 2e-5, 4e-5),  # One is drawn for each update ...
      "adversary_steps": 64,  # ... of the adversary that is trained against ...
      "every": 4,  # ... and looked at after so many steps each.
      "growth": 0.0625,  # Of the weights of later looks.
      "adversary_optimizer": "adamw",  # Or sgd.
      "exact": False,  # Differentiates through the adversary's steps.
    },
    "invariant": {
      **both,
      "around": "npo",
      "beta": 0.1,
      # Of the squared derivative of the loss on each environment's rows, a part of the
      # batch, as all weights grow alike.
      "invariance_weight": 0.1,
      "environments": ("environment",),
      # Of rmu, where that is `around`.
      "layers": (),
      "coefficient": 0.0,
    },
    "mudman": {
      # Of the running mean of retain gradients, beside forget gradients of length 1.
      "retain_weight": 0.01 * retain,
      "forget_weight": 1.0,
      "retain_loss": "cross_entropy",
      "momentum": 0.9,  # Of that mean.
      "adversary_rate": 1e-3,  # Of the adversary's steps, one an update ...
      "every": 32,  # ... from where the model is after so many updates.
    },
    "rep_select": {
      "adversary_rate": 0.01,  # Of adapters that relearn in a third of the updates ...
      "adversary_updates": max(1, num_steps // 3),
      # ... before gradients of another third are summed; then it goes along the sum.
      "gradient_updates": max(1, num_steps // 3),
      "components": components,  # Principal ones that are collapsed.
      "targets": (r"layers/mlp/(gate|up|down)/kernel",),
    },
    "distance": {**kept, "distance_weight": 1.0},
  }
  # Of no objective but cross-entropy.
  others = {"task_vector": task_vector, "weight_distortion": weight_distortion}
  entries = {}
  for name, learning_rate in learning_rates.items():
    how: dict[str, Any] = {
      "start": start,
      "optimizer": optimizer(num_steps=num_steps, learning_rate=learning_rate),
      "batch_size": batch_size,
      "num_microbatches": num_microbatches,
    }
    if name in others:
      entries[name] = others[name](**how)
      continue
    entries[name] = unlearn(name, options=own[name], **how)
    entries[name].run = False
  if "tamper_resistance" in entries:
    entries["tamper_resistance"].mixture.adversary = "unlearn_forget"
  if "invariant" in entries:
    entries["invariant"].mixture.environment = "unlearn_retain"
  for name in {"mudman", "rep_select"} & set(entries):
    # Their gradients have the length they are to have.
    entries[name].optimizer.name = "descent"
    entries[name].optimizer.clip_norm = None
  if "rep_select" in entries:
    del entries["rep_select"].mixture.retain  # It reads none.
  if "distance" in entries:
    del entries["distance"].mixture.forget  # It reads none.
  return entries


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


def masked(
  entry: Config, *, label: str, share: float = 0.5, by: str = "forget", **trained: Any
) -> Config:
  """Return an entry that trains a share of its weights, with run=False.

  With by="forget" and one batch these are the weights with the largest gradients on
  forget rows, as in SalUn (Fan et al., arXiv 2310.12508); with by="attribution" they
  are those of WAGLE (Jia et al., arXiv 2410.17509, which trains a share of 0.8 for
  TOFU).

  Args:
    entry: of unlearning.
    label: how it is shown.
    share: of all weights.
    by: forget, ratio, attribution or, as a control, random.
    trained: other fields: model, mixtures, num_batches, batch_size, curvature.
  """
  mask = {"share": share, "by": by} | trained
  follower = like(entry, trained=mask, run=False)
  follower.look.label = label
  return follower


def layered(
  name: str, entry: Config, *, label: str, folds: int = 3, share: float = 0.5
) -> dict[str, Config]:
  """Return entries that forget fold after fold and keep the later folds.

  The first forgets fold 1; the second starts from it and forgets folds 1 and 2; the
  last forgets all. Only the last is attacked. All have run=False; the others, NAME_1
  and so on, are run when the last is.

  Args:
    name: of the last entry.
    entry: of unlearning, which each of them follows.
    label: how the last is shown.
    folds: k, number of folds of the forget rows.
    share: the share of the later folds among the rows that are kept.

  Reference: Qian et al., Layered Unlearning, arXiv 2505.09500.
  """
  names = [*(f"{name}_{k}" for k in range(1, folds)), name]
  entries: dict[str, Config] = {}
  for k, each in enumerate(names, 1):
    block = {"count": folds, "forgotten": k, "share": share}
    entries[each] = like(entry, folds=block, run=False)
    if k > 1:
      entries[each].start = names[k - 2]
  last = entries[name]
  last.look.label = label
  for each in names[:-1]:
    entries[each].run = last.get_oneway_ref("run")
    entries[each].is_attacked = False
  return entries


def averaged(
  entry: Config, *, label: str, begin: int, every: int = 5, **changes: object
) -> Config:
  """Return an entry that ends at the mean of its last weights, with run=False.

  Args:
    entry: of unlearning, without a stop rule.
    label: how it is shown.
    begin: updates after which the first weights are taken.
    every: updates between two that are taken.
    changes: other fields.
  """
  average = {"average_begin": begin, "average_every": every}
  follower = like(entry, optimizer=average, run=False, **changes)
  follower.look.label = label
  return follower


def smoothed(entry: Config, kind: str, *, label: str, **smoothing: object) -> Config:
  """Return an entry whose loss is smoothed, with run=False.

  Args:
    entry: of unlearning.
    kind: random, gradient_penalty or curvature.
    label: how it is shown.
    smoothing: radius, weight, samples, see undo_jax/training/smoothing.py.
  """
  follower = like(entry, smoothing={"kind": kind} | smoothing, run=False)
  follower.look.label = label
  return follower


def around(name: str, entry: Config, *, label: str) -> dict[str, Config]:
  """Return what goes around an entry of unlearning, by name; none is run unasked.

  Smoothed losses, training of some weights, folds one after the other, and the mean of
  the weights of the second half.

  Args:
    name: of the entry; those that are returned begin or end with it.
    entry: of unlearning, its number of updates as it is to be.
    label: how it is shown.
  """
  penalty = {"radius": 0.01, "weight": 0.01}
  entries = {
    f"{name}_penalty": smoothed(
      entry, "gradient_penalty", label=f"{label} + gradient penalty", **penalty
    ),
    f"{name}_curvature": smoothed(
      entry, "curvature", label=f"{label} + curvature", **penalty
    ),
    f"{name}_smooth": smoothed(
      entry, "random", label=f"{label} + random smoothing", radius=0.01
    ),
    f"{name}_masked": masked(entry, label=f"{label} on salient weights"),
    f"{name}_attributed": masked(
      entry,
      label=f"{label} on attributed weights",
      by="attribution",
      share=0.8,
      num_batches=8,
    ),
  }
  entries |= layered(f"layered_{name}", entry, label=f"layered {label}")
  begin = entry.optimizer.num_steps // 2
  entries[f"{name}_averaged"] = averaged(
    entry, label=f"{label} + weight averaging", begin=begin
  )
  return entries


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


def routed(
  entry: Config,
  objective: str,
  *,
  mlp_units: int,
  kv_heads: int = 0,
  old_target: float = 0.0,
  options: Mapping[str, object] | None = None,
  **changes: object,
) -> Config:
  """Return an entry whose gradients are routed to reserved units, then ablated.

  Args:
    entry: pretraining or distillation.
    objective: routed, sgtm, routed_forward_kl or sgtm_forward_kl.
    mlp_units: how many of each layer, the last ones, are reserved for what is to be
      forgotten.
    kv_heads: likewise key/value heads, with their query heads.
    old_target: weight of forget gradients on all other units; below 0: ascent.
    options: of the objective, see `coherence`.
    changes: other fields.
  """
  follower = like(entry, objective=objective, is_counted=True, **changes)
  follower.teacher_predictions = teacher_predictions()  # It reads the teacher itself.
  follower.options = table()
  follower.options.update(dict(options or {}))
  reserved = {"mlp_units": mlp_units, "kv_heads": kv_heads, "old_target": old_target}
  follower.reserve.update(reserved)
  return follower


def coherence(*, weight: float = 0.2, trusted: bool = True) -> Config:
  """Return the options of the routed objectives."""
  return config_dict.create(
    coherence_weight=weight,  # Of the ablated model's loss on other rows; 0: no pass.
    trusted=trusted,  # That loss reads rows labelled retain, and none without a label.
  )


def look(entry: Config, label: str, color: str, marker: str) -> None:
  """Set how an entry is shown in the report; a sweep has shades of its color."""
  entry.look.update({"label": label, "color": color, "marker": marker})


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


# ---- Entries of the table of attacks.


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


def further_attacks(
  attacks: Config,
  relearn: Config,
  *,
  num_layers: int,
  forget: str = "attack",
  retain: str = "unlearn_retain",
  ranks: tuple[int, ...] = (16, 64),
) -> None:
  """Declare in a table what else attacks a model; none of it is run unasked.

  An entry is run by --config.attacks.muon.run=True.

  Args:
    attacks: the table.
    relearn: its entry of full finetuning, which others follow.
    num_layers: of the model.
    forget: the mixture of forget data alone that the attacker has.
    retain: a mixture without forget data.
    ranks: of low-rank adapters, at most the smallest side of a kernel.
  """
  entries = relearning(relearn, retain=retain, ranks=ranks)
  entries |= frozen_weights(relearn, num_layers=num_layers)
  entries |= beside(num_layers=num_layers, forget=forget, retain=retain)
  entries |= reading(relearn, num_layers=num_layers)
  for name, entry in entries.items():
    attacks[name] = entry


def relearning(
  attack: Config, *, retain: str = "unlearn_retain", ranks: tuple[int, ...] = (16, 64)
) -> dict[str, Config]:
  """Return other adversaries that relearn, by name; none of them is run unasked.

  In config.attacks one of them is run by --config.attacks.muon.run=True. Each follows
  `attack` in all other fields; the learning rates there bracket the worst one for the
  update rule of `attack`, which need not hold for others.

  Args:
    attack: an entry of full finetuning.
    retain: a mixture without forget data.
    ranks: of low-rank adapters.
  """
  rates, num_steps = attack.learning_rates, attack.num_steps
  faster = tuple(100 * rate for rate in rates)  # SGD's steps are as small as gradients.
  longer = {"num_steps": 10 * num_steps, "evaluate_every": 10 * attack.evaluate_every}
  entries = {
    "muon": like(attack, optimizer="muon"),
    "sgd": like(attack, optimizer="sgd", learning_rates=faster),
    "cosine": like(attack, schedule="cosine", warmup_steps=num_steps // 12),
    "few_15": like(attack, samples=15),
    "few_60": like(attack, samples=60),
    "warm_state": like(attack, still_steps=num_steps // 12),
    "retain_state": like(
      attack,
      still_steps=num_steps // 12,
      first_mixture=retain,
      first_steps=num_steps // 12,
    ),
    "retain_first": like(attack, first_mixture=retain, first_steps=num_steps // 2),
    "benign": like(attack, mixture=retain, is_benign=True),
    "longer": like(attack, **longer),
    **{f"lora_{rank}": lora(attack, rank=rank) for rank in ranks},
  }
  labels = {
    "muon": "full finetuning, Muon",
    "sgd": "full finetuning, SGD with momentum",
    "cosine": "full finetuning, warm-up and cosine",
    "few_15": "full finetuning, 15 rows",
    "few_60": "full finetuning, 60 rows",
    "warm_state": "full finetuning, moments first",
    "retain_state": "full finetuning, moments of retain data first",
    "retain_first": "full finetuning, on retain data first",
    "benign": "full finetuning on retain data alone",
    "longer": "full finetuning, ten times as long",
    **{f"lora_{rank}": f"LoRA, rank {rank}" for rank in ranks},
  }
  for name, entry in entries.items():
    entry.run, entry.label = False, labels[name]
  return entries


def frozen_weights(attack: Config, *, num_layers: int) -> dict[str, Config]:
  """Return adversaries that leave the weights as they are, by name, with run=False.

  They train something beside the model: biases of the logits, embeddings before every
  row, a push on hidden states. Each follows `attack` in all other fields, but with a
  thousand times its learning rates, because what is trained has entries of about 1.

  Args:
    attack: an entry of full finetuning.
    num_layers: of the model; the latent push is on the output of the middle layer.
  """
  faster = tuple(float(f"{1000 * rate:g}") for rate in attack.learning_rates)
  place = config_dict.placeholder(int)  # A layer; None: the embedding.
  layer = num_layers // 2  # Counted from 0.
  options: dict[str, tuple[str, dict[str, object]]] = {
    "logit_calibration": ("logit_calibration", {}),
    "soft_prompt": ("soft_prompt", {"tokens": 20}),  # Before every row.
    # Within a ball around no push, its radius in units of the embeddings.
    "embedding_push": ("push", {"layer": place, "radius": 1.0, "norm": "l2"}),
    "latent_push": ("push", {"layer": layer, "radius": 1.0, "norm": "l2"}),
  }
  labels = {
    "embedding_push": "push on the embeddings",
    "latent_push": f"push on layer {layer}",
  }
  entries = {}
  for name, (adversary, chosen) in options.items():
    entry = like(attack, adversary=adversary, learning_rates=faster, run=False)
    entry.options = table()
    entry.options.update(chosen)
    entry.label = labels.get(name)
    entries[name] = entry
  return entries


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


def edits(*, run: bool = False) -> Config:
  """Return our edits by name; `config.attacks.update(c.edits())` declares them.

  All have run=False: --config.attacks.pruning.run=True runs one. The worst case leaves
  out those whose attacker has the base's weights, unless report.worst_over names them.
  """
  shares = (0.1, 0.2, 0.3, 0.4, 0.5)
  group_size = config_dict.placeholder(int)  # Inputs that share a scale; None: all.
  return block(
    pruning=edit(
      "pruning",
      strengths=shares,  # Of the weights.
      options={"scope": "matrix"},  # Or all: the smallest of all matrices together.
      run=run,
    ),
    quantization=edit(
      "quantization",
      strengths=(8, 4, 3, 2),  # Bits.
      options={"group_size": group_size},
      run=run,
    ),
    weight_noise=edit("weight_noise", strengths=(0.03, 0.1, 0.3), run=run),
    interpolation_to_base=edit(
      "interpolation_to_base", strengths=(0.1, 0.3, 0.5, 0.7, 0.9), run=run
    ),
    difference_rank=edit("difference_rank", strengths=(1, 2, 4, 8), run=run),
  )


def beside(
  *,
  num_layers: int,
  forget: str = "attack",
  retain: str = "unlearn_retain",
  run: bool = False,
) -> dict[str, Config]:
  """Return attacks that compute something beside the weights from a few rows, by name.

  Args:
    num_layers: of the model; three layers are members.
    forget: the mixture of the rows of forget data that the attacker has.
    retain: likewise of other data.
    run: as in `edits`.
  """
  layers = _some_layers(num_layers)
  return {
    "direction_ablation": edit(
      "direction_ablation",
      strengths=layers,  # Whose output the direction is read at.
      mixture={"forget": forget, "retain": retain},
      rows=128,
      run=run,
    ),
    "gcg": edit(
      "gcg",
      strengths=(4, 8),  # Tokens.
      # Steps, each of so many candidates among the best by gradient at each position.
      options={"steps": 50, "candidates": 32, "top_k": 16},
      mixture={"forget": forget},
      rows=16,
      run=run,
    ),
    "few_shot": edit("few_shot", strengths=(1, 5), run=run),  # Worked examples.
  }


def reading(attack: Config, *, num_layers: int) -> dict[str, Config]:
  """Return diagnostics of what layers hold, by name, with run=False; none is counted.

  Linear probes of three layers follow `attack` at a thousand times its learning rates.

  Args:
    attack: an entry of full finetuning.
    num_layers: of the model.
  """
  faster = tuple(float(f"{1000 * rate:g}") for rate in attack.learning_rates)
  layers = _some_layers(num_layers)
  entries = {
    "logit_lens": edit("logit_lens", strengths=tuple(range(num_layers)), run=False)
  }
  for layer in layers:
    entry = like(attack, adversary="probe", learning_rates=faster, run=False)
    entry.options = table()
    entry.options.layer = layer  # Whose output is read, counted from 0.
    entry.label = f"linear probe of layer {layer}"
    entries[f"probe_{layer}"] = entry
  return entries


def _some_layers(num_layers: int) -> tuple[int, ...]:
  """Return the layers at a quarter, half and three quarters of the way, from 0."""
  return tuple(sorted({part * num_layers // 4 for part in (1, 2, 3)}))


# The paper's grid of the relearning adversary.
PAPER_RATES = (1e-3, 7e-4, 4e-4, 1e-4, 7e-5, 5e-5, 1e-5, 7e-6, 4e-6, 1e-6)


# ---- A search for hyper-parameters.


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


# ---- Models.


def preset(name: str, **changes: object) -> Config:
  """Return a named size of undo_jax/models/presets.py, computed in bfloat16."""
  model = dataclasses.replace(
    presets.PRESETS[name], dtype="bfloat16", remat="full", **changes
  )
  return config_dict.ConfigDict(dataclasses.asdict(model))


def plain_decoder(**sizes: Any) -> Config:
  """Return a small decoder like GPT's; see models/presets.py."""
  model = presets.plain_decoder(**sizes)
  return config_dict.ConfigDict(dataclasses.asdict(model))


def small_model(
  *,
  vocab_size: int,
  num_layers: int,
  width: int,
  mlp_width: int,
  init_std: float,
  num_heads: int = 4,
  num_kv_heads: int = 2,
  scan_unroll: int | None = None,
) -> Config:
  """Return a small Gemma-2 without its attention's softcap, in float32."""
  head_dim = width // num_heads
  model = config_dict.create(
    vocab_size=vocab_size,  # At least the tokenizer's; a multiple of mesh.tensor.
    num_layers=num_layers,  # N.
    width=width,  # D.
    num_heads=num_heads,  # H.
    num_kv_heads=num_kv_heads,  # G, divides H.
    head_dim=head_dim,  # K, even.
    mlp_width=mlp_width,  # F.
    query_pre_attn_scalar=float(head_dim),  # Attention scores times its power -1/2.
    attention_softcap=config_dict.placeholder(float),  # Off; Gemma-2 has 50.
    logit_softcap=30.0,  # Gemma-2's; None: off.
    sliding_window=4096,  # Tokens that layers 0, 2, ... look back.
    init_std=init_std,  # Of fresh matrices; Gemma's 0.02 learns slowly if narrow.
    dtype="float32",  # Compute dtype, or bfloat16.
    remat="none",  # Recomputed in the backward pass: none, dots, full.
    # Layers unrolled in the scan: fast on a CPU; None: 8 of a small model, 1 of others.
    scan_unroll=config_dict.placeholder(int),
  )
  model.scan_unroll = scan_unroll
  return model
