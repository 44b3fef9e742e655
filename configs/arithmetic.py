"""The arithmetic setting of the UNDO paper: keep + and -, forget * and /.

COMMAND, 5 to 9 minutes on 2 CPU cores, ends in runs/arithmetic/report.html:

  python -m experiments.undo --config=configs/arithmetic.py:tiny \
      --workdir=runs/arithmetic

Sizes: `tiny` trains 0.4 M parameters on equations, one a row; `small` 1.3 M on
packed equations, word problems and English text (README's section on languages says
where that comes from; two hours); `paper` is the paper's 0.3 B model with its
schedules, three quarters of its data English from data/fineweb and Gemma's tokenizer.
Every value can be overridden: --config.undo.alphas="(0.2,0.8)".

Reference: arXiv 2506.06278, section 4 and appendix (arithmetic).
"""

from typing import Any

from ml_collections import config_dict

from configs import common


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """Returns the config of a size: tiny, small or paper."""
  size = common.parse_size(arg, ("tiny", "small", "paper"))
  config = _tiny()
  if size == "small":
    _make_small(config)
  if size == "paper":
    _make_paper(config)
  return config


def _tiny() -> config_dict.ConfigDict:
  config = common.run("arithmetic")
  config.data = config_dict.create(
    num_equations=20_000,  # Training equations for retain and for forget each.
    num_word_problems=0,  # Training word problems for each, likewise.
    num_evaluation=100,  # Problems scored for each operation and kind.
    num_evaluation_rows=32,  # Held-out rows of English, where there is any.
    # Or characters:ascii, bytes, sentencepiece:PATH, huggingface:PATH.
    tokenizer="characters:arithmetic",
    sequence_length=16,  # L, tokens a row.
    packing="one_per_row",  # Or packed (keeps tails), reference (the paper's).
  )
  # Text that is mixed in; no paths: none.
  config.data.english = common.documents(validation_fraction=0.05)
  # What each stage's rows are drawn from: splits by weight, 0 leaves one out.
  config.mixtures = common.mixtures(
    pretrain={"retain": 0.5, "forget": 0.5, "english": 0.0},
    data_filtering={"retain": 1.0},
    unlearn_forget={"forget": 1.0},
    unlearn_retain={"retain": 1.0},
    distill={"retain": 0.5, "forget": 0.5},
    attack={"forget": 1.0},
  )
  config.model = common.small_model(
    vocab_size=32, num_layers=3, width=96, mlp_width=384, init_std=0.06
  )
  batch_size = 128
  config.pretrain = common.cosine(
    num_steps=800, learning_rate=2e-3, batch_size=batch_size
  )
  config.data_filtering = common.changes()  # Against pretrain.
  config.unlearn = config_dict.ConfigDict()
  # Each is attacked. The blocks below that are not named here are not run.
  config.unlearn.methods = ("max_ent", "grad_diff", "rmu")
  config.unlearn.max_ent = common.training(
    num_steps=60, learning_rate=3e-4, batch_size=batch_size
  )
  config.unlearn.max_ent.options = common.weights(retain=1.0)
  config.unlearn.grad_diff = common.training(
    num_steps=60, learning_rate=1.5e-4, batch_size=batch_size
  )
  config.unlearn.grad_diff.options = common.weights(retain=15.0)  # The paper's.
  config.unlearn.rmu = common.training(
    num_steps=60, learning_rate=1e-3, batch_size=batch_size
  )
  config.unlearn.rmu.options = common.rmu(layers=(0, 1), coefficient=20.0, retain=10.0)
  config.unlearn.update(common.robust_baselines(config.unlearn.max_ent))
  config.undo = config_dict.create(
    teacher="max_ent",  # The unlearned model that is noised and distilled.
    alphas=(0.3, 0.5, 0.7),  # Noise strengths in [0, 1].
    beta=0.1,  # Scale of the noise in [0, 1]; 0: pure shrinking.
    unlearn_and_distill=True,  # Also distill into a random student.
    oracle_matching=True,  # Also train base to imitate data_filtering.
  )
  config.distill = common.cosine(
    num_steps=900, learning_rate=2e-3, batch_size=batch_size
  )
  config.distill.options = common.distillation()
  config.distill.stop = common.stop(evaluate_every=25, tolerance=0.05, relative=False)
  config.unlearn_and_distill = common.changes()  # Of the random student's distillation.
  # Imitation of data_filtering by base; no stop rule, its outputs match soon.
  config.oracle = common.cosine(
    num_steps=400, learning_rate=2e-3, batch_size=batch_size
  )
  config.attack = common.attack(
    learning_rates=(3e-5, 1e-4, 3e-4, 1e-3, 3e-3),
    num_steps=120,
    evaluate_every=10,
    batch_size=32,
  )
  config.report = common.report(budgets=(20, 100))
  return config


def _make_small(config: Any) -> None:
  """English, equations and word problems, packed; a model of 1.3 M parameters."""
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
  config.model = common.small_model(
    vocab_size=2048,
    num_layers=4,
    width=128,
    mlp_width=512,
    init_std=0.05,
    scan_unroll=4,
  )
  training = {"learning_rate": 3e-3, "final_learning_rate": 3e-4, "batch_size": 16}
  config.pretrain.update(num_steps=4500, **training)
  config.distill.update(num_steps=2000, **training)
  config.unlearn_and_distill.num_steps = 4500  # From nothing, as pretraining.
  config.oracle.update(num_steps=800, **training)
  for method in ("max_ent", "grad_diff", "rmu", "max_ent_sam", "max_ent_rep_noise"):
    config.unlearn[method].batch_size = 16
  for method in ("max_ent", "max_ent_sam", "max_ent_rep_noise"):
    config.unlearn[method].update(num_steps=120, learning_rate=4e-4)
    config.unlearn[method].options.retain_weight = 3.0
  config.unlearn.grad_diff.learning_rate = 4e-4
  config.attack.update(
    learning_rates=(1e-4, 3e-4, 1e-3, 3e-3),
    num_steps=500,
    evaluate_every=20,
    evaluations_per_call=5,
    batch_size=4,
  )
  config.report.budgets = (40, 500)


def _make_paper(config: Any) -> None:
  """The 0.3 B model at the paper's batch sizes and schedules."""
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
    validation_tokens=500_000,
    max_tokens=100_000_000,  # Three quarters of what 1,000 updates read, and more.
  )
  mixed = {"english": 0.75, "retain": 0.125, "forget": 0.125}
  config.mixtures.pretrain.update(mixed)
  config.mixtures.data_filtering.update({"english": 0.875, "retain": 0.125})
  config.mixtures.distill.update(mixed)
  config.model = common.preset("gemma2_0.3b")
  # 92 M tokens; the rate is constant after its warm-up.
  rows = {"batch_size": 360, "num_microbatches": 24}
  config.pretrain = common.training(
    num_steps=1000, learning_rate=4e-4, warmup_steps=50, **rows
  )
  config.unlearn.max_ent.update(num_steps=10, learning_rate=9e-5, batch_size=40)
  baseline = {"num_steps": 10, "learning_rate": 8e-5, "batch_size": 40}
  config.unlearn.max_ent_sam.update(baseline)
  # Its statistics are of five rows, as those of the paper's.
  config.unlearn.max_ent_rep_noise.update(baseline, num_microbatches=8)
  config.unlearn.grad_diff.update(
    num_steps=10, learning_rate=8e-6, batch_size=40, num_microbatches=2
  )
  config.unlearn.rmu.update(num_steps=500, learning_rate=8e-6, batch_size=40)
  config.unlearn.rmu.options.update(
    # The paper's lists 5 to 11, but steers the output of layer 10, so that its last
    # one has no gradient; and it has no retain term here.
    layers=(5, 6, 7, 8, 9, 10),
    coefficient=6.0,
    retain_weight=0.0,
  )
  config.undo.alphas = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
  stop, options = config.distill.stop, config.distill.options
  stop.evaluate_every = 20
  for name in ("distill", "oracle"):
    config[name] = common.training(
      num_steps=1000,
      learning_rate=7e-4,
      final_learning_rate=7e-5,
      warmup_steps=50,
      **rows,
    )
  config.distill.stop, config.distill.options = stop, options
  # On forget data alone; the paper's other attack reads the mixture of pretraining:
  # --config.mixtures.attack.english=0.75 and 0.125 of each of the others.
  config.attack.update(
    learning_rates=common.PAPER_RATES,
    num_steps=500,
    warmup_steps=1,
    evaluate_every=5,
    evaluations_per_call=1,
    batch_size=15,
  )
  config.report.budgets = (40, 500)
