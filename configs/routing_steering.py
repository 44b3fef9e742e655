"""A steering scalar: one token routed to one dimension of the residual stream.

COMMAND, which ends in runs/routing_steering/results.json and figures/:

  python -m experiments.routing_steering --config=configs/routing_steering.py \
    --workdir=runs/routing_steering

Sizes: `small` (the default) trains 0.1 M parameters on made-up stories; `tiny` is what
tests run. Local files of stories do as well, see configs/routing_stories.py.

Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, section 4.1.
"""

from typing import Any

from ml_collections import config_dict

from configs import common, routing_stories


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """Returns the config of a size: small or tiny."""
  size = common.parse_size(arg, ("small", "tiny"))
  stories: Any = routing_stories.get_config(size)
  config: Any = config_dict.ConfigDict()
  config.seeds = stories.seeds
  config.num_top = 20  # Nearest words that are kept.
  for block in ("data", "train", "evaluation"):
    config[block] = stories[block]
  config.model = common.plain_decoder(
    vocab_size=276,
    num_layers=3,
    width=64,
    num_heads=4,
    mlp_width=64,
    init_std=0.1,
    mlp_bias=True,
    # Tied, the words before the routed one get the dimension as well: their rows learn
    # as inputs what it is for.
    tied=False,
    scale_embedding=False,
    scan_unroll=3,
  )
  config.routing = config_dict.create(
    word="forest",  # Whose gradients are routed: one token with its space.
    # After which they pass through one dimension, counted from 0.
    layers=(0, 1, 2),
    dimension=0,  # Of the residual stream.
    weight=10.0,  # Of the word's gradients before the last of these layers; paper: 1.
  )
  config.steering = config_dict.create(
    layer=1,  # After which the constant is added to the dimension.
    # Of the constant, in units of the residual stream's root mean square there.
    strengths=(-5.0, -2.0, 0.0, 1.0, 2.0, 3.0, 5.0),
    num_samples=128,  # Stories for each.
    num_tokens=39,  # Of a story at most.
  )
  if size == "small":
    config.data.update(length=40, num_retain=4000)
    config.train.update(
      forget_rows=8,
      retain_rows=8,
      num_steps=500,
      learning_rate=5e-3,
      final_learning_rate=5e-4,
    )
  if size == "tiny":
    config.model.update(num_layers=2, width=16, num_heads=2, num_kv_heads=2)
    config.model.update(head_dim=8, mlp_width=32, scan_unroll=1)
    config.train.update(forget_rows=4, retain_rows=4, num_steps=6, warmup_steps=1)
    config.routing.layers = (0,)
    config.steering.update(layer=0, strengths=(0.0, 5.0), num_samples=4, num_tokens=6)
  return config
