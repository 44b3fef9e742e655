"""How much of a text a model has by heart: by tokens, by endings, by ROUGE.

ROUGE is rouge-score's (extra `tofu`), words stemmed.

References: exact memorization: Tirumala et al., arXiv 2205.10770; extraction strength:
Carlini et al., arXiv 2012.07805, as Wang et al. have it, arXiv 2410.02159. Both as in
open-unlearning (Dorna et al., arXiv 2506.12618).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from undo_jax.utils import extras

STATISTICS = ("recall", "fmeasure")


def exact(is_likeliest_T: np.ndarray) -> float:
  """Return the share of a text's tokens that are the likeliest where they stand.

  Args:
    is_likeliest_T: bool, of at least one token, each read after all before it.
  """
  return float(np.mean(is_likeliest_T))


def extraction_strength(
  is_likeliest_T: np.ndarray, *, needs_token: bool = False
) -> float:
  """Return the share of a text that a model completes, given the rest before it.

  1 - k / T, with k the fewest tokens after which all others are the likeliest.

  Args:
    is_likeliest_T: see `exact`.
    needs_token: whether k is at most T - 1, so that a model which completes nothing has
      1 / T and not 0, as in the published code.
  """
  T = len(is_likeliest_T)
  wrong = np.flatnonzero(~np.asarray(is_likeliest_T, bool))
  k = int(wrong[-1]) + 1 if len(wrong) else 0
  return 1 - min(k, T - 1 if needs_token else T) / T


def rouge_l(
  truths: Sequence[str], texts: Sequence[str], *, statistic: str = "recall"
) -> list[float]:
  """Return ROUGE-L of each text: how much of the truth it has, in order.

  Args:
    truths: what is right.
    texts: what a model says.
    statistic: recall, the share of the truth's words; fmeasure, the harmonic mean of
      that and the share of the text's words.

  Raises:
    ConfigError: if rouge-score is not installed.
  """
  scorer = _rouge()
  pairs = zip(truths, texts, strict=True)
  return [float(getattr(scorer.score(a, b)["rougeL"], statistic)) for a, b in pairs]


def check_rouge() -> None:
  """Raise ConfigError if rouge-score is not installed."""
  _rouge()


def _rouge() -> Any:
  try:
    from rouge_score import rouge_scorer  # pyright: ignore
  except ImportError as error:
    raise extras.needed("tofu", error) from None
  return rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
