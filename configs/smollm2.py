"""A real pretrained model: SmolLM2-135M-Instruct, or any checkpoint in its place.

COMMANDS (docs/your_own_model.md says where weights and texts come from):

  python -m experiments.undo --config=configs/smollm2.py:tiny --workdir=runs/smollm2
  python -m experiments.undo --config=configs/smollm2.py:tofu_tiny --workdir=runs/tofu

`tiny` and `full` keep English, the documents of data/english, and forget Python, the
standard library of the interpreter that runs. Modules from a to m are forgotten, and a
share of them is held out for the scores; the attacker has those from n to z, which no
model is trained on here. `tofu_tiny` and `tofu` first finetune the model on TOFU's
fictitious authors (data/tofu) and then forget some of these. The attacker relearns
other facts about the forgotten authors than those that are scored.

The sizes `tiny` and `tofu_tiny` are for 2 cores of a CPU, `full` and `tofu` for an
accelerator.

References: SmolLM2, arXiv 2502.02737; TOFU, arXiv 2401.06121; UNDO, arXiv 2506.06278.
"""

from collections.abc import Mapping

from undo_jax import config as c

CHECKPOINT = "checkpoints/smollm2"
# " I don't know." in the model's tokens, for methods that teach an answer.
ANSWER = (339, 1326, 982, 699, 30)
SIZES = ("tiny", "full", "tofu_tiny", "tofu")
# Learning rates of the methods with run=False in `tiny` and `tofu_tiny`. In `tiny`, on
# seed 0, 1e-4, 3e-4 and 8e-4 were tried for npo, simnpo, wga and undial, and 3e-4, 9e-4
# and 2.4e-3 for circuit_breakers: these forget most, before any attack, of those that
# cost English at most .3 nats. The others' were tried once, or lowered until they cost
# no more: 8e-4 costs .39 nats with ce_u and .57 with jensun, 2e-4 costs 3.7 with
# latent_adversarial, 1.5e-3 and 4e-3 cost 3.5 and 7.3 with adaptive_rmu (which forgets
# nothing at 4e-4), 6e-5 costs 3.1 with tamper_resistance (6e-6 forgets nothing). The
# exception is task_vector, which costs .41.
SMALL_RATES = {
  "npo": 8e-4,
  "simnpo": 8e-4,
  "wga": 3e-4,
  "satimp": 8e-4,
  "ce_u": 3e-4,
  "undial": 8e-4,
  "jensun": 3e-4,
  "idk_dpo": 8e-4,
  "adaptive_rmu": 8e-4,
  "circuit_breakers": 2.4e-3,
  "latent_adversarial": 6e-5,
  "tamper_resistance": 2e-5,
  "invariant": 3e-4,
  "mudman": 0.3,
  "rep_select": 0.2,
  "distance": 8e-4,
  "task_vector": 1e-4,
  "weight_distortion": 1e-4,
}


def get_config(arg: str | None = None) -> c.Config:
  """Return the config of a size, see SIZES."""
  size = c.parse_size(arg, SIZES)
  if size.startswith("tofu"):
    return _tofu(tiny=size == "tofu_tiny")
  return _tiny() if size == "tiny" else _full()


def _run(task: str, *, tiny: bool) -> c.Config:
  """Return the config that all sizes share: the model, and how it is computed."""
  config = c.run(task)
  config.model = c.preset("smollm2_135m")
  if tiny:  # What is fast on a CPU: no bfloat16, no recomputation, no loop of layers.
    layers = config.model.num_layers
    config.model.update(dtype="float32", remat="none", scan_unroll=layers)
  config.evaluation_rows = 12 if tiny else 32
  config.replicas_at_once = 1  # The moments of one member of an attack at a time.
  # The memory of an update is taken anew for each dispatch, which may cost as much time
  # as the update.
  config.updates_at_once = 8 if tiny else 1
  config.models.given = c.given(CHECKPOINT)
  return config


# ---- English and Python.


def _language(*, tiny: bool, num_evaluation_rows: int) -> c.Config:
  config = _run("language", tiny=tiny)
  config.data = c.block(
    tokenizer=f"huggingface:{CHECKPOINT}",  # The model's own.
    sequence_length=128 if tiny else 512,  # L, tokens a row.
    packing="packed",  # Keeps documents' tails.
    num_evaluation_rows=num_evaluation_rows,  # Scored held-out rows of each kind.
    # English.
    retain=c.documents(
      paths=("data/english",), validation_fraction=0.05, test_fraction=0.05
    ),
    # Python: the modules that are forgotten, some of them held out for the scores.
    forget=c.documents(
      paths=c.standard_library("a-m"), validation_fraction=0.1, test_fraction=0.2
    ),
    # Python: the modules that the attacker has.
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
  further: Mapping[str, float] = c.METHOD_RATES,
) -> None:
  """Declare the unlearned models.

  Args:
    config: of the run.
    rows: in a batch, of each kind.
    unlearning: number of updates.
    rates: learning rates of GradDiff, MaxEnt and RMU.
    further: learning rates of the methods with run=False, by their names.
  """
  models = config.models
  start = config.references.base
  layers = (8, 9, 10)

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
    # States after layer 10 have a length of about 140, and the target is twice as long.
    # After layer 11 the first token's state has a length of 24,000, which would drown
    # all other terms.
    options=c.rmu(layers=layers, coefficient=300.0, retain=10.0),
    optimizer=optimizer(rates[2]),
    batch_size=rows,
  )
  methods = c.unlearning_methods(
    num_steps=unlearning,
    batch_size=rows,
    layers=layers,
    answer=ANSWER,
    learning_rates=further,
    start=start,
  )
  for name, entry in methods.items():
    models[name] = entry


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
  """Declare UNDO with noise on all weights, and on the half salient for forget data.

  Args:
    config: of the run.
    alphas: of the noise on all weights.
    num_steps: updates of the distillation.
    learning_rate: the distillation's highest.
    batch_size: rows in an update.
    shaped_alpha: of the noise on half of the weights.
    saliency_batches: number of batches of each kind whose gradients choose that half.
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
    evaluations_per_call=2,
    batch_size=batch_size,
  )
  config.attacks.relearn = relearn
  config.attacks.lora = c.lora(relearn, rank=16, learning_rates=lora_rates)
  # Edits of the weights; --config.attacks.quantization.run=True, for example, runs one.
  config.attacks.update(c.edits())
  c.further_attacks(config.attacks, relearn, num_layers=config.model.num_layers)
  config.report = c.report(budgets=(evaluate_every, num_steps))


def _small(config: c.Config, *, alphas: tuple[float, ...]) -> None:
  """Declare models and attacks that are few and short enough for 2 cores.

  Args:
    config: of the run.
    alphas: of the noise on all weights.
  """
  _declare(
    config, rows=2, unlearning=24, rates=(6e-5, 1e-4, 1.5e-3), further=SMALL_RATES
  )
  _undo(
    config,
    alphas=alphas,
    num_steps=40,
    learning_rate=3e-4,
    batch_size=4,
    shaped_alpha=0.6,
    saliency_batches=8,
  )
  config.models.undo.optimizer.warmup_steps = 4
  # The paper's 64 steps of the adversary before each update would take half an hour.
  config.models.tamper_resistance.options.adversary_steps = 8
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
  _small(config, alphas=(0.1, 0.3, 0.5))
  config.models.given.is_attacked = False
  return config


def _full() -> c.Config:
  config = _language(tiny=False, num_evaluation_rows=256)
  _declare(config, rows=16, unlearning=200, rates=(2e-5, 5e-5, 1e-4))
  # Distillation on 16 M tokens.
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
  # This attacker mixes English in.
  config.attacks.relearn_mixed = c.like(config.attacks.relearn, mixture="attack_mixed")
  return config


# ---- TOFU's authors.


def _authors(*, tiny: bool) -> c.Config:
  """Return a run on TOFU's authors that has data, but no models and attacks yet."""
  config = _run("tofu", tiny=tiny)
  config.data = c.block(
    directory="data/tofu",  # Where the files are.
    files=c.block(
      forget="forget10.json",  # Authors to be forgotten.
      forget_perturbed="forget10_perturbed.json",  # The same with wrong answers.
      retain="retain90.json",  # Authors to be kept.
      retain_perturbed="retain_perturbed.json",  # The same with wrong answers.
      real_authors="real_authors_perturbed.json",  # Authors who exist.
      world_facts="world_facts_perturbed.json",  # Facts about the world.
    ),
    num_forget_authors=c.maybe(int),  # The first ones of the file; None: all.
    num_retain_authors=c.maybe(int),  # Likewise.
    attacked_share=0.5,  # Of the questions about each forgotten author, in (0, 1).
    # Number of scored questions, evenly spaced; None: all; 0 leaves a set out.
    num_evaluation=c.optional(
      int, forget=None, retain=40, forget_attacked=0, real_authors=20, world_facts=20
    ),
    num_perturbed=c.maybe(int),  # Wrong answers for each question; None: all.
    template="Question: {question}\nAnswer: {answer}",  # Or chat: its template.
    tokenizer=f"huggingface:{CHECKPOINT}",  # The model's own.
    sequence_length=128,  # L, tokens a row; the longest question has 101.
    packing="packed",  # Several questions in a row; one_per_row pads.
  )
  config.mixtures = c.mixtures(
    learn={"retain": 0.9, "forget": 0.1},  # In the proportion of the files.
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
    config.data.num_evaluation.update(retain=8, real_authors=0, world_facts=0)
  return config


def _tofu(*, tiny: bool) -> c.Config:
  config = _authors(tiny=tiny)
  # The paper trains for five epochs; in :tiny an epoch has about 25,000 tokens.
  models = config.models
  models.learned = c.finetune(
    start="given",
    mixture="learn",
    optimizer=c.cosine(
      num_steps=120 if tiny else 1500,
      learning_rate=1e-4 if tiny else 5e-5,
      warmup_steps=5,
    ),
    batch_size=4 if tiny else 16,
  )
  models.data_filtering = c.data_filtering(models.learned, mixture="data_filtering")
  if tiny:
    _small(config, alphas=(0.1, 0.3))
    models.given.is_attacked = models.learned.is_attacked = False
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
