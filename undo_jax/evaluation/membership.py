"""Whether a model was trained on a text: how surprising its tokens are.

A score is low for what a model was trained on. Texts that it was to forget are held
against texts of the same kind that it never saw: where it has neither, half of all
pairs are in either order.

References: Min-K%: Shi et al., arXiv 2310.16789; Min-K%++: Zhang et al., arXiv
2404.02936; PrivLeak: MUSE, arXiv 2407.06460. All as in open-unlearning (Dorna et al.,
arXiv 2506.12618).
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from undo_jax.evaluation.scoring import TokenScores

SHARE = 0.4  # K of Min-K% in MUSE and in open-unlearning.


def loss(scores: TokenScores) -> float:
  """Return the cross-entropy of a text, in nats a token."""
  return -float(np.mean(scores.log_p, dtype=np.float64))


def min_k(scores: TokenScores, share: float = SHARE) -> float:
  """Return the mean of -log p over the least likely tokens.

  Args:
    scores: of a text's tokens, at least one.
    share: of the tokens, rounded down, but one at least.
  """
  return -_mean_of_least(scores.log_p, share)


def min_k_plus_plus(scores: TokenScores, share: float = SHARE) -> float:
  """Return `min_k` of log-probabilities that are standardized at each position.

  Args:
    scores: of a text's tokens, standardized.
    share: see `min_k`.
  """
  assert scores.standardized is not None, "Scorer.tokens(standardize=True)"
  return -_mean_of_least(scores.standardized, share)


ATTACKS: dict[str, Callable[[TokenScores], float]] = {
  "loss": loss,
  "min_k": min_k,
  "min_k_plus_plus": min_k_plus_plus,
}


def auc(forget: Sequence[float], holdout: Sequence[float]) -> float:
  """Return the share of pairs in which the forget text is the more surprising one.

  (1 / nm) sum_ij [f_i > h_j] + [f_i = h_j] / 2

  It is 0 for a model that knows all forget texts by heart and 1/2 for one that never
  saw them; MUSE counts it in this direction.

  Args:
    forget: scores of texts to be forgotten.
    holdout: scores of texts that no model was trained on.
  """
  n, m = len(forget), len(holdout)
  ranks = stats.rankdata([*forget, *holdout])[:n]
  return float((ranks.sum() - n * (n + 1) / 2) / (n * m))


def privacy_leakage(unlearned: float, retrained: float) -> float:
  """Return PrivLeak, in percent: 0 where both models are alike.

  100 (auc_unlearned - auc_retrained) / auc_retrained

  Below 0 what was to be forgotten still shows; above 0 its absence does.

  Args:
    unlearned: `auc` of the model.
    retrained: `auc` of one that was trained without the forget texts.
  """
  return 100 * (unlearned - retrained) / (retrained + 1e-10)


def _mean_of_least(values_T: np.ndarray, share: float) -> float:
  count = max(1, int(len(values_T) * share))
  return float(np.mean(np.sort(values_T)[:count], dtype=np.float64))
