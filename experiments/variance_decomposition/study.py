"""What the study computes: a part is a game with a fixed way to play it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import functools
import itertools
import zlib

import numpy as np

from experiments.poker import equilibrium, holdem, kuhn, leduc
from experiments.poker import tree as trees
from experiments.poker.tree import CHANCE, FIRST, PLAYERS, SECOND, Profile, Tree
from experiments.shared import studies
from experiments.variance_decomposition import estimators, figures, sampling
from experiments.variance_decomposition import results as results_lib
from experiments.variance_decomposition.config import Config, Samples
from experiments.variance_decomposition.results import HoldemPart, Part, Split
from undo_jax.frontier import extensive_form, variance

FACTORS = (*PLAYERS, CHANCE)
TREES: Mapping[str, Callable[..., Tree]] = {"kuhn": kuhn.tree, "leduc": leduc.tree}


def part_names(config: Config) -> list[str]:
  """Return the names of the parts, those of hold'em last."""
  names = list(_parts(config))
  if "holdem" in config.games:
    names += [f"holdem_{name}" for name in _HANDS]
  return names


def compute(
  config: Config, names: Sequence[str]
) -> Iterator[tuple[str, Part | HoldemPart]]:
  """Yield the parts that are asked for."""
  parts, dealt = _parts(config), None
  for name in names:
    seed = [config.seed, zlib.crc32(name.encode())]
    if name in parts:
      game, play, profile = parts[name]
      yield name, part(game, play, profile(TREES[game]()), config.samples, seed)
      continue
    if dealt is None:
      dealt = holdem.deals(np.random.default_rng(config.seed), config.holdem.deals)
    yield name, hands(config, name.removeprefix("holdem_"), dealt, seed)


def hands(
  config: Config, play: str, dealt: holdem.Deals, seed: Sequence[int]
) -> HoldemPart:
  """Return estimates for hold'em under a play, beside any closed form."""
  rng, pairs = np.random.default_rng(seed), config.samples.pairs
  played = _HANDS[play](dealt, config.holdem.stack)
  parts, lost, chosen = None, None, (None, None)
  if isinstance(played, holdem.JamOrFold):
    parts, lost = played.components(), played.exploitability()
    mean, spread, chosen = played.mean(), sum(parts.values()), played.shares()
  else:
    drawn = {name: played.draw(name, rng, pairs) for name in played.factors}
    outcome_N = played.outcomes(drawn)
    mean, spread = float(outcome_N.mean()), float(outcome_N.var(ddof=1))
  return {
    "game": "jam or fold" if parts else "limit hold'em",
    "play": play.partition("_")[2].replace("_", " "),
    "mean": mean,
    "exploitability": lost,
    "jams": chosen[0],
    "calls": chosen[1],
    "variance": spread,
    "first_order": estimators.first_order(played, rng, pairs, parts),
    "total": estimators.total(played, rng, pairs, parts),
  }


def part(
  game: str, play: str, profile: Profile, samples: Samples, seed: Sequence[int]
) -> Part:
  """Return the closed form and the estimates for a game under a profile."""
  tree = TREES[game]()
  components = extensive_form.components(trees.leaves(tree, profile))
  table = sampling.tabulate(tree, profile, FACTORS)
  rng = np.random.default_rng(seed)
  crossed = list(estimators.crossed_tables(table, rng, samples.levels, samples.tables))
  few = crossed[: samples.intervals]
  return {
    "game": game,
    "play": play,
    "mean": trees.value(tree, profile),
    "exploitability": exploitability(tree, profile),
    "splits": {
      "deck": split(components),
      "fresh draws": split(
        extensive_form.components(trees.leaves(TREES[game](fresh=True), profile))
      ),
    },
    "first_order": estimators.first_order(table, rng, samples.pairs, components),
    "total": estimators.total(table, rng, samples.pairs, components),
    "components": estimators.crossed(crossed, FACTORS, components),
    "coverage": estimators.coverage(few, FACTORS, components, samples.resamples),
  }


def split(components: variance.Components) -> Split:
  """Return the closed form in the form of the results."""
  effects = variance.effects(components)
  return {
    "variance": sum(components.values()),
    "first_order": {name: effects[name].first_order for name in FACTORS},
    "total": {name: effects[name].total for name in FACTORS},
    "components": {
      estimators.name_of(group): value for group, value in components.items()
    },
  }


def exploitability(tree: Tree, profile: Profile) -> float:
  """Return the most that both players together can gain by other strategies."""
  upper, lower = (equilibrium.exploited(tree, profile, p) for p in PLAYERS)
  return upper - lower


def _parts(
  config: Config,
) -> dict[str, tuple[str, str, Callable[[Tree], Profile]]]:
  """Return game, play and profile of each part."""
  parts = {
    f"{game}_{name}": (game, name.replace("_", " "), profile)
    for game, (name, profile) in itertools.product(config.games, _PLAYS.items())
    if game in TREES
  }
  if "kuhn" in config.games:
    for alpha in config.alphas:
      profile = functools.partial(_of_alpha, alpha)
      play = f"equilibrium, alpha {alpha:.3g}"
      parts[f"kuhn_alpha_{alpha:.3g}"] = ("kuhn", play, profile)
  return parts


def _of_alpha(alpha: float, tree: Tree) -> Profile:
  del tree
  return kuhn.equilibrium(alpha)


def _uniform(tree: Tree) -> Profile:
  return {player: trees.uniform(tree, player) for player in PLAYERS}


def _exploited(responder: str, tree: Tree) -> Profile:
  """Return the profile in which one plays uniformly and the other responds best."""
  profile = _uniform(tree)
  return {**profile, responder: trees.best_response(tree, profile, responder)}


_PLAYS: Mapping[str, Callable[[Tree], Profile]] = {
  "uniform": _uniform,
  "equilibrium": lambda tree: equilibrium.solve(tree).profile,
  "first_responds_to_uniform": functools.partial(_exploited, FIRST),
  "second_responds_to_uniform": functools.partial(_exploited, SECOND),
}
_HANDS: Mapping[
  str, Callable[[holdem.Deals, float], holdem.JamOrFold | holdem.Limit]
] = {
  "limit_uniform": lambda dealt, stack: holdem.Limit(dealt),
  "jam_uniform": holdem.JamOrFold.uniform,
  "jam_equilibrium": lambda *game: holdem.JamOrFold.uniform(*game).solved(),
  "jam_first_responds_to_uniform": lambda *game: holdem.JamOrFold.uniform(
    *game
  ).responding(FIRST),
  "jam_second_responds_to_uniform": lambda *game: holdem.JamOrFold.uniform(
    *game
  ).responding(SECOND),
}


make = studies.maker(Config, part_names, compute, results_lib, figures)
