"""Texas hold'em for two with sampled hands: jam or fold, and with limits.

Hands are ranked by the package phevaluator (extra studies). Cards are 4 * rank + suit.
The first player has the button and the small blind of half a unit, the second the big
blind of one.

Jam or fold: the first player puts everything in or folds, the second calls or folds;
strategies depend on the 169 kinds of hands. With limits: there are four rounds with
bets of 1, 1, 2 and 2 and at most four bets in each; a whole strategy is drawn as one
number, from which a hash makes the actions.

Shapes: D deals, N games, K = 169 kinds of hands.
"""

from collections.abc import Mapping
import dataclasses
import functools

import numpy as np
from scipy import optimize

from experiments.poker.tree import CHANCE, FIRST, PLAYERS, SECOND
from undo_jax.frontier import variance
from undo_jax.utils import checks, extras
from undo_jax.utils.errors import ConfigError

KINDS = 169
FACTORS = (*PLAYERS, CHANCE)
_MOST_BETS = 4
_BETS = (1.0, 1.0, 2.0, 2.0)
_SHOWN = (0, 3, 4, 5)  # Number of public cards, by round.
_FOLD, _CALL, _RAISE = range(3)


@dataclasses.dataclass(frozen=True)
class Deals:
  """Shuffled decks."""

  cards_Dx9: np.ndarray  # int: two cards of each player, then five for both.
  won_D: np.ndarray  # 1 where the first's hand is better, -1 worse, 0 equal.


def deals(rng: np.random.Generator, count: int) -> Deals:
  """Return random deals with their winners.

  Raises:
    ConfigError: if phevaluator is not installed.
  """
  try:
    from phevaluator import evaluate_cards
  except ImportError as error:
    raise extras.needed("studies", error) from error
  cards_Dx9 = rng.permuted(np.tile(np.arange(52), (count, 1)), axis=1)[:, :9]
  won_D = np.empty(count)
  for index, cards in enumerate(cards_Dx9.tolist()):
    first, second = (  # The lower rank wins.
      evaluate_cards(*cards[start : start + 2], *cards[4:]) for start in (0, 2)
    )
    won_D[index] = (first < second) - (first > second)
  return Deals(cards_Dx9, won_D)


def kinds(cards_Dx2: np.ndarray) -> np.ndarray:
  """Return the kind of two cards in [0, 169), 13 * row + column.

  Ranks go from two (0) to ace (12). Pairs are on the diagonal; suited hands have their
  higher rank as the row, other hands as the column.
  """
  ranks, suits = cards_Dx2 // 4, cards_Dx2 % 4
  low, high = ranks.min(axis=1), ranks.max(axis=1)
  suited = suits[:, 0] == suits[:, 1]
  return np.where(suited, 13 * high + low, 13 * low + high)


@dataclasses.dataclass(frozen=True)
class JamOrFold:
  """The game of these deals, and how it is played.

  Y = -1/2 + s (3/2 + t (stack * won - 1)),  s: the first jams, t: the second calls

  `solved` and `responding` return the same deals with other strategies.
  """

  first_D: np.ndarray  # Kind of the first player's hand.
  second_D: np.ndarray
  stake_D: np.ndarray  # What the first wins if the second calls.
  jams_K: np.ndarray  # Probabilities.
  calls_K: np.ndarray

  factors = FACTORS

  @classmethod
  def uniform(cls, dealt: Deals, stack: float) -> "JamOrFold":
    """Return the game in which both players choose uniformly.

    Args:
      dealt: the deals, all equally likely.
      stack: of each player, in big blinds; above 1.

    Raises:
      ConfigError: if the stack is no number above 1.
    """
    if not checks.is_number(stack) or stack <= 1:
      raise ConfigError(
        f"stack: expected a number of big blinds above 1, got {stack!r}"
      )
    first_D, second_D = (kinds(dealt.cards_Dx9[:, at : at + 2]) for at in (0, 2))
    half_K = np.full(KINDS, 0.5)
    return cls(first_D, second_D, stack * dealt.won_D, half_K, half_K)

  @functools.cached_property
  def payoffs(self) -> tuple[np.ndarray, np.ndarray]:
    """What a jam adds if the second folds, [K], and what a call adds, [K, K].

    E[Y] = -1/2 + jams @ a + jams @ C @ calls
    """
    count, size = len(self.stake_D), len(self.jams_K)
    a_K = 1.5 * np.bincount(self.first_D, minlength=size) / count
    both_D = size * self.first_D + self.second_D
    c_KK = np.bincount(both_D, self.stake_D - 1, minlength=size * size) / count
    return a_K, c_KK.reshape(size, size)

  def mean(self) -> float:
    """Return what the first player wins, in big blinds."""
    a_K, c_KxK = self.payoffs
    return float(-0.5 + self.jams_K @ (a_K + c_KxK @ self.calls_K))

  def shares(self) -> tuple[float, float]:
    """Return the shares of deals in which the first jams and the second would call."""
    jams_D, calls_D = self.jams_K[self.first_D], self.calls_K[self.second_D]
    return float(jams_D.mean()), float(calls_D.mean())

  def responding(self, player: str) -> "JamOrFold":
    """Return the game in which a player best-responds to the other."""
    a_K, c_KxK = self.payoffs
    if player == FIRST:
      return self._played(jams_K=(a_K + c_KxK @ self.calls_K > 0).astype(float))
    return self._played(calls_K=(self.jams_K @ c_KxK < 0).astype(float))

  def exploitability(self) -> float:
    """Return the most that both players together can gain by other strategies."""
    return self.responding(FIRST).mean() - self.responding(SECOND).mean()

  def solved(self) -> "JamOrFold":
    """Return the game at an equilibrium, by two linear programs (HiGHS)."""
    a_K, c_KxK = self.payoffs
    size = len(a_K)
    # First player: max a'x + sum v with v <= 0 and v <= C'x; likewise the second.
    jams = _program(a_K, np.hstack([-c_KxK.T, np.eye(size)]), np.zeros(size), (None, 0))
    calls = _program(np.zeros(size), np.hstack([c_KxK, np.eye(size)]), -a_K, (None, 0))
    return self._played(jams_K=jams, calls_K=calls)

  def _played(self, **plays: np.ndarray) -> "JamOrFold":
    return dataclasses.replace(self, **plays)

  def components(self) -> dict[variance.Group, float]:
    """Return the components of variance in closed form, over these deals."""
    a_K, c_KxK = self.payoffs
    jams_K, calls_K, mean = self.jams_K, self.calls_K, self.mean()
    p_D, q_D = jams_K[self.first_D], calls_K[self.second_D]
    stake_D = self.stake_D
    spread_p_K, spread_q_K = jams_K * (1 - jams_K), calls_K * (1 - calls_K)
    of_first = ((a_K + c_KxK @ calls_K) ** 2 * spread_p_K).sum()
    against_K = (jams_K @ c_KxK) ** 2  # Of the second player alone.
    of_second = (against_K * spread_q_K).sum()
    within = spread_q_K * (against_K + spread_p_K @ c_KxK**2)
    jammed_D = 1 + q_D * (stake_D - 1)
    seconds_D = [-0.5 + p_D * (1.5 + call * (stake_D - 1)) for call in (0, 1)]
    squares = {
      (CHANCE,): (-0.5 + p_D * (0.5 + jammed_D)) ** 2,
      (FIRST, CHANCE): (1 - p_D) / 4 + p_D * jammed_D**2,
      (SECOND, CHANCE): (1 - q_D) * seconds_D[0] ** 2 + q_D * seconds_D[1] ** 2,
      FACTORS: (1 - p_D) / 4 + p_D * (1 - q_D) + p_D * q_D * stake_D**2,
    }
    explained = {frozenset(g): float(s.mean() - mean**2) for g, s in squares.items()}
    explained |= {
      frozenset({FIRST}): float(of_first),
      frozenset({SECOND}): float(of_second),
      frozenset({FIRST, SECOND}): float(of_first + within.sum()),
    }
    return variance.from_explained(explained)

  def draw(self, factor: str, rng: np.random.Generator, count: int) -> np.ndarray:
    """Return pure strategies, bool [N, K], or for chance deals, int [N]."""
    if factor == CHANCE:
      return rng.integers(len(self.stake_D), size=count)
    chosen_K = self.jams_K if factor == FIRST else self.calls_K
    return rng.random((count, len(chosen_K))) < chosen_K

  def outcomes(self, strategies: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return what the first wins when the n-th strategies of all play, [N]."""
    deal_N = strategies[CHANCE]
    games_N = np.arange(len(deal_N))
    jams_N = strategies[FIRST][games_N, self.first_D[deal_N]]
    calls_N = strategies[SECOND][games_N, self.second_D[deal_N]]
    return -0.5 + jams_N * (1.5 + calls_N * (self.stake_D[deal_N] - 1))


@dataclasses.dataclass(frozen=True)
class Limit:
  """Hold'em with limits on these deals; all actions are equally likely."""

  dealt: Deals

  factors = FACTORS

  def draw(self, factor: str, rng: np.random.Generator, count: int) -> np.ndarray:
    """Return pure strategies, uint64 numbers [N], or for chance deals, int [N]."""
    if factor == CHANCE:
      return rng.integers(len(self.dealt.won_D), size=count)
    return rng.integers(2**63, size=count).astype(np.uint64)

  def outcomes(self, strategies: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return what the first wins when the n-th strategies of all play, [N].

    An action is a hash of the strategy's number and of all that the player knows: its
    cards, the public cards and every action so far. So it is the same whenever the
    player knows the same, and independent otherwise.
    """
    deal_N = strategies[CHANCE]
    cards_Nx9, won_N = self.dealt.cards_Dx9[deal_N], self.dealt.won_D[deal_N]
    known = _known_cards(cards_Nx9)
    result_N = np.zeros(len(deal_N))
    paid_Nx2 = np.tile([0.5, 1.0], (len(deal_N), 1))
    history_N = np.zeros(len(deal_N), np.uint64)
    going_N = np.ones(len(deal_N), bool)
    for street in range(4):
      bets_N = np.full(len(deal_N), 1 if street == 0 else 0)
      turn = 0 if street == 0 else 1  # The second player acts first after round 0.
      open_N, acted = going_N.copy(), 0
      while open_N.any():
        number = strategies[PLAYERS[turn]]
        facing_N = paid_Nx2[:, turn] < paid_Nx2[:, 1 - turn]
        legal_Nx3 = np.stack(
          [facing_N, np.ones_like(facing_N), bets_N < _MOST_BETS], axis=1
        )
        draw_N = _uniform(number, known[turn][street], history_N)
        place_N = (draw_N * legal_Nx3.sum(axis=1)).astype(int)
        action_N = np.argmax(np.cumsum(legal_Nx3, axis=1) > place_N[:, None], axis=1)
        folds_N, raises_N = (open_N & (action_N == kind) for kind in (_FOLD, _RAISE))
        calls_N = open_N & (action_N == _CALL)
        lost_N = -paid_Nx2[:, 0] if turn == 0 else paid_Nx2[:, 1]
        result_N[folds_N] = lost_N[folds_N]
        going_N &= ~folds_N
        most_N = paid_Nx2.max(axis=1)
        paid_Nx2[calls_N, turn] = most_N[calls_N]
        paid_Nx2[raises_N, turn] = most_N[raises_N] + _BETS[street]
        bets_N[raises_N] += 1
        step_N = history_N * np.uint64(4) + (action_N + 1).astype(np.uint64)
        history_N = np.where(open_N, step_N, history_N)
        # A call ends a round, unless it is the round's first action.
        open_N &= raises_N | (calls_N & (acted == 0))
        turn, acted = 1 - turn, acted + 1
    shown_N = won_N * paid_Nx2[:, 0]
    return np.where(going_N, shown_N, result_N)


def _program(gains_K, sums_KxM, at_most_K, bounds) -> np.ndarray:
  """Return x in [0, 1] with the largest gains'x + sum v, sums @ (x, v) <= at_most."""
  size = len(gains_K)
  result = optimize.linprog(
    c=-np.concatenate([gains_K, np.ones(size)]),
    A_ub=sums_KxM,
    b_ub=at_most_K,
    bounds=[(0, 1)] * size + [bounds] * size,
    method="highs",
  )
  if result.status != 0:
    raise RuntimeError(f"HiGHS did not solve jam or fold: {result.message}")
  return np.clip(result.x[:size], 0.0, 1.0)


def _known_cards(cards_Nx9: np.ndarray) -> list[list[np.ndarray]]:
  """Return the cards that a player knows, by player and round, as uint64 [N]."""
  public_Nx5 = cards_Nx9[:, 4:].copy()
  public_Nx5[:, :3].sort(axis=1)  # The flop is shown at once.
  known = []
  for player in range(2):
    own_Nx2 = np.sort(cards_Nx9[:, 2 * player : 2 * player + 2], axis=1)
    known.append([_number([*own_Nx2.T, *public_Nx5[:, :n].T]) for n in _SHOWN])
  return known


def _number(digits: list[np.ndarray]) -> np.ndarray:
  """Return digits in [0, 52) as one number, uint64 [N]."""
  total = np.zeros(len(digits[0]), np.uint64)
  for digit in digits:
    total = total * np.uint64(53) + (digit + 1).astype(np.uint64)
  return total


def _uniform(*numbers_N: np.ndarray) -> np.ndarray:
  """Return uniform numbers in [0, 1) that are a hash of the given ones, [N].

  Reference: the finalizer of SplitMix64 (Steele, Lea and Flood 2014).
  """
  mixed = np.zeros(len(numbers_N[0]), np.uint64)
  with np.errstate(over="ignore"):
    for number in numbers_N:
      mixed = (mixed ^ number) + np.uint64(0x9E3779B97F4A7C15)
      mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
      mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
      mixed ^= mixed >> np.uint64(31)
  return (mixed >> np.uint64(11)) / 2.0**53
