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
  config.seed = 0  # For games and for ties.
  config.single = c.block(  # Figure 1: cyclic and transitive games.
    moves=(7, 20),  # Sizes of each kind of game.
    repetitions=10_000,  # Each breaks ties at random.
    responses=100,  # Best responses of each player.
  )
  config.sizes = c.block(  # Figure 2: Gaussian games by their size.
    moves=(2, 5, 10, 20, 50, 100, 150, 200),  # Of each player.
    games=2_500,  # Games of each size.
    responses=100,  # The worst-case payoffs are compared after so many.
  )
  config.ahead = c.block(  # Figure 3: in how many games anticipation is ahead.
    moves=(20, 30),  # The paper's script has 20, its figure says 30.
    games=3_000,  # Games of each size.
    responses=200,  # Best responses of each player.
  )
  config.early = c.block(  # Figure 4: the same for the first responses.
    moves=30,  # Of each player.
    games=5_000,  # Number of Gaussian games.
    responses=15,  # Best responses of each player.
    initial_steps=(0, 1, 2, 3),  # Plays without anticipation, after the first play.
  )
  config.anticipations = c.block(  # Several anticipated responses, one after another.
    counts=(0, 1, 2, 3, 5),  # Each count + 1 must divide the responses.
    moves=30,  # Of each player.
    games=1_000,  # Number of Gaussian games.
    responses=120,  # Best responses of each player.
  )
  config.rates = c.block(  # How the exploitability falls on cyclic games.
    moves=(3, 5, 9),  # Sizes of the games.
    repetitions=200,  # Each breaks ties at random.
    plays=2_000,  # Of each kind of play.
  )
  config.certificates = c.block(  # Bounds of the values of named games.
    games=("all",),  # Names from experiments/fictitious_play/matrix_games.py, or all.
    plays=1_000,  # Of each kind of play.
  )
  config.poker = c.block(  # Populations with exact best responses.
    games=("kuhn", "leduc"),  # Any of these two, or ().
    agents=40,  # Agents of each player.
    repetitions=5,  # Each draws random first agents.
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
  config.own = c.block(  # A game of your own, beside the named ones.
    payoffs=(),  # To the row player, a tuple for each row; (): there is no game.
    column_payoffs=(),  # To the column player; (): the negative of `payoffs`.
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
