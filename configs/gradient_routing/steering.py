"""A steering scalar: one token routed to one dimension of the residual stream.

COMMAND, which ends in runs/steering/results.json and figures/:

  python -m experiments.gradient_routing.steering \
      --config=configs/gradient_routing/steering.py --workdir=runs/steering

Sizes: `small` (the default) trains 0.1 M parameters on made-up stories; `tiny` is what
tests run. Local files of stories will do as well, see stories.py beside this file.

Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, section 4.1.
"""

from undo_jax import config as c


def get_config(arg: str | None = None) -> c.Config:
  """Return the config of a size: small or tiny."""
  size = c.parse_size(arg, ("small", "tiny"))
  config = c.table()
  config.seeds = (0, 1, 2)  # For stories, weights and order; more may be added.
  config.num_top = 20  # Number of nearest words that are kept.
  config.data = c.block(
    paths=(),  # .txt files, folders or globs; <|endoftext|> separates stories.
    forget_words=(),  # The topic's words in these files; made-up stories have theirs.
    tokenizer="words:stories",  # For files huggingface:PATH, sentencepiece:PATH, bytes.
    length=40,  # L, tokens a row; longer stories are cut.
    max_characters=1029,  # Of a story; only words within it tell the topic.
    held_out_fraction=0.2,  # Share of stories that are never trained on.
    num_forget=4000,  # Distinct training stories of the topic.
    num_retain=4000,  # Distinct training stories without the topic.
    num_held_out=320,  # Of each kind; at least as many as are scored.
  )
  config.model = c.plain_decoder(
    vocab_size=276,
    num_layers=3,
    width=64,
    num_heads=4,
    mlp_width=64,
    init_std=0.1,
    mlp_bias=True,
    # If tied, the words before the routed one would get the dimension as well: their
    # rows would learn, as inputs, what it stands for.
    tied=False,
    scale_embedding=False,
    scan_unroll=3,
  )
  config.train = c.block(
    forget_rows=8,  # Stories of the topic in a batch.
    retain_rows=8,  # Stories without the topic in a batch.
    num_steps=500,  # Updates.
    learning_rate=5e-3,  # The highest.
    warmup_steps=50,  # Updates of the linear warm-up.
    final_learning_rate=5e-4,  # At the end of the cosine.
    weight_decay=0.1,  # Decoupled.
    clip_norm=1.0,  # Largest norm of the gradient.
  )
  config.routing = c.block(
    word="forest",  # Its gradients are routed; it is one token with its space.
    # After these layers, counted from 0, the gradients pass through one dimension.
    layers=(0, 1, 2),
    dimension=0,  # Of the residual stream.
    weight=10.0,  # Of the word's gradients before the last of the layers; paper: 1.
  )
  config.steering = c.block(
    layer=1,  # The constant is added to the dimension after this layer.
    # Sizes of the constant, in units of the residual stream's root mean square there.
    strengths=(-5.0, -2.0, 0.0, 1.0, 2.0, 3.0, 5.0),
    num_samples=128,  # Stories for each strength.
    num_tokens=39,  # Most tokens of a story.
  )
  config.evaluation = c.block(
    num_rows=256,  # Held-out stories of each kind.
    rows_at_once=256,  # Rows in one forward pass.
  )
  if size == "tiny":
    config.seeds = (0,)
    config.model.update(num_layers=2, width=16, num_heads=2, num_kv_heads=2)
    config.model.update(head_dim=8, mlp_width=32, scan_unroll=1)
    config.data.update(length=50, num_forget=64, num_retain=96, num_held_out=24)
    config.train.update(forget_rows=4, retain_rows=4, num_steps=6, warmup_steps=1)
    config.train.update(learning_rate=3e-3, final_learning_rate=3e-4)
    config.evaluation.num_rows = 16
    config.routing.layers = (0,)
    config.steering.update(layer=0, strengths=(0.0, 5.0), num_samples=4, num_tokens=6)
  return config
