"""Fictitious play, plain and anticipatory: matrix games, poker, releases and attacks.

COMMAND:

  python -m experiments.fictitious_play \
      --config=configs/fictitious_play/matrix_games.py --workdir=runs/fictitious_play

Sizes: `small` (the default, the paper's repetitions) and `tiny`, which tests run. A
game of your own: --config.own.payoffs="((0,-1,1),(1,0,-1),(-1,1,0))"; the releases and
attacks of a run of your own: --config.releases.runs="('runs/arithmetic',)"

Reference: Cloud, Wang and Kerr, Anticipatory Fictitious Play, arXiv 2212.09941.
"""

from undo_jax import config as c


def get_config(arg: str | None = None) -> c.Config:
  """Return the config of a size: small or tiny."""
  size = c.parse_size(arg, ("small", "tiny"))
  config = c.table()
  config.seed = 0  # Of games and ties.
  config.single = c.block(  # Figure 1: cyclic and transitive games.
    moves=(7, 20),  # Of each kind.
    repetitions=10_000,  # Of random ties.
    responses=100,  # Best responses of a player.
  )
  config.sizes = c.block(  # Figure 2: Gaussian games by their size.
    moves=(2, 5, 10, 20, 50, 100, 150, 200),  # Of both players.
    games=2_500,  # Of each size.
    responses=100,  # After which the worst-case payoffs are compared.
  )
  config.ahead = c.block(  # Figure 3: in how many games anticipation is ahead.
    moves=(20, 30),  # The paper's script has 20, its figure says 30.
    games=3_000,  # Of each size.
    responses=200,  # Best responses of a player.
  )
  config.early = c.block(  # Figure 4: the same of the first responses.
    moves=30,  # Of both players.
    games=5_000,  # Gaussian ones.
    responses=15,  # Best responses of a player.
    initial_steps=(0, 1, 2, 3),  # Plays after the first without anticipation.
  )
  config.anticipations = c.block(  # Responses that are anticipated, one after another.
    counts=(0, 1, 2, 3, 5),  # Each + 1 divides the responses.
    moves=30,  # Of both players.
    games=1_000,  # Gaussian ones.
    responses=120,  # Best responses of a player.
  )
  config.rates = c.block(  # How the exploitability falls on cyclic games.
    moves=(3, 5, 9),  # Of the games.
    repetitions=200,  # Of random ties.
    plays=2_000,  # Of both kinds of play.
  )
  config.certificates = c.block(  # The value of games by name, between bounds.
    games=("all",),  # Names of experiments/fictitious_play/matrix_games.py; or all.
    plays=1_000,  # Of both kinds of play.
  )
  config.poker = c.block(  # Populations with exact best responses.
    games=("kuhn", "leduc"),  # Some of these; none: ().
    agents=40,  # Of each player.
    repetitions=5,  # Of random first agents.
  )
  config.trained = c.block(  # Populations whose best responses are training runs.
    games=("kuhn", "leduc"),  # Some of these; none: ().
    agents=16,  # Of each player, the first untrained.
    repetitions=5,  # Of first agents, and of all that is random.
    updates=1_200,  # Of each agent.
    hands=256,  # Of each update.
    learning_rate=0.01,  # Of Adam; falls to 0.
    entropy=0.003,  # Weight of its bonus.
    width=64,  # Of the networks' hidden layer.
  )
  config.releases = c.block(  # Released models against relearning, of finished runs.
    runs=("docs/frontier/leaderboard.jsonl", "docs/recipes_leaderboard.jsonl"),
    prices=(0.0, 0.3, 1.0),  # In forget score, of compute as much as data filtering's.
    agents=40,  # Of each side.
    starts=50,  # Random first agents.
    gap=0.01,  # Between the bounds, within which the value is known.
  )
  config.own = c.block(  # A game of your own, beside those by name.
    payoffs=(),  # To the row player, a tuple a row; (): there is none.
    column_payoffs=(),  # To the column player; (): the negative ones.
  )
  if size == "tiny":
    config.single.update(moves=(3,), repetitions=20, responses=12)
    config.sizes.update(moves=(3,), games=20, responses=12)
    config.ahead.update(moves=(3,), games=20, responses=12)
    config.early.update(moves=3, games=20, responses=12, initial_steps=(0, 2))
    config.anticipations.update(counts=(0, 1), moves=3, games=20, responses=12)
    config.rates.update(moves=(3,), repetitions=4, plays=60)
    config.certificates.update(games=(), plays=30)
    config.poker.update(games=("kuhn",), agents=6, repetitions=2)
    config.trained.update(
      games=("kuhn",), agents=3, repetitions=2, updates=2, hands=4, width=4
    )
    config.releases.update(runs=())
  return config
