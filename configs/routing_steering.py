"""A steering scalar: one token routed to one dimension of the residual stream.

COMMAND, which ends in runs/routing_steering/results.json and figures/:

  python -m experiments.routing_steering --config=configs/routing_steering.py \
    --workdir=runs/routing_steering

Sizes: `small` (the default) trains 0.5 M parameters on made-up stories; `tiny` is what
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
    num_layers=8,
    width=64,
    num_heads=4,
    mlp_width=256,
    init_std=0.1,
    mlp_bias=True,
    scan_unroll=8,
  )
  config.routing = config_dict.create(
    word="forest",  # Whose gradients are routed: one token with its space.
    # After which they pass through one dimension, counted from 0.
    layers=(2, 3, 4, 5, 6),
    dimension=0,  # Of the residual stream.
    word_weight=1.0,  # Of the word's gradients in the dimension; the paper has 1.
    others_weight=1.0,  # Of all other gradients in the dimension; the paper has 1.
  )
  config.steering = config_dict.create(
    layer=4,  # After which the constant is added to the dimension.
    strengths=(-20.0, -10.0, -5.0, 0.0, 5.0, 10.0, 20.0),  # Of the constant.
    num_samples=128,  # Stories for each.
    num_tokens=49,  # Of a story at most.
  )
  config.train.update(forget_rows=16, retain_rows=16, num_steps=1000)
  if size == "tiny":
    config.model.update(num_layers=2, width=16, num_heads=2, num_kv_heads=2)
    config.model.update(head_dim=8, mlp_width=32, scan_unroll=1)
    config.train.update(forget_rows=4, retain_rows=4, num_steps=6, warmup_steps=1)
    config.routing.layers = (0,)
    config.steering.update(layer=0, strengths=(0.0, 5.0), num_samples=4, num_tokens=6)
  return config
