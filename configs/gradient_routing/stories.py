"""Expand, route, ablate (ERA) on stories, beside data filtering, RMU and SGTM.

COMMAND, which ends in runs/stories/results.json and figures/:

  python -m experiments.gradient_routing.stories \
      --config=configs/gradient_routing/stories.py --workdir=runs/stories

Sizes: `small` (the default) trains 0.3 M parameters on made-up stories of two topics;
`tiny` is what tests run; `paper` has the sizes of the paper's model and schedule, for
local files of TinyStories: give --config.data.paths="('FILES',)" and a tokenizer.

Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, section 4.2.
"""

from undo_jax import config as c

# In the paper a story that has one of these words is about the topic.
PAPER_WORDS = tuple("tree trees forest forests woodland woodlands".split())


def get_config(arg: str | None = None) -> c.Config:
  """Return the config of a size: small, tiny or paper."""
  size = c.parse_size(arg, ("small", "tiny", "paper"))
  return {"small": _small, "tiny": _tiny, "paper": _paper}[size]()


def _small() -> c.Config:
  config = c.table()
  config.seeds = (0, 1, 2)  # For stories, weights and order; more may be added.
  config.labelled = (0.0, 0.05, 0.25, 1.0)  # Labelled fractions of forget stories.
  # Trained at each fraction; at 0, filtering is the base model and era the control.
  config.methods = ("filtering", "era", "era_coherent", "sgtm", "rmu")
  config.data = c.block(
    paths=(),  # .txt files, folders or globs; <|endoftext|> separates stories.
    forget_words=(),  # The topic's words in these files; made-up stories have theirs.
    tokenizer="words:stories",  # For files huggingface:PATH, sentencepiece:PATH, bytes.
    length=50,  # L, tokens a row; longer stories are cut.
    max_characters=1029,  # Of a story; only words within it tell the topic.
    held_out_fraction=0.2,  # Share of stories that are never trained on.
    num_forget=4000,  # Distinct training stories of the topic.
    num_retain=12000,  # Distinct training stories without the topic.
    num_held_out=320,  # Of each kind, for evaluation and retraining.
  )
  config.model = _decoder(
    vocab_size=276,
    num_layers=4,
    width=64,
    num_heads=4,
    mlp_width=256,
    init_std=0.1,
    scan_unroll=4,
  )
  config.train = c.block(
    forget_rows=8,  # Stories of the topic in a batch.
    retain_rows=24,  # Stories without the topic in a batch.
    num_steps=600,  # Updates.
    learning_rate=3e-3,  # The highest.
    warmup_steps=50,  # Updates of the linear warm-up.
    final_learning_rate=3e-4,  # At the end of the cosine.
    weight_decay=0.1,  # Decoupled.
    clip_norm=1.0,  # Largest norm of the gradient.
  )
  config.routing = c.block(
    layers=(0, 1, 2),  # Layers that are expanded and routed, counted from 0.
    mlp_units=32,  # New units in each of these layers.
    old_target=-0.75,  # Weight of forget gradients in the old units.
    coherence_weight=2.0,  # Of the coherence term, in era_coherent.
    # Weight of the L1 penalty in control, era and era_coherent: the absolute values of
    # the MLP units of these layers, summed and averaged over positions.
    l1_weight=1e-4,
  )
  config.sgtm = c.block(
    mlp_units=32,  # New units in every layer.
    kv_heads=1,  # New heads in every layer.
    retain_labelled=0.25,  # Share of the retain stories that is labelled retain.
  )
  config.rmu = c.block(
    layers=(0, 1, 2),  # Their down-projections are trained; the last one is steered.
    coefficient=30.0,  # Length of the target.
    retain_weight=10.0,  # Of the drift on rows that are not labelled forget.
    num_steps=200,  # Updates, on the first batches of the training.
    learning_rate=2e-3,  # Constant.
    weight_decay=0.0,  # Decoupled.
    clip_norm=1.0,  # Largest norm of the gradient.
  )
  config.repair = c.block(
    num_stories=64,  # Retain stories of the training, in one batch.
    num_steps=10,  # Most updates; the best model on the way is kept.
    learning_rate=3e-4,  # Constant.
    weight_decay=0.1,  # Decoupled.
  )
  config.retrain = c.block(
    num_stories=(4, 64),  # Held-out forget stories, in one batch.
    num_steps=30,  # Updates.
    evaluate_every=3,  # Updates between evaluations.
    learning_rates=(3e-4, 1e-3),  # The lowest loss at any of them counts.
    weight_decay=0.01,  # Decoupled.
  )
  config.evaluation = c.block(
    num_rows=256,  # Held-out stories of each kind.
    rows_at_once=256,  # Rows in one forward pass.
  )
  return config


def _tiny() -> c.Config:
  config = _small()
  config.seeds = (0,)
  config.labelled = (0.0, 0.5)
  config.methods = ("filtering", "era", "sgtm", "rmu")
  config.data.update(num_forget=64, num_retain=96, num_held_out=24)
  config.model = _decoder(
    vocab_size=276, num_layers=2, width=16, num_heads=2, mlp_width=32
  )
  config.train.update(forget_rows=4, retain_rows=4, num_steps=12, warmup_steps=2)
  config.routing.update(layers=(0,), mlp_units=8)
  config.sgtm.mlp_units = 8
  config.rmu.update(layers=(0,), num_steps=3)
  config.repair.update(num_stories=8, num_steps=2)
  config.retrain.update(num_stories=(4,), num_steps=4, evaluate_every=2)
  config.evaluation.num_rows = 16
  return config


def _paper() -> c.Config:
  """Return the paper's model, data and schedules, with this project's decoder."""
  config = _small()
  config.seeds = (0, 1, 2, 3, 4)
  config.labelled = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
  config.data.update(
    paths=("tinystories/*.txt",),
    forget_words=PAPER_WORDS,
    tokenizer="huggingface:tinystories/tokenizer.json",
    length=256,
    num_forget=80_000,
    num_retain=320_000,
    num_held_out=1100,
  )
  config.model = _decoder(
    vocab_size=50_257, num_layers=8, width=512, num_heads=16, mlp_width=2048
  )
  config.train.update(
    forget_rows=16,
    retain_rows=64,
    num_steps=5000,
    learning_rate=5e-4,
    warmup_steps=100,
    final_learning_rate=5e-5,
  )
  config.routing.update(layers=(0, 1, 2, 3, 4), mlp_units=64)
  config.sgtm.update(mlp_units=64, kv_heads=1)
  config.rmu.update(
    layers=(0, 1, 2, 3, 4),
    coefficient=100.0,
    retain_weight=200.0,
    num_steps=500,
    learning_rate=5e-4,
    weight_decay=0.01,
  )
  config.repair.update(num_steps=40, learning_rate=5e-5)
  config.retrain.update(
    num_stories=(4, 16, 64), num_steps=40, evaluate_every=1, learning_rates=(5e-5,)
  )
  config.evaluation.update(num_rows=1000, rows_at_once=100)
  return config


def _decoder(**sizes: c.Config) -> c.Config:
  return c.plain_decoder(**sizes)
