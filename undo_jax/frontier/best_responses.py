"""Games whose rows and columns are trained, one best response for each agent.

Agent k of each side is trained against a mixture of the other side's agents before it.
If every best response is a training run, the fewer suffice the better; compare the
three mixtures of `oracle_loop` on the game at hand.

Shapes: K agents of a side, I rows, J columns.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
from typing import Generic, Literal, TypeVar, get_args

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from undo_jax.frontier import games
from undo_jax.utils.errors import ConfigError

Mixing = Literal["equilibrium", "fictitious", "anticipatory"]
Row = TypeVar("Row")
Column = TypeVar("Column")


@dataclasses.dataclass(frozen=True)
class Schedule:
  """Who is trained against whom, each in equal parts."""

  eligible_KxK: np.ndarray  # bool; row k: whom agent k is trained against.
  counted_KxK: np.ndarray  # bool; row k: whose mixture is reported after agent k.
  ephemeral_K: np.ndarray  # bool; agents that only their successor sees.


@dataclasses.dataclass(frozen=True)
class Found(Generic[Row, Column]):
  """The result of a loop of best responses."""

  rows: list[Row]
  columns: list[Column]
  payoffs_KxK: np.ndarray
  row_strategy_K: np.ndarray  # The last mixtures.
  column_strategy_K: np.ndarray
  lower_by_round: list[float]  # What the best column leaves of the mixture of rows.
  upper_by_round: list[float]  # What the best row gets against that of columns.


def schedule(
  num_agents: int, *, anticipatory: bool = True, num_initial_steps: int = 0
) -> Schedule:
  """Return whom each agent of a population is trained against.

  fictitious play: all agents before it. Anticipatory, with q initial steps: agent k > q
  is ephemeral if k - q is odd; agent k is trained against those before it that are not
  ephemeral, and against agent k - 1.

  Args:
    num_agents: K, of which the first is given.
    anticipatory: the form of anticipatory fictitious play.
    num_initial_steps: q, agents after the first that best-respond to all before them.

  Reference: arXiv 2212.09941, the form for populations of neural networks.
  """
  if num_agents < 1 or num_initial_steps < 0:
    raise ConfigError(
      "num_agents is positive and num_initial_steps not negative, got"
      f" {num_agents} and {num_initial_steps}"
    )
  agents_K = np.arange(num_agents)
  odd_K = (agents_K - num_initial_steps) % 2 == 1
  ephemeral_K = odd_K & (agents_K > num_initial_steps) & anticipatory
  back_KxK = agents_K[:, None] - agents_K
  return Schedule(
    eligible_KxK=(back_KxK > 0) & (~ephemeral_K | (back_KxK == 1)),
    counted_KxK=(back_KxK >= 0) & (~ephemeral_K | (back_KxK == 0)),
    ephemeral_K=ephemeral_K,
  )


def population_play(
  payoffs: ArrayLike,
  num_agents: int,
  *,
  key: jax.Array | None = None,
  anticipatory: bool = True,
  num_initial_steps: int = 0,
  initial: tuple[int, int] = (0, 0),
) -> games.Trajectory:
  """Return the plays of agents of which each is one best response.

  Agent 2t of the anticipatory form is play t of anticipatory fictitious play, if ties
  go the same way. One jax.lax.scan; may be vmapped over payoffs and keys.

  Args:
    payoffs: A of shape [I, J], to the row player; may be traced.
    num_agents: K of each side, of which `initial` is the first.
    key: PRNG key that breaks ties, uniformly. None: the lowest index wins.
    anticipatory: see `schedule`.
    num_initial_steps: see `schedule`.
    initial: row and column of the first agents.

  Returns:
    Agent after agent; averages and certificate are those of the agents that are not
    ephemeral, and of the newest.
  """
  who = schedule(
    num_agents, anticipatory=anticipatory, num_initial_steps=num_initial_steps
  )
  payoffs_IxJ = games.playable(payoffs, num_agents, initial=initial, shared=False)
  return _play(payoffs_IxJ, key, who.eligible_KxK, who.counted_KxK, initial=initial)


def oracle_loop(
  payoff: Callable[[Row, Column], float],
  best_row: Callable[[Sequence[Column], np.ndarray], Row],
  best_column: Callable[[Sequence[Row], np.ndarray], Column],
  start: tuple[Row, Column],
  *,
  num_rounds: int,
  mixing: Mixing = "equilibrium",
  tolerance: float = 1e-9,
) -> Found[Row, Column]:
  """Return rows and columns that best responses find, one of each a round.

  Each round a row is trained against a mixture of the columns so far, and a column
  against one of the rows: the equilibrium of the game between them (double oracle), or
  equal parts of those that `schedule` names. With exact best responses the value of the
  whole game lies between the largest `lower` and the smallest `upper`; a trained
  response is rarely the best, and the bounds are as good as it is.

  Args:
    payoff: of a row against a column, to the row; asked once for each two.
    best_row: (columns, their weights) -> a row that does best against that mixture.
    best_column: (rows, their weights) -> a column that leaves it least.
    start: the first row and column.
    num_rounds: best responses of each side at most.
    mixing: "equilibrium" (double oracle), "fictitious" or "anticipatory".
    tolerance: the loop ends once the bounds are as near as this.

  Returns:
    Rows, columns, their payoffs and the last mixtures.

  Raises:
    ConfigError: if there is no such mixing.

  Reference: McMahan, Gordon and Blum, ICML 2003; arXiv 2212.09941.
  """
  if mixing not in get_args(Mixing):
    raise ConfigError(f"mixing is one of {get_args(Mixing)}, got {mixing!r}")
  who = schedule(num_rounds + 1, anticipatory=mixing == "anticipatory")
  rows, columns = [start[0]], [start[1]]
  payoffs_KxK = np.array([[payoff(*start)]], dtype=float)
  lower_by_round, upper_by_round = [], []
  for agent in range(1, num_rounds + 1):
    mixed = _mixtures(payoffs_KxK, who.eligible_KxK[agent, :agent], mixing)
    row_weights, column_weights = mixed
    row, column = best_row(columns, column_weights), best_column(rows, row_weights)
    against_rows = np.array([payoff(each, column) for each in rows])
    against_columns = np.array([payoff(row, each) for each in columns])
    lower_by_round.append(float(row_weights @ against_rows))
    upper_by_round.append(float(column_weights @ against_columns))
    rows, columns = [*rows, row], [*columns, column]
    corner = payoff(row, column)
    payoffs_KxK = np.block(
      [[payoffs_KxK, against_rows[:, None]], [against_columns[None], corner]]
    )
    if min(upper_by_round) - max(lower_by_round) <= tolerance:
      break
  counted = who.counted_KxK[len(rows) - 1, : len(rows)]
  final = _mixtures(payoffs_KxK, counted, mixing)
  return Found(rows, columns, payoffs_KxK, *final, lower_by_round, upper_by_round)


@functools.partial(jax.jit, static_argnames="initial")
def _play(
  payoffs_IxJ: jax.Array,
  key: jax.Array | None,
  eligible_KxK: jax.Array | np.ndarray,
  counted_KxK: jax.Array | np.ndarray,
  *,
  initial: tuple[int, int],
) -> games.Trajectory:
  """Return every agent's row and column; see `population_play`."""
  eligible_KxK, counted_KxK = jnp.asarray(eligible_KxK), jnp.asarray(counted_KxK)

  def train(plays, agent):
    rows_K, columns_K = plays
    weights_K = eligible_KxK[agent]
    utilities_I = games.summed(weights_K, payoffs_IxJ[:, columns_K].T)
    losses_J = games.summed(weights_K, payoffs_IxJ[rows_K])
    within = games.slack(payoffs_IxJ, weights_K.sum())
    pair = (None, None)
    if key is not None:
      pair = jax.random.split(jax.random.fold_in(key, agent))
    row = games.respond(utilities_I, pair[0], within).astype(jnp.int32)
    column = games.respond(-losses_J, pair[1], within).astype(jnp.int32)
    return (rows_K.at[agent].set(row), columns_K.at[agent].set(column)), None

  num_agents = len(eligible_KxK)
  start = (
    jnp.full(num_agents, initial[0], jnp.int32),
    jnp.full(num_agents, initial[1], jnp.int32),
  )
  plays, _ = jax.lax.scan(train, start, jnp.arange(1, num_agents))
  rows, columns = (
    counted_KxK.astype(jnp.int32) @ jax.nn.one_hot(plays_K, number, dtype=jnp.int32)
    for plays_K, number in zip(plays, payoffs_IxJ.shape, strict=True)
  )
  return games.trajectory(payoffs_IxJ, plays, rows, columns, jnp.arange(num_agents))


def _mixtures(
  payoffs_KxK: np.ndarray, members_K: np.ndarray, mixing: Mixing
) -> tuple[np.ndarray, np.ndarray]:
  """Return the weights of rows and of columns."""
  if mixing == "equilibrium":
    solution = games.solve(payoffs_KxK)
    return solution.row_strategy_I, solution.column_strategy_J
  uniform_K = members_K / members_K.sum()
  return uniform_K, uniform_K
