"""The language setting of the UNDO paper: keep English, forget Korean.

COMMAND, which ends in runs/language/report.html; README's section on languages says
where the texts come from:

  python -m experiments.undo --config=configs/language.py:tiny --workdir=runs/language

Sizes: `tiny` trains 1.3 M parameters on the documentation of LibreOffice in both
languages; `paper` is the paper's 0.1 B model on FineWeb-Edu and FineWeb-2 (Korean) with
its schedules, from local Parquet or JSON lines and with Gemma's tokenizer. Any two
languages or kinds of text do: data.retain.paths and data.forget.paths.

Reference: arXiv 2506.06278, section 4 and appendix (language).
"""

from typing import Any

from ml_collections import config_dict

from configs import common


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """Returns the config of a size: tiny or paper."""
  size = common.parse_size(arg, ("tiny", "paper"))
  return _tiny() if size == "tiny" else _paper()


def _language(
  *,
  directory: str,
  files: tuple[str, str],
  tokenizer: str,
  sequence_length: int,
  validation_fraction: float,
  num_evaluation_rows: int,
) -> config_dict.ConfigDict:
  config = common.run("language")
  config.data = config_dict.create(
    # Or sentencepiece:PATH, bytes, characters:ascii.
    tokenizer=tokenizer,
    sequence_length=sequence_length,  # L, tokens a row.
    packing="packed",  # Keeps documents' tails; or reference (the paper's).
    num_evaluation_rows=num_evaluation_rows,  # Held-out rows scored of each language.
  )
  for name, file in zip(("retain", "forget"), files, strict=True):
    config.data[name] = common.documents(
      paths=(f"{directory}/{file}",), validation_fraction=validation_fraction
    )
  config.mixtures = common.mixtures(
    pretrain={"retain": 0.5, "forget": 0.5},
    data_filtering={"retain": 1.0},
    unlearn_forget={"forget": 1.0},
    unlearn_retain={"retain": 1.0},
    distill={"retain": 0.5, "forget": 0.5},
    attack={"forget": 1.0},
  )
  config.undo = config_dict.create(
    teacher="max_ent",  # The unlearned model that is noised and distilled.
    alphas=(0.2, 0.4, 0.6, 0.8),  # Noise strengths in [0, 1]; the paper's figure.
    beta=0.1,  # Scale of the noise in [0, 1]; 0: pure shrinking.
    unlearn_and_distill=True,  # Also distill into a random student.
    oracle_matching=True,  # Also train base to imitate data_filtering.
  )
  config.report = common.report(budgets=(40, 500))
  return config


def _tiny() -> config_dict.ConfigDict:
  config: Any = _language(
    directory="data/libreoffice",
    files=("retain.jsonl", "forget.jsonl"),
    tokenizer="huggingface:data/libreoffice/tokenizer",
    sequence_length=128,
    validation_fraction=0.05,
    num_evaluation_rows=48,
  )
  config.evaluation_rows = 96
  config.replicas_at_once = 1
  config.model = common.small_model(
    vocab_size=2048,
    num_layers=4,
    width=128,
    mlp_width=512,
    init_std=0.05,
    scan_unroll=4,
  )
  config.pretrain = common.cosine(num_steps=900, learning_rate=3e-3, batch_size=32)
  config.data_filtering = common.changes()  # Against pretrain.
  config.unlearn = config_dict.ConfigDict()
  # Each is attacked. The blocks below that are not named here are not run.
  config.unlearn.methods = ("max_ent", "grad_diff", "rmu")
  config.unlearn.max_ent = common.training(
    num_steps=60, learning_rate=5e-4, batch_size=16
  )
  config.unlearn.max_ent.options = common.weights(retain=1.0)
  config.unlearn.grad_diff = common.training(
    num_steps=40, learning_rate=3e-4, batch_size=16
  )
  config.unlearn.grad_diff.options = common.weights(retain=5.0)
  config.unlearn.rmu = common.training(num_steps=60, learning_rate=1e-3, batch_size=16)
  config.unlearn.rmu.options = common.rmu(
    layers=(0, 1, 2), coefficient=20.0, retain=10.0
  )
  config.unlearn.update(common.robust_baselines(config.unlearn.max_ent))
  config.distill = common.cosine(num_steps=900, learning_rate=3e-3, batch_size=32)
  config.distill.options = common.distillation()
  config.distill.stop = common.stop(evaluate_every=25, tolerance=0.05, relative=True)
  config.unlearn_and_distill = common.changes()  # Of the random student's distillation.
  config.oracle = common.cosine(num_steps=400, learning_rate=3e-3, batch_size=32)
  config.attack = common.attack(
    learning_rates=(1e-4, 3e-4, 1e-3, 3e-3),
    num_steps=500,
    evaluate_every=20,
    evaluations_per_call=5,
    batch_size=4,
  )
  return config


def _paper() -> config_dict.ConfigDict:
  """The 0.1 B model at the paper's batch sizes and schedules."""
  config: Any = _language(
    directory="data/fineweb",
    files=("english/*.parquet", "korean/*.parquet"),
    tokenizer="huggingface:data/gemma-2-2b",
    sequence_length=2048,
    validation_fraction=0.0005,  # As the paper's code; about 500,000 tokens each.
    num_evaluation_rows=240,
  )
  for corpus in (config.data.retain, config.data.forget):
    corpus.max_tokens = 1_000_000_000
    corpus.validation_tokens = 500_000
    corpus.skip_empty = True
  config.evaluation_rows = 8
  config.replicas_at_once = 1
  config.checkpoint_every = 50
  config.model = common.preset("gemma2_0.1b")
  # 2 B tokens of both languages; filtering, 1 B of English.
  config.pretrain = common.training(
    num_steps=2441,
    learning_rate=4e-4,
    final_learning_rate=4e-5,
    warmup_steps=50,
    weight_decay=0.1,
    batch_size=400,
    num_microbatches=80,
  )
  config.data_filtering = common.changes(num_steps=1220)
  unlearning = {"batch_size": 4, "num_steps": 100}
  config.unlearn = config_dict.ConfigDict()
  # Each is attacked. The blocks below that are not named here are not run.
  config.unlearn.methods = ("max_ent", "grad_diff", "rmu")
  config.unlearn.max_ent = common.training(learning_rate=3e-5, **unlearning)
  config.unlearn.max_ent.options = common.weights(retain=1.0)
  config.unlearn.grad_diff = common.training(learning_rate=6e-5, **unlearning)
  config.unlearn.grad_diff.options = common.weights(retain=1.0)
  config.unlearn.rmu = common.training(learning_rate=3e-5, batch_size=4, num_steps=500)
  config.unlearn.rmu.options = common.rmu(
    # The paper's lists 5 to 11, but steers the output of layer 10, so that its last
    # one has no gradient; and it has no retain term here.
    layers=(5, 6, 7, 8, 9, 10),
    coefficient=6.5,
    retain=0.0,
  )
  baselines: Any = common.robust_baselines(config.unlearn.max_ent)
  baselines.max_ent_sam.learning_rate = 8e-5
  # Its statistics are of single rows, as those of the paper's.
  baselines.max_ent_rep_noise.update(learning_rate=8e-5, num_microbatches=4)
  config.unlearn.update(baselines)
  config.distill = common.training(
    num_steps=4069,  # One epoch, were there no stop rule.
    learning_rate=9e-4,
    final_learning_rate=7e-4,
    warmup_steps=50,
    batch_size=240,
    num_microbatches=60,
  )
  config.distill.options = common.distillation()
  config.distill.stop = common.stop(evaluate_every=50, tolerance=0.05, relative=True)
  config.unlearn_and_distill = common.changes(num_steps=1000, weight_decay=0.1)
  config.oracle = common.training(  # As unlearn_and_distill; the paper has no numbers.
    num_steps=1000,
    learning_rate=9e-4,
    final_learning_rate=7e-4,
    warmup_steps=50,
    weight_decay=0.1,
    batch_size=240,
    num_microbatches=60,
  )
  config.attack = common.attack(
    learning_rates=common.PAPER_RATES,
    num_steps=500,
    warmup_steps=1,
    evaluate_every=5,
    evaluations_per_call=1,
    batch_size=8,
  )
  return config
