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
  config.seed = 0  # Of all samples.
  config.games = ("kuhn", "leduc", "holdem")  # Some of these.
  config.alphas = (0.0, 1 / 6, 1 / 3)  # Kuhn's equilibria, each in [0, 1/3].
  config.samples = c.block(
    pairs=40_000,  # Of E1 and E2, of each factor.
    levels=6,  # Strategies of each factor in a crossed table.
    tables=400,  # Crossed tables of E3.
    intervals=40,  # Crossed tables of which E4 gives intervals.
    resamples=200,  # Of each interval.
  )
  config.holdem = c.block(  # Hands of hold'em, ranked by phevaluator (extra studies).
    deals=400_000,  # Sampled; each as likely as the others.
    stack=10.0,  # Of both in jam or fold, big blinds, above 1.
  )
  if size == "tiny":
    config.games = ("kuhn",)
    config.alphas = (1 / 3,)
    config.samples.update(pairs=2_000, levels=3, tables=20, intervals=2, resamples=20)
    config.holdem.update(deals=200)
  return config
