"""What the study computes: a part is a game, a size, or a question of its own."""

from collections.abc import Callable, Iterator, Sequence
import functools
from typing import TypeAlias
import zlib

import jax
import numpy as np

from experiments.fictitious_play import (
  figures,
  matrix_games,
  poker_agents,
  races,
  releases,
  trained_agents,
)
from experiments.fictitious_play import results as results_lib
from experiments.fictitious_play.config import Config
from experiments.fictitious_play.matrix_games import Game
from experiments.fictitious_play.results import (
  AheadPart,
  AnticipationsPart,
  Band,
  Certificate,
  EarlyPart,
  Part,
  PokerPart,
  RatePart,
  Reached,
  ReleasesPart,
  SinglePart,
  SizePart,
  TrainedPart,
)
from experiments.shared import studies
from undo_jax.frontier import games, guarantees

Compute: TypeAlias = Callable[[Config, "Source"], Part]
# What results call the play, by num_anticipations.
PLAYS = {"fictitious": 0, "anticipatory": 1}
_FIRST_FITTED = 20  # Rates are fitted to plays from this one on.
_WINDOWS = 6


class Source:
  """Randomness of one part: games by numpy, ties by JAX."""

  def __init__(self, seed: int, name: str):
    number = zlib.crc32(name.encode())
    self.rng = np.random.default_rng([seed, number])
    self.key = jax.random.fold_in(jax.random.key(seed), number)


def compute(config: Config, names: Sequence[str]) -> Iterator[tuple[str, Part]]:
  """Yield the parts that are asked for."""
  parts = _parts(config)
  for name in names:
    yield name, parts[name](config, Source(config.seed, name))


def single(name: str, game: Game, config: Config, source: Source) -> SinglePart:
  """Return worst-case payoffs in one game over random ties."""
  block = config.single
  by_play = {}
  for play, anticipations in PLAYS.items():
    lower_GxB = races.worst_payoffs(
      game.payoffs,
      source.key,
      block.responses,
      num_anticipations=anticipations,
      count=block.repetitions,
    )
    by_play[play] = _band(lower_GxB / game.unit)
  return {"game": name, "repetitions": block.repetitions, "by_play": by_play}


def size(moves: int, config: Config, source: Source) -> SizePart:
  """Return worst-case payoffs in Gaussian games of one size, below their values."""
  block = config.sizes
  payoffs = matrix_games.gaussian(source.rng, block.games, moves)
  last = {
    play: races.worst_payoffs(
      payoffs, source.key, block.responses, num_anticipations=anticipations
    )[:, -1:]
    for play, anticipations in PLAYS.items()
  }
  share = races.share_ahead(last["anticipatory"], last["fictitious"])
  return {
    "moves": moves,
    "games": block.games,
    "by_play": {play: _band(values) for play, values in last.items()},
    "share_ahead": float(share[0]),
  }


def ahead(moves: int, config: Config, source: Source) -> AheadPart:
  """Return the share of games in which anticipation is ahead, by best responses."""
  block = config.ahead
  payoffs = matrix_games.gaussian(source.rng, block.games, moves)
  plain_GxB, ahead_GxB = (
    races.worst_payoffs(payoffs, source.key, block.responses, num_anticipations=number)
    for number in PLAYS.values()
  )
  even = np.arange(2, block.responses + 1, 2)  # Both have finished a play here.
  share = races.share_ahead(ahead_GxB, plain_GxB)[even]
  low, high = races.agresti_coull(share, block.games)

  def since(holds: Callable[[np.ndarray], np.ndarray]) -> int | None:
    index = races.first_that(holds, share)
    return None if index is None else int(even[index])

  ones = np.flatnonzero(share == 1)
  return {
    "moves": moves,
    "games": block.games,
    "responses": even.tolist(),
    "share": share.tolist(),
    "low": low.tolist(),
    "high": high.tolist(),
    "half_since": since(lambda share: share >= 0.5),
    "nine_tenths_since": since(lambda share: share >= 0.9),
    "all_first": int(even[ones[0]]) if len(ones) else None,
  }


def early(config: Config, source: Source) -> EarlyPart:
  """Return the same for the first responses, with first plays not anticipating."""
  block = config.early
  payoffs = matrix_games.gaussian(source.rng, block.games, block.moves)
  plain_GxB = races.worst_payoffs(payoffs, source.key, block.responses)
  shares = {}
  for number in block.initial_steps:
    other_GxB = races.worst_payoffs(
      payoffs,
      source.key,
      block.responses,
      num_anticipations=1,
      num_initial_steps=number,
    )
    shares[str(number)] = races.share_ahead(other_GxB, plain_GxB).tolist()
  return {
    "moves": block.moves,
    "games": block.games,
    "responses": list(range(block.responses + 1)),
    "share_by_initial_steps": shares,
  }


def anticipations(config: Config, source: Source) -> AnticipationsPart:
  """Return how well several anticipated responses do, at equal best responses."""
  block = config.anticipations
  payoffs = matrix_games.gaussian(source.rng, block.games, block.moves)
  last = {
    number: races.worst_payoffs(
      payoffs, source.key, block.responses, num_anticipations=number
    )[:, -1]
    for number in (0, *block.counts)
  }
  values = np.array([games.solve(game).value for game in payoffs])
  return {
    "moves": block.moves,
    "games": block.games,
    "responses": block.responses,
    "by_count": {
      str(number): {
        "exploitability": float(np.mean(values - last[number])),
        "share_ahead": float(races.share_ahead(last[number], last[0])),
      }
      for number in block.counts
    },
  }


def rate(moves: int, config: Config, source: Source) -> RatePart:
  """Return how exploitability falls on a cyclic game when both play the same."""
  block = config.rates
  payoffs = matrix_games.cyclic(moves).payoffs
  keys = jax.random.split(source.key, block.repetitions)
  slopes, most = {}, {}
  for play, number in PLAYS.items():

    @jax.jit
    def exploited(keys: jax.Array, number: int = number) -> jax.Array:
      def one(key: jax.Array) -> jax.Array:
        return games.anticipatory_fictitious_play(
          payoffs, block.plays, key=key, num_anticipations=number, shared=True
        ).lower_T

      return -jax.vmap(one)(keys)

    exploited_GxT = np.asarray(exploited(keys))
    slopes[play] = slope(exploited_GxT.mean(axis=0))
    steps = np.arange(1, block.plays + 1)
    most[play] = float(np.max(exploited_GxT * steps))
  return {
    "moves": moves,
    "plays": block.plays,
    "repetitions": block.repetitions,
    "slope": slopes,
    "most_times_plays": most,
  }


def slope(exploited_T: np.ndarray) -> float:
  """Return the slope of log exploitability over log plays.

  It is fitted to means over windows that grow by a constant factor, because after some
  plays of a cyclic game the exploitability is exactly 0.
  """
  edges = np.geomspace(_FIRST_FITTED, len(exploited_T), _WINDOWS + 1).astype(int)
  windows = list(zip(edges[:-1], edges[1:], strict=True))
  means = [exploited_T[start:end].mean() for start, end in windows]
  middles = [(start * end) ** 0.5 for start, end in windows]
  return float(np.polyfit(np.log(middles), np.log(means), 1)[0])


def certificate(name: str, game: Game, config: Config, source: Source) -> Certificate:
  """Return the bounds of both plays beside the value by linear programs."""
  solution = games.solve(game.payoffs / game.unit)
  bounds, holds = {}, True
  for play, number in PLAYS.items():
    got = games.anticipatory_fictitious_play(
      game.payoffs,
      config.certificates.plays,
      key=source.key,
      num_anticipations=number,
    )
    lower_T, upper_T = (np.asarray(x) / game.unit for x in (got.lower_T, got.upper_T))
    rounding = 1e-5 * float(np.abs(game.payoffs).max() / game.unit)
    holds &= bool((lower_T <= solution.value + rounding).all())
    holds &= bool((upper_T >= solution.value - rounding).all())
    bounds[play] = (float(lower_T.max()), float(upper_T.min()))
  return {
    "game": name,
    "plays": config.certificates.plays,
    "value": solution.value,
    "lower": {play: low for play, (low, _) in bounds.items()},
    "upper": {play: high for play, (_, high) in bounds.items()},
    "holds": holds,
  }


def poker(game: str, config: Config, source: Source) -> PokerPart:
  """Return what populations lose to best responses, by agent."""
  block = config.poker
  tree = poker_agents.TREES[game]()
  seeds = source.rng.integers(2**32, size=block.repetitions)
  by_mixing = {
    mixing: _band(
      np.array(
        [
          poker_agents.exploitabilities(
            tree, mixing, block.agents, np.random.default_rng(seed)
          )
          for seed in seeds
        ]
      )
    )
    for mixing in poker_agents.MIXINGS
  }
  return {
    "game": game,
    "agents": block.agents,
    "repetitions": block.repetitions,
    "by_mixing": by_mixing,
  }


def trained(game: str, config: Config, source: Source) -> TrainedPart:
  """Return what populations of trained agents lose, by agent."""
  block = config.trained
  populations = trained_agents.populations(game, block, source.key)
  return {
    "game": game,
    "agents": block.agents,
    "repetitions": block.repetitions,
    "by_mixing": {mixing: _band(of.mixture) for mixing, of in populations.items()},
    "short": {mixing: _band(of.response) for mixing, of in populations.items()},
  }


def against_attacks(
  run: str, price: float, config: Config, source: Source
) -> ReleasesPart:
  """Return what releases are sure of, and how many best responses find it."""
  block = config.releases
  game = releases.game(releases.read((run,)), price)
  payoffs_IxJ = game.payoffs_IxJ
  sure = guarantees.pure_maximin(payoffs_IxJ)
  suite = guarantees.minimal_suite(payoffs_IxJ, tolerance=block.gap, released=True)
  starts = [tuple(source.rng.integers(payoffs_IxJ.shape)) for _ in range(block.starts)]
  by_mixing: dict[str, Reached] = {}
  for mixing in poker_agents.MIXINGS:
    bounds = [
      releases.bounds(payoffs_IxJ, mixing, block.agents, (int(row), int(column)))
      for row, column in starts
    ]
    by_mixing[mixing] = {
      "gap": _band(np.array([each.upper_K - each.lower_K for each in bounds])),
      "agents_until": [releases.agents_until(each, block.gap) for each in bounds],
    }
  return {
    "run": run,
    "price": price,
    "releases": list(game.releases),
    "attacks": list(game.attacks),
    "value": games.solve(payoffs_IxJ).value,
    "released": sure.value,
    "release": game.releases[sure.row],
    "attack": game.attacks[sure.column],
    "suite": [game.attacks[column] for column in suite],
    "by_mixing": by_mixing,
  }


def _parts(config: Config) -> dict[str, Compute]:
  """Return what computes each part."""
  parts: dict[str, Compute] = {}
  for moves in config.single.moves:
    for kind, made in (
      ("cyclic", matrix_games.cyclic),
      ("transitive", matrix_games.transitive),
    ):
      name = f"{kind}_{moves}"
      parts[f"single_{name}"] = functools.partial(single, name, made(moves))
  for moves in config.sizes.moves:
    parts[f"size_{moves}"] = functools.partial(size, moves)
  for moves in config.ahead.moves:
    parts[f"ahead_{moves}"] = functools.partial(ahead, moves)
  parts |= {"early": early, "anticipations": anticipations}
  for moves in config.rates.moves:
    parts[f"rate_{moves}"] = functools.partial(rate, moves)
  named = dict(config.certificates.chosen())
  if (own := config.own.game()) is not None:
    named["your own"] = own
  for index, (name, game) in enumerate(named.items()):
    parts[f"certificate_{index}"] = functools.partial(certificate, name, game)
  for game in config.poker.games:
    parts[f"poker_{game}"] = functools.partial(poker, game)
  for game in config.trained.games:
    parts[f"trained_{game}"] = functools.partial(trained, game)
  for index, run in enumerate(config.releases.runs):
    for price in config.releases.prices:
      name = f"releases_{index}_{price:g}"
      parts[name] = functools.partial(against_attacks, run, price)
  return parts


def _band(values_GxB: np.ndarray) -> Band:
  """Return mean, standard error and the 10 and 90 % quantiles over games."""
  low, high = np.quantile(values_GxB, (0.1, 0.9), axis=0)
  error = values_GxB.std(axis=0) / len(values_GxB) ** 0.5
  return {
    "mean": values_GxB.mean(axis=0).tolist(),
    "error": error.tolist(),
    "low": low.tolist(),
    "high": high.tolist(),
  }


def _names(config: Config) -> list[str]:
  """Return the names of the parts; ConfigError where a run has no releases."""
  for run in config.releases.runs:
    releases.game(releases.read((run,)), 0.0)
  return list(_parts(config))


make = studies.maker(Config, _names, compute, results_lib, figures)
