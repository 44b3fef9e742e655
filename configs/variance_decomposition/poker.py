"""Variance of the outcome of poker, small games and hold'em, by players and chance.

COMMAND:

  python -m experiments.variance_decomposition \
      --config=configs/variance_decomposition/poker.py --workdir=runs/variance_poker

Sizes: `small` (the default) and `tiny`, which tests run.

Reference: Cloud and Laber, Variance decompositions for extensive-form games, arXiv
2009.04834.
"""

from undo_jax import config as c


def get_config(arg: str | None = None) -> c.Config:
  """Return the config of a size: small or tiny."""
  size = c.parse_size(arg, ("small", "tiny"))
  config = c.table()
  config.seed = 0  # For all samples.
  config.games = ("kuhn", "leduc", "holdem")  # Any of these three.
  config.alphas = (0.0, 1 / 6, 1 / 3)  # Of Kuhn's equilibria, in [0, 1/3].
  config.samples = c.block(
    pairs=40_000,  # For E1 and E2, of each factor.
    levels=6,  # Strategies of each factor in a crossed table.
    tables=400,  # Crossed tables for E3.
    intervals=40,  # Crossed tables that E4 gives intervals for.
    resamples=200,  # For each interval.
  )
  config.holdem = c.block(  # Hands of hold'em, ranked by phevaluator (extra studies).
    deals=400_000,  # Number of sampled deals, all equally likely.
    stack=10.0,  # Of each player in jam or fold, in big blinds, above 1.
  )
  if size == "tiny":
    config.games = ("kuhn",)
    config.alphas = (1 / 3,)
    config.samples.update(pairs=2_000, levels=3, tables=20, intervals=2, resamples=20)
    config.holdem.update(deals=200)
  return config
