"""Value-aware models: what an error of a model changes in the return, on small tables.

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
  config.seed = 0  # Of all that is random.
  config.tables = c.block(  # Random MDPs and models, in float64.
    count=1000,  # Pairs of an MDP and a model.
    states=6,  # Of each, 2 at least.
    actions=3,  # Of each.
    discount=0.9,  # In [0, 1).
  )
  config.toy = c.block(  # A model of rank 1 beside a distractor.
    starts=10,  # Random starts of each loss.
    states=256,  # That a model is fitted to, and judged from.
  )
  if size == "tiny":
    config.tables.update(count=5)
    config.toy.update(starts=1, states=16)
  return config
