"""Value-aware models: how a model's error changes the return, on small tables.

COMMAND:

  python -m experiments.model_advantage \
      --config=configs/model_advantage/models.py --workdir=runs/model_advantage

Sizes: `small` (the default) and `tiny`, which tests run.

Reference: Modhe et al., arXiv 2106.14080.
"""

from undo_jax import config as c


def get_config(arg: str | None = None) -> c.Config:
  """Return the config of a size: small or tiny."""
  size = c.parse_size(arg, ("small", "tiny"))
  config = c.table()
  config.seed = 0  # For everything random.
  config.tables = c.block(  # Random MDPs and models, in float64.
    count=1000,  # Pairs of an MDP and a model.
    states=6,  # In each, at least 2.
    actions=3,  # In each.
    discount=0.9,  # In [0, 1).
  )
  config.toy = c.block(  # A model of rank 1 beside a distractor.
    starts=10,  # Random starts for each loss.
    states=256,  # Number that a model is fitted to and judged on.
  )
  if size == "tiny":
    config.tables.update(count=5)
    config.toy.update(starts=1, states=16)
  return config
