"""A real pretrained model: SmolLM2-135M-Instruct, or any checkpoint in its place.

COMMANDS (docs/your_own_model.md says where weights and texts come from):

  python -m experiments.undo --config=configs/smollm2.py:tiny --workdir=runs/smollm2
  python -m experiments.undo --config=configs/smollm2.py:tofu_tiny --workdir=runs/tofu

`tiny` and `full` keep English and forget Python: the documents of data/english against
the standard library of the interpreter that runs. Modules from a to m are forgotten, a
share of them held out to be scored; the attacker has those from n to z, which no model
was trained on here. `tofu_tiny` and `tofu` forget what was just learned: the model is
first finetuned on TOFU's fictitious authors (data/tofu), some of them are forgotten,
and an attacker relearns other facts about these than those that are scored.

The tiny ones are sized for 2 cores of a CPU; `full` and `tofu` for an accelerator.

References: SmolLM2, arXiv 2502.02737; TOFU, arXiv 2401.06121; UNDO, arXiv 2506.06278.
"""

from undo_jax import config as c

CHECKPOINT = "checkpoints/smollm2"
SIZES = ("tiny", "full", "tofu_tiny", "tofu")


def get_config(arg: str | None = None) -> c.Config:
  """Return the config of a size, see SIZES."""
  size = c.parse_size(arg, SIZES)
  if size.startswith("tofu"):
    return _tofu(tiny=size == "tofu_tiny")
  return _tiny() if size == "tiny" else _full()


def _run(task: str, *, tiny: bool) -> c.Config:
  """Return what all sizes have: the model, and how it is computed."""
  config = c.run(task)
  config.model = c.preset("smollm2_135m")
  if tiny:  # On a CPU bfloat16 is slow, and so is what is recomputed.
    config.model.update(dtype="float32", remat="none")
  config.evaluation_rows = 4 if tiny else 32
  config.replicas_at_once = 1  # One member of an attack in memory at a time.
  config.models.given = c.given(CHECKPOINT)
  return config


# ---- English and Python.


def _language(*, tiny: bool, num_evaluation_rows: int) -> c.Config:
  config = _run("language", tiny=tiny)
  config.data = c.block(
    tokenizer=f"huggingface:{CHECKPOINT}",  # The model's own.
    sequence_length=128 if tiny else 512,  # L, tokens a row.
    packing="packed",  # Keeps documents' tails.
    num_evaluation_rows=num_evaluation_rows,  # Held-out rows scored of each kind.
    # English.
    retain=c.documents(
      paths=("data/english",), validation_fraction=0.05, test_fraction=0.05
    ),
    # Python: modules that are forgotten, a part of them held out ...
    forget=c.documents(
      paths=c.standard_library("a-m"), validation_fraction=0.1, test_fraction=0.2
    ),
    # ... and those that the attacker has.
    attack=c.documents(paths=c.standard_library("n-z"), validation_fraction=0.0),
  )
  config.mixtures = c.mixtures(
    unlearn_forget={"forget": 1.0},
    unlearn_retain={"retain": 1.0},
    distill={"retain": 1.0, "forget": 0.0, "attack": 0.0},
    attack={"attack": 1.0},
    attack_mixed={"attack": 0.5, "retain": 0.5},
  )
  config.references.update(base="given", unlearned="max_ent")
  return config


def _declare(
  config: c.Config,
  *,
  rows: int,
  unlearning: int,
  rates: tuple[float, float, float],
) -> None:
  """Declare the unlearned models: so many updates of so many rows of each kind.

  Args:
    config: of the run.
    rows: a batch of each kind.
    unlearning: updates.
    rates: of GradDiff, MaxEnt and RMU.
  """
  models = config.models
  start = config.references.base

  def optimizer(learning_rate: float) -> c.Config:
    return c.optimizer(num_steps=unlearning, learning_rate=learning_rate)

  models.grad_diff = c.unlearn(
    "grad_diff",
    start=start,
    options=c.weights(retain=1.0),
    optimizer=optimizer(rates[0]),
    batch_size=rows,
  )
  models.max_ent = c.unlearn(
    "max_ent",
    start=start,
    options=c.weights(retain=1.0),
    optimizer=optimizer(rates[1]),
    batch_size=rows,
  )
  models.rmu = c.unlearn(
    "rmu",
    start=start,
    # States after layer 10 have a length of about 140, twice of which is the target;
    # after layer 11 the first token's has 24,000, which no other term is heard beside.
    options=c.rmu(layers=(8, 9, 10), coefficient=300.0, retain=10.0),
    optimizer=optimizer(rates[2]),
    batch_size=rows,
  )


def _undo(
  config: c.Config,
  *,
  alphas: tuple[float, ...],
  num_steps: int,
  learning_rate: float,
  batch_size: int,
  shaped_alpha: float,
  saliency_batches: int,
) -> None:
  """Declare UNDO: noise on all weights, and on the half that forgetting is about.

  Args:
    config: of the run.
    alphas: of the noise on all weights.
    num_steps: updates of the distillation.
    learning_rate: its highest.
    batch_size: rows an update.
    shaped_alpha: of the noise on half of the weights.
    saliency_batches: whose gradients choose that half, of each kind.
  """
  config.models.undo = c.undo(
    teacher="max_ent",
    base=config.references.base,
    alphas=alphas,
    optimizer=c.cosine(num_steps=num_steps, learning_rate=learning_rate),
    batch_size=batch_size,
  )
  config.models.undo_shaped = c.shaped(
    config.models.undo,
    shares=(0.5,),
    alpha=shaped_alpha,
    saliency={
      "model": config.references.base,
      "num_batches": saliency_batches,
      "batch_size": config.models.max_ent.batch_size,
    },
  )


def _attack(
  config: c.Config,
  *,
  rates: tuple[float, ...],
  lora_rates: tuple[float, ...],
  num_steps: int,
  evaluate_every: int,
  batch_size: int,
) -> None:
  relearn = c.attack(
    learning_rates=rates,
    num_steps=num_steps,
    evaluate_every=evaluate_every,
    evaluations_per_call=1,
    batch_size=batch_size,
  )
  config.attacks.relearn = relearn
  config.attacks.lora = c.lora(relearn, rank=16, learning_rates=lora_rates)
  # Edits of the weights, if asked for by --config.attacks.quantization.run=True.
  config.attacks.update(c.edits())
  c.further_attacks(config.attacks, relearn, num_layers=config.model.num_layers)
  config.report = c.report(budgets=(evaluate_every, num_steps))


def _small(config: c.Config, *, steps: int) -> None:
  """Declare models and attacks that are few and short enough for 2 cores.

  Args:
    config: of the run.
    steps: updates of UNDO's distillation, of 4 rows.
  """
  _declare(config, rows=2, unlearning=24, rates=(6e-5, 1e-4, 1.5e-3))
  _undo(
    config,
    alphas=(0.1, 0.3),
    num_steps=steps,
    learning_rate=3e-4,
    batch_size=4,
    shaped_alpha=0.6,
    saliency_batches=8,
  )
  config.models.undo.optimizer.warmup_steps = 4
  _attack(
    config,
    rates=(3e-5, 1e-4),
    lora_rates=(1e-3,),
    num_steps=16,
    evaluate_every=8,
    batch_size=2,
  )


def _tiny() -> c.Config:
  config = _language(tiny=True, num_evaluation_rows=8)
  _small(config, steps=40)
  config.models.given.is_attacked = False
  return config


def _full() -> c.Config:
  config = _language(tiny=False, num_evaluation_rows=256)
  _declare(config, rows=16, unlearning=200, rates=(2e-5, 5e-5, 1e-4))
  # 16 M tokens of distillation.
  _undo(
    config,
    alphas=(0.1, 0.25, 0.5),
    num_steps=1000,
    learning_rate=3e-4,
    batch_size=32,
    shaped_alpha=0.8,
    saliency_batches=100,
  )
  _attack(
    config,
    rates=(1e-5, 2e-5, 5e-5, 1e-4, 2e-4),
    lora_rates=(1e-4, 3e-4, 1e-3, 3e-3),
    num_steps=500,
    evaluate_every=25,
    batch_size=8,
  )
  # An attacker who mixes English in.
  config.attacks.relearn_mixed = c.like(config.attacks.relearn, mixture="attack_mixed")
  return config


# ---- TOFU's authors.


def _authors(*, tiny: bool) -> c.Config:
  """Return a run on TOFU's authors, without what is done to the model."""
  config = _run("tofu", tiny=tiny)
  config.data = c.block(
    directory="data/tofu",  # Holds the files.
    files=c.block(
      forget="forget10.json",  # Authors to be forgotten ...
      forget_perturbed="forget10_perturbed.json",  # ... with wrong answers.
      retain="retain90.json",  # Kept authors ...
      retain_perturbed="retain_perturbed.json",  # ... with wrong answers.
      real_authors="real_authors_perturbed.json",  # Authors who exist.
      world_facts="world_facts_perturbed.json",  # The world.
    ),
    num_forget_authors=c.maybe(int),  # The file's first; None: all.
    num_retain_authors=c.maybe(int),  # Likewise.
    attacked_share=0.5,  # Of each forgotten author's questions, in (0, 1).
    # Questions scored, evenly spaced; None: all; 0 leaves a set out.
    num_evaluation=c.optional(
      int, forget=None, retain=40, forget_attacked=0, real_authors=20, world_facts=20
    ),
    num_perturbed=c.maybe(int),  # Wrong answers a question; None: all.
    template="Question: {question}\nAnswer: {answer}",  # Or chat: the tokenizer's.
    tokenizer=f"huggingface:{CHECKPOINT}",  # The model's own.
    sequence_length=128,  # L, tokens a row; the longest question has 101.
    packing="packed",  # Several questions a row; one_per_row pads.
  )
  config.mixtures = c.mixtures(
    learn={"retain": 0.9, "forget": 0.1},  # As many of each as there are.
    data_filtering={"retain": 1.0},
    unlearn_forget={"forget": 1.0},
    unlearn_retain={"retain": 1.0},
    distill={"retain": 0.8, "real_authors": 0.1, "world_facts": 0.1},
    attack={"attack": 1.0},
    attack_mixed={"attack": 0.5, "retain": 0.5},
  )
  config.references.update(
    base="learned", filtered="data_filtering", unlearned="max_ent"
  )
  if tiny:
    config.data.num_forget_authors, config.data.num_retain_authors = 2, 18
    config.data.num_perturbed = 2
    config.data.num_evaluation.update(retain=12, real_authors=0, world_facts=0)
  return config


def _tofu(*, tiny: bool) -> c.Config:
  config = _authors(tiny=tiny)
  # Five epochs in the paper; :tiny has about 25,000 tokens an epoch.
  models = config.models
  models.learned = c.finetune(
    start="given",
    mixture="learn",
    optimizer=c.cosine(
      num_steps=150 if tiny else 1500,
      learning_rate=1e-4 if tiny else 5e-5,
      warmup_steps=5,
    ),
    batch_size=4 if tiny else 16,
  )
  models.data_filtering = c.data_filtering(models.learned, mixture="data_filtering")
  if tiny:
    _small(config, steps=60)
    return config
  _declare(config, rows=8, unlearning=250, rates=(1e-5, 2e-5, 1e-4))
  _undo(
    config,
    alphas=(0.1, 0.25, 0.5),
    num_steps=1000,
    learning_rate=3e-4,
    batch_size=32,
    shaped_alpha=0.8,
    saliency_batches=100,
  )
  _attack(
    config,
    rates=(1e-5, 2e-5, 5e-5, 1e-4),
    lora_rates=(1e-4, 3e-4, 1e-3),
    num_steps=200,
    evaluate_every=20,
    batch_size=8,
  )
  config.attacks.relearn_mixed = c.like(config.attacks.relearn, mixture="attack_mixed")
  return config
