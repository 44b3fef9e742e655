"""Perfect simulation of Vervaat perpetuities, and what the published listing does.

COMMAND:

  python -m experiments.vervaat \
      --config=configs/vervaat/perpetuities.py --workdir=runs/vervaat

Sizes: `small` (the default) and `tiny`, which tests run.

Reference: Cloud and Huber, Fast perfect simulation of Vervaat perpetuities, arXiv
1510.01780.
"""

from undo_jax import config as c


def get_config(arg: str | None = None) -> c.Config:
  """Return the config of a size: small or tiny."""
  size = c.parse_size(arg, ("small", "tiny"))
  config = c.table()
  config.seed = 0  # For all draws.
  config.exact = c.block(
    betas=(
      0.1,
      0.25,
      0.5,
      1.0,
      2.0,
      4.0,
      8.0,
      16.0,
      32.0,
      64.0,
    ),  # Each in [.01, 1000].
    draws=200_000,  # For each beta up to 16; larger ones get as many steps.
  )
  config.published = c.block(
    betas=(0.1, 0.25, 0.5, 1.0, 2.0),  # The listing's draws are compared here.
    draws=1_000_000,  # For each beta, by each update.
    slow_betas=(1.0, 2.0, 5.0, 10.0),  # The listing's time is measured here.
    slow_draws=2_000,  # For each of these.
  )
  if size == "tiny":
    config.exact.update(betas=(0.5, 2.0), draws=2_000)
    config.published.update(
      betas=(0.5,), draws=4_000, slow_betas=(2.0,), slow_draws=200
    )
  return config
