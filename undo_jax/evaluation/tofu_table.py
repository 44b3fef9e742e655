"""TOFU's table of a model: four sets, model utility and forget quality.

Of each set the probability of right answers and the truth ratio (see tofu.py), and the
ROUGE-L recall of greedy continuations against the answers, words stemmed.

  model utility   the harmonic mean of these three of retain, real authors, world facts
  forget quality  the p-value of the two-sample Kolmogorov-Smirnov test between the
                  truth ratios on the forget set of the model and of a reference that
                  never saw it

ROUGE is rouge-score's (extra `tofu`). Both as in the published code.

Reference: TOFU, arXiv 2401.06121, section 2.2.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from undo_jax.data.tofu import Encode, Question
from undo_jax.data.tokenizers import Tokenizer
from undo_jax.evaluation import tofu
from undo_jax.evaluation.scoring import Scorer
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder
from undo_jax.utils import extras, tables
from undo_jax.utils.types import ConfigError, JsonObject, Params

SETS = ("forget", "retain", "real_authors", "world_facts")
UTILITY = SETS[1:]  # Whose numbers are model utility.
FORMULAS = ("paper", "published_code")
_MOST_TOKENS = 8192  # Of a question with its answer: more than any has.


class Generation(NamedTuple):
  """The model's answer to a question."""

  question: str
  answer: str  # The right one.
  generated: str
  rouge: float  # ROUGE-L recall, in [0, 1].


@dataclasses.dataclass(frozen=True)
class Measured:
  """A set of questions under a model."""

  probability: float
  truth_ratio: float
  log_ratios: tuple[float, ...]  # log R of each question.
  generations: tuple[Generation, ...] = ()

  @property
  def rouge(self) -> float:
    """The mean ROUGE-L recall; NaN where nothing was generated."""
    recalls = [generation.rouge for generation in self.generations]
    return float(np.mean(recalls)) if recalls else float("nan")


class Subject:
  """A model that is measured."""

  def __init__(
    self,
    config: ModelConfig,
    params: Params,
    tokenizer: Tokenizer,
    encode: Encode,
    *,
    formulas: str = "paper",
    batch_size: int = 8,
  ):
    """Prepare; nothing is compiled before it is needed.

    Args:
      config: of the model.
      params: its parameters.
      tokenizer: its tokenizer.
      encode: makes ids of questions and answers, see data/tofu.py.
      formulas: one of FORMULAS, see tofu.py.
      batch_size: rows in one pass.

    Raises:
      ConfigError: if the tokenizer has ids that the model has no embedding for.
    """
    if tokenizer.vocab_size > config.vocab_size:
      raise ConfigError(
        f"config.data.tokenizer: expected at most {config.vocab_size} ids, which the "
        f"model has, got {tokenizer.vocab_size}; name the checkpoint's own"
      )
    self._vocab_size = config.vocab_size
    # Shared by all sets, which have shapes in common.
    self._scorer = Scorer(
      Decoder(config), params, max_length=_MOST_TOKENS, batch_size=batch_size
    )
    self._tokenizer, self._encode = tokenizer, encode
    self._is_published = formulas == "published_code"
    bos = tokenizer.bos_id
    self._bos = () if bos is None else (bos,)

  def measure(
    self,
    name: str,
    questions: Sequence[Question],
    *,
    num_perturbed: int | None = None,
    max_new_tokens: int = 0,
  ) -> Measured:
    """Measure a set.

    Args:
      name: of SETS.
      questions: its questions, with wrong answers.
      num_perturbed: wrong answers at most, the first ones; None: all.
      max_new_tokens: of a continuation; 0: nothing is generated.
    """
    answers = [tofu.answers(q, self._encode, num_perturbed) for q in questions]
    mean_QxC, has_QxC = self._means(answers)
    log_ratio_Q = tofu.truth_ratios(mean_QxC, has_QxC, is_geometric=self._is_published)
    return Measured(
      float(np.mean(tofu.probabilities(mean_QxC, has_QxC, name))),
      float(np.mean(tofu.of_truth_ratios(log_ratio_Q, name))),
      tuple(np.asarray(log_ratio_Q).tolist()),
      self._generate(questions, answers, max_new_tokens) if max_new_tokens else (),
    )

  def _means(self, encoded: Sequence[tofu.Answers]) -> tuple[np.ndarray, np.ndarray]:
    """Return what tofu.means does, and which answers there are."""
    end = (self._tokenizer.eos_id,) if self._is_published else ()
    C = tofu.WRONG + max(len(answers.perturbed) for answers in encoded)
    rows = [(q, *pair) for q, a in enumerate(encoded) for pair in tofu.slots(a).items()]
    pairs = [((*self._bos, *pair.given), (*pair.scored, *end)) for _, pair, _ in rows]
    mean_QxC = np.zeros((len(encoded), C), np.float32)
    has_QxC = np.zeros((len(encoded), C), bool)
    scored = self._scorer.log_likelihoods(pairs, progress=True)
    for (question, _, own), pair, (nats, _) in zip(rows, pairs, scored, strict=True):
      mean_QxC[question, own] = nats / len(pair[1])
      has_QxC[question, own] = True
    return mean_QxC, has_QxC

  def _generate(self, questions, encoded, max_new_tokens) -> tuple[Generation, ...]:
    prompts = [(*self._bos, *answers.answer.given) for answers in encoded]
    is_stop_V = np.zeros(self._vocab_size, bool)
    is_stop_V[self._tokenizer.eos_id] = True
    generated = self._scorer.generate(
      prompts, num_tokens=max_new_tokens, is_stop_V=is_stop_V, progress=True
    )
    texts = [self._tokenizer.decode(ids).strip() for ids in generated]
    recalls = rouge_recalls([q.answer for q in questions], texts)
    return tuple(
      Generation(question.question, question.answer, text, recall)
      for question, text, recall in zip(questions, texts, recalls, strict=True)
    )


def rouge_recalls(answers: Sequence[str], texts: Sequence[str]) -> list[float]:
  """Return the ROUGE-L recall of each text: how much of the answer it has, in order.

  Raises:
    ConfigError: if rouge-score is not installed.
  """
  scorer = _rouge()
  pairs = zip(answers, texts, strict=True)
  return [float(scorer.score(answer, text)["rougeL"].recall) for answer, text in pairs]


def check_rouge() -> None:
  """Raise ConfigError if rouge-score is not installed."""
  _rouge()


def model_utility(sets: Mapping[str, Measured]) -> float:
  """Return the harmonic mean of nine numbers, n / sum 1 / x; 0 if one of them is 0."""
  own = [sets[name] for name in UTILITY]
  numbers = [x for s in own for x in (s.probability, s.rouge, s.truth_ratio)]
  return 0.0 if min(numbers) <= 0 else len(numbers) / sum(1 / x for x in numbers)


def forget_quality(forget: Measured, reference: Measured) -> float:
  """Return the p-value of the two-sample Kolmogorov-Smirnov test of truth ratios.

  The test depends only on the order of the values, so their logarithms suffice.
  """
  test: Any = stats.ks_2samp(forget.log_ratios, reference.log_ratios)
  return float(test.pvalue)


def to_json(sets: Mapping[str, Measured], reference: Measured | None) -> JsonObject:
  """Return a model's table, its truth ratios and what it said as JSON has them."""
  table: JsonObject = {
    "model_utility": model_utility(sets),
    "forget_quality": reference and forget_quality(sets["forget"], reference),
    "sets": {},
  }
  for name, measured in sets.items():
    table["sets"][name] = {
      "questions": len(measured.log_ratios),
      "probability": measured.probability,
      "rouge_l_recall": measured.rouge,
      "truth_ratio": measured.truth_ratio,
      "log_truth_ratios": list(measured.log_ratios),
      "generations": [generation._asdict() for generation in measured.generations],
    }
  return table


def text(sets: Mapping[str, Measured], reference: Measured | None, shown: int) -> str:
  """Return the table for a terminal, and the first generations of each set."""
  header = ("set", "questions", "probability", "ROUGE-L recall", "truth ratio")
  rows = [
    (
      name,
      len(s.log_ratios),
      *(f"{x:.3f}" for x in (s.probability, s.rouge, s.truth_ratio)),
    )
    for name, s in sets.items()
  ]
  lines = [tables.text(header, rows), "", f"model utility   {model_utility(sets):.3f}"]
  if reference is not None:
    lines.append(f"forget quality  {forget_quality(sets['forget'], reference):.3g}")
  for name, measured in sets.items():
    for said in measured.generations[:shown]:
      lines += ["", f"{name}: {said.question}", f"  right: {said.answer}"]
      lines.append(f"  said:  {said.generated}")
  return "\n".join(lines)


def _rouge() -> Any:
  try:
    from rouge_score import rouge_scorer  # pyright: ignore
  except ImportError as error:
    raise extras.needed("tofu", error) from None
  return rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
