"""The language setting of the UNDO paper: keep English, forget Korean.

COMMAND, which ends in runs/language/report.html; docs/languages.md says where
the texts come from:

  python -m experiments.undo --config=configs/language.py:tiny --workdir=runs/language

Sizes: `tiny` trains 1.3 M parameters on the documentation of LibreOffice in both
languages; `paper` is the paper's 0.1 B model with its schedules and Gemma's tokenizer,
on FineWeb-Edu and FineWeb-2 (Korean) from local Parquet or JSON lines. Any two
languages or kinds of text will do: set data.retain.paths and data.forget.paths.

Reference: arXiv 2506.06278, section 4 and appendix (language).
"""

from undo_jax import config as c

# Learning rates of the methods with run=False.
METHOD_RATES = {
  "npo": 3e-4,
  "simnpo": 3e-4,
  "wga": 3e-4,
  "satimp": 3e-4,
  "ce_u": 3e-4,
  "undial": 3e-4,
  "jensun": 3e-4,
  "idk_dpo": 3e-4,
  "adaptive_rmu": 1e-3,
  "circuit_breakers": 3e-4,
  "latent_adversarial": 3e-4,
  "tamper_resistance": 3e-4,
  "distance": 3e-4,
  "invariant": 3e-4,
  "mudman": 0.1,
  "rep_select": 0.05,
  "task_vector": 1e-4,
  "weight_distortion": 3e-4,
}
# A prompt under which the teacher predicts as if it had forgotten.
PROMPT = "The following text is in a language that the reader has never learned.\n"


def get_config(arg: str | None = None) -> c.Config:
  """Return the config of a size: tiny or paper."""
  size = c.parse_size(arg, ("tiny", "paper"))
  config = _tiny() if size == "tiny" else _paper()
  c.further_attacks(
    config.attacks, config.attacks.relearn, num_layers=config.model.num_layers
  )
  for name, entry in c.around("max_ent", config.models.max_ent, label="MaxEnt").items():
    config.models[name] = entry
  config.models.prompted = c.prompted(config.models.undo, PROMPT)
  return config


def _language(
  *,
  directory: str,
  files: tuple[str, str],
  tokenizer: str,
  sequence_length: int,
  held_out: float,
  num_evaluation_rows: int,
) -> c.Config:
  config = c.run("language")
  config.data = c.block(
    # Other values: sentencepiece:PATH, bytes, characters:ascii.
    tokenizer=tokenizer,
    sequence_length=sequence_length,  # L, tokens a row.
    packing="packed",  # Keeps documents' tails; or reference (as in the paper).
    num_evaluation_rows=num_evaluation_rows,  # Scored held-out rows of each language.
  )
  for name, file in zip(("retain", "forget"), files, strict=True):
    config.data[name] = c.documents(
      paths=(f"{directory}/{file}",),
      validation_fraction=held_out,
      test_fraction=held_out,
    )
  config.mixtures = c.mixtures(
    pretrain={"retain": 0.5, "forget": 0.5},
    data_filtering={"retain": 1.0},
    unlearn_forget={"forget": 1.0},
    unlearn_retain={"retain": 1.0},
    distill={"retain": 0.5, "forget": 0.5},
    attack={"forget": 1.0},
  )
  config.references.update(base="base", filtered="data_filtering", unlearned="max_ent")
  config.report = c.report(budgets=(40, 500))
  return config


def _tiny() -> c.Config:
  config = _language(
    directory="data/libreoffice",
    files=("retain.jsonl", "forget.jsonl"),
    tokenizer="huggingface:data/libreoffice/tokenizer",
    sequence_length=128,
    held_out=0.05,
    num_evaluation_rows=48,
  )
  config.evaluation_rows = 96
  config.replicas_at_once = 1
  config.model = c.small_model(
    vocab_size=2048,
    num_layers=4,
    width=128,
    mlp_width=512,
    init_std=0.05,
  )
  models, rows = config.models, 32
  models.base = c.pretrain(
    mixture="pretrain",
    optimizer=c.cosine(num_steps=900, learning_rate=3e-3),
    batch_size=rows,
  )
  models.data_filtering = c.data_filtering(models.base, mixture="data_filtering")
  models.max_ent = c.unlearn(
    "max_ent",
    options=c.weights(retain=1.0),
    optimizer=c.optimizer(num_steps=60, learning_rate=5e-4),
    batch_size=16,
  )
  models.grad_diff = c.unlearn(
    "grad_diff",
    options=c.weights(retain=5.0),
    optimizer=c.optimizer(num_steps=40, learning_rate=3e-4),
    batch_size=16,
  )
  models.rmu = c.unlearn(
    "rmu",
    options=c.rmu(layers=(0, 1, 2), coefficient=20.0, retain=10.0),
    optimizer=c.optimizer(num_steps=60, learning_rate=1e-3),
    batch_size=16,
  )
  models.max_ent_sam = c.sharpness_aware(models.max_ent)
  models.max_ent_rep_noise = c.rep_noise(models.max_ent)
  methods = c.unlearning_methods(
    learning_rates=METHOD_RATES,
    num_steps=60,
    batch_size=16,
    layers=(0, 1, 2),
  )
  for name, entry in methods.items():
    models[name] = entry
  models.oracle_matching = c.oracle_matching(
    optimizer=c.cosine(num_steps=400, learning_rate=3e-3), batch_size=rows
  )
  models.undo = c.undo(
    teacher="max_ent",
    alphas=(0.2, 0.4, 0.6, 0.8),  # As in the paper's figure.
    optimizer=c.cosine(num_steps=900, learning_rate=3e-3),
    batch_size=rows,
  )
  models.undo.stop = c.recovered(evaluate_every=25, tolerance=0.05, relative=True)
  models.unlearn_and_distill = c.unlearn_and_distill(models.undo)
  models.pruned = c.pruned(models.undo, shares=(0.3, 0.6, 0.9))
  config.attacks.relearn = c.attack(
    learning_rates=(1e-4, 3e-4, 1e-3, 3e-3),
    num_steps=500,
    evaluate_every=20,
    evaluations_per_call=5,
    batch_size=4,
  )
  # The same attack with adapters, which --config.attacks.lora.run=True runs.
  config.attacks.lora = c.lora(config.attacks.relearn, rank=8, run=False)
  # Edits of the weights; --config.attacks.pruning.run=True, for example, runs one.
  config.attacks.update(c.edits())
  return config


def _paper() -> c.Config:
  """Return the 0.1 B model at the paper's batch sizes and schedules."""
  config = _language(
    directory="data/fineweb",
    files=("english/*.parquet", "korean/*.parquet"),
    tokenizer="huggingface:data/gemma-2-2b",
    sequence_length=2048,
    held_out=0.0005,  # As in the paper's code; about 500,000 tokens each.
    num_evaluation_rows=240,
  )
  for corpus in (config.data.retain, config.data.forget):
    corpus.max_tokens = 1_000_000_000
    corpus.validation_tokens = 500_000
    corpus.skip_empty = True
  config.evaluation_rows = 8
  config.replicas_at_once = 1
  config.checkpoint_every = 50
  config.model = c.preset("gemma2_0.1b")
  _declare_paper_models(config.models)
  config.attacks.relearn = c.attack(
    learning_rates=c.PAPER_RATES,
    num_steps=500,
    warmup_steps=1,
    evaluate_every=5,
    batch_size=8,
  )
  config.attacks.lora = c.lora(config.attacks.relearn, rank=8, run=False)
  # Edits of the weights; --config.attacks.pruning.run=True, for example, runs one.
  config.attacks.update(c.edits())
  return config


def _declare_paper_models(models: c.Config) -> None:
  # The base reads 2 B tokens of both languages; filtering reads 1 B of English.
  models.base = c.pretrain(
    mixture="pretrain",
    optimizer=c.optimizer(
      num_steps=2441,
      learning_rate=4e-4,
      final_learning_rate=4e-5,
      warmup_steps=50,
      weight_decay=0.1,
    ),
    batch_size=400,
    num_microbatches=80,
  )
  models.data_filtering = c.data_filtering(
    models.base, mixture="data_filtering", optimizer={"num_steps": 1220}
  )
  models.max_ent = c.unlearn(
    "max_ent",
    options=c.weights(retain=1.0),
    optimizer=c.optimizer(num_steps=100, learning_rate=3e-5),
    batch_size=4,
  )
  models.grad_diff = c.unlearn(
    "grad_diff",
    options=c.weights(retain=1.0),
    optimizer=c.optimizer(num_steps=100, learning_rate=6e-5),
    batch_size=4,
  )
  models.rmu = c.unlearn(
    "rmu",
    options=c.rmu(
      # The paper lists layers 5 to 11, but steers the output of layer 10, so layer 11
      # gets no gradient. The paper has no retain term here.
      layers=(5, 6, 7, 8, 9, 10),
      coefficient=6.5,
      retain=0.0,
    ),
    optimizer=c.optimizer(num_steps=500, learning_rate=3e-5),
    batch_size=4,
  )
  robust: c.Config = {"optimizer": {"learning_rate": 8e-5}}
  models.max_ent_sam = c.sharpness_aware(models.max_ent, **robust)
  # The method's statistics are over single rows, as in the paper.
  models.max_ent_rep_noise = c.rep_noise(models.max_ent, num_microbatches=4, **robust)
  methods = c.unlearning_methods(
    num_steps=100, batch_size=4, layers=(5, 6, 7, 8, 9, 10)
  )
  for name, entry in methods.items():
    models[name] = entry
  rows: c.Config = {"batch_size": 240, "num_microbatches": 60}
  schedule: c.Config = {
    "learning_rate": 9e-4,
    "final_learning_rate": 7e-4,
    "warmup_steps": 50,
  }
  # The values are those of unlearn_and_distill; the paper gives none.
  models.oracle_matching = c.oracle_matching(
    optimizer=c.optimizer(num_steps=1000, weight_decay=0.1, **schedule), **rows
  )
  models.undo = c.undo(
    teacher="max_ent",
    alphas=(0.2, 0.4, 0.6, 0.8),
    # At most one epoch; the stop rule may end it earlier.
    optimizer=c.optimizer(num_steps=4069, **schedule),
    **rows,
  )
  models.undo.stop = c.recovered(evaluate_every=50, tolerance=0.05, relative=True)
  models.unlearn_and_distill = c.unlearn_and_distill(
    models.undo, optimizer={"num_steps": 1000, "weight_decay": 0.1}
  )
