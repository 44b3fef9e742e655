"""The arithmetic setting of the UNDO paper: keep + and -, forget * and /.

COMMAND, 9 minutes on 2 CPU cores (7 with --num_workers=2), ends in
runs/arithmetic/report.html:

  python -m experiments.undo --config=configs/arithmetic.py:tiny \
      --workdir=runs/arithmetic

Sizes: `tiny` trains 0.4 M parameters on equations, one in each row. `small` trains
1.3 M on packed equations, word problems and English text (two hours; docs/languages.md
says where the text comes from). `paper` is the paper's 0.3 B model with its schedules
and Gemma's tokenizer; three quarters of its data are English from data/fineweb.

Every value can be overridden:
--config.models.undo.sweep.noise.alpha="(0.2,0.8)".

Reference: arXiv 2506.06278, section 4 and appendix (arithmetic).
"""

from typing import Any

from undo_jax import config as c

# A prompt under which the teacher predicts as if it had forgotten; `tiny` has no words.
PROMPT = "The following has no products and no quotients in it.\n"
# Learning rates, in `tiny`, of the methods with run=False. Each is the one of 1e-4,
# 3e-4 and 1e-3 (5e-4 for the two adversarial methods) with the lowest forget score, and
# among equals the highest retain score, on seed 0 before any attack. The scores were
# those of the tables: `undo-jax search`, which reads other items, is fairer.
METHOD_RATES = {
  "npo": 3e-4,
  "simnpo": 1e-3,
  "wga": 3e-4,
  "satimp": 1e-3,
  "ce_u": 3e-4,
  "undial": 1e-4,
  "jensun": 3e-4,
  "idk_dpo": 1e-3,
  "adaptive_rmu": 1e-3,
  "circuit_breakers": 1e-3,
  "latent_adversarial": 5e-4,
  "tamper_resistance": 5e-4,
  "distance": 1e-3,
  # These were not compared with others.
  "invariant": 3e-4,
  "mudman": 0.1,
  "rep_select": 0.05,
  "task_vector": 1e-4,
  "weight_distortion": 1e-3,
}


def get_config(arg: str | None = None) -> c.Config:
  """Return the config of a size: tiny, small or paper."""
  size = c.parse_size(arg, ("tiny", "small", "paper"))
  config = _tiny()
  if size == "small":
    _make_small(config)
  if size == "paper":
    _make_paper(config)
  c.further_attacks(
    config.attacks,
    config.attacks.relearn,
    num_layers=config.model.num_layers,
    ranks=(16, 48) if size == "tiny" else (16, 64),  # Its kernels are 48 wide.
  )
  return config


def _tiny() -> c.Config:
  config = c.run("arithmetic")
  # Programs whose arrays stay in the processors' caches; accelerators take more.
  config.evaluation_rows = 64
  config.replicas_at_once = 1
  config.data = c.block(
    num_equations=20_000,  # Training equations of retain and of forget each.
    num_word_problems=0,  # Training word problems, likewise of each.
    # Share of the products (and their inverse quotients) that the attacker trains on;
    # `forget` is scored on the others.
    attacked_share=0.5,
    validation_share=0.15,  # Share of sums and products for stop rules alone.
    num_evaluation=100,  # Scored problems of each operation, kind and part.
    num_evaluation_rows=32,  # Held-out rows of English, if there is any.
    # Other values: characters:ascii, bytes, sentencepiece:PATH, huggingface:PATH.
    tokenizer="characters:arithmetic",
    sequence_length=16,  # L, tokens a row.
    packing="one_per_row",  # Or packed (keeps tails), reference (as in the paper).
  )
  # English text that is mixed in; without paths there is none.
  config.data.english = c.documents(validation_fraction=0.05, test_fraction=0.05)
  # The splits, with weights, that each stage draws its rows from; 0 leaves one out.
  config.mixtures = c.mixtures(
    pretrain={"retain": 0.5, "forget": 0.5, "english": 0.0},
    data_filtering={"retain": 1.0},
    unlearn_forget={"forget": 1.0},
    unlearn_retain={"retain": 1.0},
    distill={"retain": 0.5, "forget": 0.5},
    attack={"attack": 1.0},
  )
  config.model = c.small_model(
    vocab_size=32, num_layers=3, width=96, mlp_width=384, init_std=0.06
  )
  _declare_models(config.models)
  _declare_around(config.models)
  config.references.update(base="base", filtered="data_filtering", unlearned="max_ent")
  config.attacks.relearn = c.attack(
    learning_rates=(3e-5, 1e-4, 3e-4, 1e-3, 3e-3),
    num_steps=120,
    evaluate_every=10,
    batch_size=32,
  )
  # The same attack with adapters, which --config.attacks.lora.run=True runs.
  config.attacks.lora = c.lora(config.attacks.relearn, rank=8, run=False)
  # Edits of the weights; --config.attacks.pruning.run=True, for example, runs one.
  config.attacks.update(c.edits())
  config.report = c.report(budgets=(20, 100))
  return config


def _declare_models(models: c.Config) -> None:
  """Declare the models: each is attacked, and those with run=False are not made."""
  rows = 128
  models.base = c.pretrain(
    mixture="pretrain",
    optimizer=c.cosine(num_steps=800, learning_rate=2e-3),
    batch_size=rows,
  )
  models.data_filtering = c.data_filtering(models.base, mixture="data_filtering")
  models.max_ent = c.unlearn(
    "max_ent",
    options=c.weights(retain=1.0),
    optimizer=c.optimizer(num_steps=60, learning_rate=3e-4),
    batch_size=rows,
  )
  models.grad_diff = c.unlearn(
    "grad_diff",
    options=c.weights(retain=15.0),  # As in the paper.
    optimizer=c.optimizer(num_steps=60, learning_rate=1.5e-4),
    batch_size=rows,
  )
  models.rmu = c.unlearn(
    "rmu",
    options=c.rmu(layers=(0, 1), coefficient=20.0, retain=10.0),
    optimizer=c.optimizer(num_steps=60, learning_rate=1e-3),
    batch_size=rows,
  )
  models.max_ent_sam = c.sharpness_aware(models.max_ent)
  models.max_ent_rep_noise = c.rep_noise(models.max_ent)
  _declare_methods(
    models,
    learning_rates=METHOD_RATES,
    num_steps=60,
    batch_size=rows,
    layers=(0, 1),
  )
  # The papers' values are for states ten times as wide, and for an adversary of 64
  # steps, which is 80 passes for each update.
  models.adaptive_rmu.options.retain_weight = 30.0
  models.latent_adversarial.options.update(
    retain_weight=20.0, radius=0.5, steps=8, step_size=0.125
  )
  models.tamper_resistance.options.update(
    retain_weight=20.0, adversary_rates=(3e-4, 1e-3), adversary_steps=8
  )
  # The base imitates data_filtering. There is no stop rule: its outputs match soon.
  models.oracle_matching = c.oracle_matching(
    optimizer=c.cosine(num_steps=400, learning_rate=2e-3), batch_size=rows
  )
  models.undo = c.undo(
    teacher="max_ent",
    alphas=(0.3, 0.5, 0.7),
    optimizer=c.cosine(num_steps=900, learning_rate=2e-3),
    batch_size=rows,
  )
  models.undo.stop = c.recovered(evaluate_every=25, tolerance=0.05, relative=False)
  models.unlearn_and_distill = c.unlearn_and_distill(models.undo)
  models.pruned = c.pruned(models.undo, shares=(0.3, 0.6, 0.9))


def _declare_methods(models: c.Config, **how: Any) -> None:
  """Declare further unlearning methods, all with run=False."""
  for name, entry in c.unlearning_methods(**how).items():
    models[name] = entry


def _declare_around(models: c.Config) -> None:
  """Declare the methods that go around MaxEnt, all with run=False."""
  for name, entry in c.around("max_ent", models.max_ent, label="MaxEnt").items():
    models[name] = entry


def _make_small(config: c.Config) -> None:
  """Make it 1.3 M parameters on packed English, equations and word problems."""
  config.evaluation_rows = 96
  config.replicas_at_once = 1
  config.data.update(
    num_equations=200_000,
    num_word_problems=100_000,
    num_evaluation=50,
    tokenizer="huggingface:data/libreoffice/tokenizer",
    sequence_length=128,
    packing="packed",
  )
  config.data.english.paths = ("data/libreoffice/retain.jsonl",)
  mixed = {"english": 0.2, "retain": 0.4, "forget": 0.4}
  config.mixtures.pretrain.update(mixed)
  config.mixtures.data_filtering.update({"english": 0.2, "retain": 0.8})
  config.mixtures.unlearn_retain.update({"english": 0.2, "retain": 0.8})
  config.mixtures.distill.update(mixed)
  config.model = c.small_model(
    vocab_size=2048,
    num_layers=4,
    width=128,
    mlp_width=512,
    init_std=0.05,
  )
  models = config.models
  schedule = {"learning_rate": 3e-3, "final_learning_rate": 3e-4}
  for name, num_steps in (("base", 4500), ("undo", 2000), ("oracle_matching", 800)):
    models[name].batch_size = 16
    models[name].optimizer.update(num_steps=num_steps, **schedule)
  models.unlearn_and_distill.optimizer.num_steps = (
    4500  # As many as pretraining: it also starts from random weights.
  )
  for name in ("max_ent", "grad_diff", "rmu"):
    models[name].batch_size = 16
  _declare_methods(
    models,
    learning_rates=METHOD_RATES,
    num_steps=60,
    batch_size=16,
    layers=(0, 1, 2),
  )
  models.max_ent.optimizer.update(num_steps=120, learning_rate=4e-4)
  models.max_ent.options.retain_weight = 3.0
  models.grad_diff.optimizer.learning_rate = 4e-4
  _declare_around(models)
  models.prompted = c.prompted(models.undo, PROMPT)
  config.attacks.relearn.update(
    learning_rates=(1e-4, 3e-4, 1e-3, 3e-3),
    num_steps=500,
    evaluate_every=20,
    evaluations_per_call=5,
    batch_size=4,
  )
  config.report.budgets = (40, 500)


def _make_paper(config: c.Config) -> None:
  """Make it the 0.3 B model at the paper's batch sizes and schedules."""
  config.checkpoint_every = 50
  config.evaluation_rows = 64
  config.replicas_at_once = 1
  config.data.update(
    num_equations=500_000,
    num_word_problems=500_000,
    num_evaluation_rows=240,
    tokenizer="huggingface:data/gemma-2-2b",
    sequence_length=256,
    packing="packed",
  )
  config.data.english.update(
    paths=("data/fineweb/english/*.parquet",),
    skip_empty=True,
    validation_fraction=0.0005,
    test_fraction=0.0005,
    validation_tokens=500_000,
    max_tokens=100_000_000,  # More than three quarters of what 1,000 updates read.
  )
  mixed = {"english": 0.75, "retain": 0.125, "forget": 0.125}
  config.mixtures.pretrain.update(mixed)
  config.mixtures.data_filtering.update({"english": 0.875, "retain": 0.125})
  config.mixtures.distill.update(mixed)
  config.model = c.preset("gemma2_0.3b")
  models = config.models
  rows = {"batch_size": 360, "num_microbatches": 24}
  # These are 92 M tokens; the learning rate is constant after its warm-up.
  models.base.update(rows)
  models.base.optimizer.update(
    num_steps=1000, learning_rate=4e-4, final_learning_rate=None, warmup_steps=50
  )
  for name in ("max_ent", "grad_diff", "rmu"):
    models[name].batch_size = 40
  models.max_ent.optimizer.update(num_steps=10, learning_rate=9e-5)
  for name in ("max_ent_sam", "max_ent_rep_noise"):
    models[name].optimizer.learning_rate = 8e-5
  _declare_methods(
    models,
    num_steps=10,
    batch_size=40,
    layers=(5, 6, 7, 8, 9, 10),
  )
  # The method's statistics are over five rows, as in the paper.
  models.max_ent_rep_noise.num_microbatches = 8
  models.grad_diff.num_microbatches = 2
  models.grad_diff.optimizer.update(num_steps=10, learning_rate=8e-6)
  models.rmu.optimizer.update(num_steps=500, learning_rate=8e-6)
  models.rmu.options.update(
    # The paper lists layers 5 to 11, but steers the output of layer 10, so layer 11
    # gets no gradient. The paper has no retain term here.
    layers=(5, 6, 7, 8, 9, 10),
    coefficient=6.0,
    retain_weight=0.0,
  )
  schedule = {"learning_rate": 7e-4, "final_learning_rate": 7e-5, "warmup_steps": 50}
  for name in ("undo", "oracle_matching"):
    models[name].update(rows)
    models[name].optimizer.update(num_steps=1000, **schedule)
  models.undo.sweep.noise.alpha = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
  models.undo.stop.evaluate_every = 20
  _declare_around(models)
  models.prompted = c.prompted(models.undo, PROMPT)
  # This attacker reads forget data alone. The paper's attacker has all forget data,
  # also those that are scored (--config.mixtures.attack.forget=1 and .attack=0). The
  # paper's second attacker reads the mixture of pretraining: .english=0.75, and 0.125
  # each of retain and forget.
  config.attacks.relearn.update(
    learning_rates=c.PAPER_RATES,
    num_steps=500,
    warmup_steps=1,
    evaluate_every=5,
    batch_size=15,
  )
  config.report.budgets = (40, 500)
