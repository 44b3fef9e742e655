"""How well a model resists, as one number: what headline and tables rank models by."""

from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier import robustness as rb
from undo_jax.frontier import statistics as st
from undo_jax.frontier.results import Results
from undo_jax.frontier.statistics import Mean


def budget(results: Results) -> int | None:
  """Return the largest budget that the config names, or that of the whole attack.

  None where nothing was attacked.
  """
  known = rb.budgets(results)
  named = [each for each in known if each in results.report.budgets]
  return (named or [*known] or [None])[-1]


def is_scaled(results: Results, budget: int) -> bool:
  """Whether robustness is defined, and not only the worst forget score."""
  ends = st.endpoints(results)
  return None not in ends and all(
    st.robustness_after(results, str(name), budget) is not None for name in ends
  )


def of(results: Results, name: str, budget: int) -> Mean | None:
  """Return a model's resistance after a budget: more is better.

  robustness, or where no references scale it the worst forget score, with its sign
  changed where more is more capable

  Returns:
    None if the model was not attacked, or has diverged.
  """
  if is_scaled(results, budget):
    return st.robustness_after(results, name, budget)
  worst = st.worst_forget(results, name, budget)
  sign = -1 if higher_is_worse(results.metrics["forget"]) else 1
  return None if worst is None else st.mean(sign * score for score in worst.by_seed)
