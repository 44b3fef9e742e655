"""TOFU's scores: how likely right answers are, alone and beside wrong ones.

  P(a|q)^(1/|a|) = exp(mean over the answer's tokens of log p(token | all before it))

is the probability of an answer, whatever its length. From it

  truth ratio      R = mean over perturbed answers of P^(1/|.|) / P(paraphrase)^(1/|.|)
  against wrong ones   P(a)^(1/|a|) / sum over a and its perturbed answers of P^(1/|.|)

Of what is kept max(0, 1 - R) is averaged, and of what is to be forgotten min(R, 1 / R).

These are the paper's formulas. The published code (locuslab/tofu, and open-unlearning
after it) averages the perturbed answers' losses before it takes exp, so that its mean
in R is geometric (`is_geometric`), and counts the end of text that follows an answer
among its tokens; locuslab/tofu also the words "Answer: " of its template for plain
models, which no one else does. All probabilities and p-values differ a little by it.

Reference: TOFU, arXiv 2401.06121, section 2.2.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from undo_jax.data.tofu import Encode, Pair, Question
from undo_jax.evaluation import log_probabilities
from undo_jax.evaluation.parts import in_parts
from undo_jax.utils.types import Params

Arrays = dict[str, Any]
SETS = ("forget", "retain", "forget_attacked", "real_authors", "world_facts")
AGAINST_WRONG = ("real_authors", "world_facts")  # Whose probability is normalized.
# Sets with perturbed answers.
PERTURBED = ("forget", "retain", *AGAINST_WRONG)
TRUTH_RATIO = "_truth_ratio"
ANSWER, PARAPHRASE, WRONG = 0, 1, 2  # Slots of a question's answers; wrong ones follow.
_SMALLEST = 32  # Tokens of the shortest bucket; longer ones double.
_MULTIPLE = 8  # Of a bucket's length and of its positions.


class Answers(NamedTuple):
  """A question's answers as ids; without wrong ones no paraphrase is scored."""

  answer: Pair
  paraphrase: Pair | None = None
  perturbed: tuple[Pair, ...] = ()


def answers(
  question: Question, encode: Encode, num_perturbed: int | None, *, alone: bool = False
) -> Answers:
  """Return a question's answers as ids.

  Args:
    question: with its answers as texts.
    encode: see data/tofu.py.
    num_perturbed: wrong answers at most, the first ones; None: all.
    alone: whether to leave out the paraphrase and the wrong answers.
  """
  pair = functools.partial(encode, question.question, place=question.place)
  if alone:
    return Answers(pair(question.answer))
  perturbed = tuple(pair(answer) for answer in question.perturbed[:num_perturbed])
  return Answers(pair(question.answer), pair(question.paraphrase), perturbed)


def names_of(sets: Mapping[str, Sequence[Answers]]) -> tuple[str, ...]:
  """Return the scores by task of sets, beside "retain" and "forget"."""
  there = [name for name in SETS if sets.get(name)]
  ratios = [f"{name}{TRUTH_RATIO}" for name in there if name in PERTURBED]
  return (*(name for name in there if name not in ("retain", "forget")), *ratios)


def encode(
  sets: Mapping[str, Sequence[Answers]],
  *,
  bos_id: int | None,
  pad_id: int,
) -> Arrays:
  """Return the questions of all sets as arrays.

  Rows are what a model reads: one for each answer that differs from the question's
  others. They are put in buckets by length, of at most 32, 64, 128, ... tokens.

  Args:
    sets: questions by the name of their set, of SETS.
    bos_id: begins a row; None: nothing does.
    pad_id: fills rows up.

  Returns:
    "set" int32 [Q], an index into SETS; "has" bool [Q, C], which answers a question
    has (slots ANSWER, PARAPHRASE and from WRONG on); and "rows", for each bucket
    (by the decimals of its length L) "inputs" int32 [B, L], "positions" and "targets"
    int32 [B, P], "mask" bool [B, P] of what is scored, "question" int32 [B], whose it
    is, and "slots" bool [B, C], for which answers it stands.
  """
  pairs = [(SETS.index(n), a) for n in SETS for a in sets.get(n, ())]
  C = WRONG + max((len(answers.perturbed) for _, answers in pairs), default=0)
  set_Q = np.asarray([index for index, _ in pairs], np.int32)
  has_QxC = np.zeros((len(pairs), C), bool)
  buckets: dict[int, list[Any]] = {}
  for number, (_, answers) in enumerate(pairs):
    for pair, own in slots(answers).items():
      has_QxC[number, own] = True
      read = ([] if bos_id is None else [bos_id], *pair)
      size = sum(map(len, read)) - 1
      buckets.setdefault(_bucket(size), []).append((read, number, own))
  made = {}
  for _, members in sorted(buckets.items()):
    arrays = _arrays(members, C, pad_id)
    made[str(arrays["inputs"].shape[1])] = arrays
  return {"rows": made, "set": set_Q, "has": has_QxC}


def means(
  apply: Callable, params: Params, arrays: Arrays, *, rows_at_once: int = 512
) -> jax.Array:
  """Compute the mean log-probability of every answer's tokens.

  mean over the answer's tokens of log p(token | all before it)

  Args:
    apply: the model's.
    params: its parameters.
    arrays: see `encode`.
    rows_at_once: rows in one forward pass; more go one pass after another.

  Returns:
    float32 [Q, C], in nats a token; 0 where there is no answer.
  """

  def score(part):
    logits = apply(params, part["inputs"], positions_BxP=part["positions"]).logits
    log_p_BxP = log_probabilities.of_tokens(logits, part["targets"][..., None])[..., 0]
    total_B = jnp.sum(jnp.where(part["mask"], log_p_BxP, 0.0), axis=-1)
    return total_B / jnp.maximum(jnp.sum(part["mask"], axis=-1), 1)

  mean_QxC = jnp.zeros(arrays["has"].shape)
  for bucket in arrays["rows"].values():
    mean_B = in_parts(score, bucket, rows_at_once)
    # An answer is scored in one row; the others add 0.
    added_BxC = jnp.where(bucket["slots"], mean_B[:, None], 0.0)
    mean_QxC = mean_QxC.at[bucket["question"]].add(added_BxC)
  return mean_QxC


def truth_ratios(
  mean_QxC: jax.Array | np.ndarray,
  has_QxC: jax.Array | np.ndarray,
  *,
  is_geometric: bool = False,
) -> jax.Array:
  """Compute log R of every question, see above.

  R = (1 / n) sum_k exp(m_k) / exp(m_paraphrase), or, as the published code has it, with
  the geometric mean: R = exp((1 / n) sum_k m_k - m_paraphrase).

  Args:
    mean_QxC: see `means`.
    has_QxC: bool, see `encode`; every question has wrong answers.
    is_geometric: which of both.

  Returns:
    float32 [Q], log R: 0 where truth and falsehood are as likely, less where truth is
    likelier.
  """
  wrong_QxK, has_QxK = mean_QxC[:, WRONG:], has_QxC[:, WRONG:]
  count_Q = jnp.maximum(jnp.sum(has_QxK, axis=-1), 1)
  if is_geometric:
    level_Q = jnp.sum(jnp.where(has_QxK, wrong_QxK, 0.0), axis=-1) / count_Q
  else:
    level_Q = jnp.log(_total(wrong_QxK, has_QxK)) - jnp.log(count_Q)
  return level_Q - mean_QxC[:, PARAPHRASE]


def of_truth_ratios(log_ratio_Q: jax.Array | np.ndarray, name: str) -> jax.Array:
  """Return what is averaged: min(R, 1 / R) of forget, max(0, 1 - R) of other sets."""
  if name == "forget":
    return jnp.exp(-jnp.abs(log_ratio_Q))
  return jnp.maximum(0.0, -jnp.expm1(log_ratio_Q))


def probabilities(
  mean_QxC: jax.Array | np.ndarray, has_QxC: jax.Array | np.ndarray, name: str
) -> jax.Array:
  """Return P(a|q)^(1/|a|) of a set, in AGAINST_WRONG as a share of all answers'."""
  answer_Q = jnp.exp(mean_QxC[:, ANSWER])
  if name not in AGAINST_WRONG:
    return answer_Q
  return answer_Q / (answer_Q + _total(mean_QxC[:, WRONG:], has_QxC[:, WRONG:]))


def make_evaluate(
  apply: Callable, names: Sequence[str], *, rows_at_once: int = 512
) -> Callable[[Params, Arrays], dict[str, jax.Array]]:
  """Return `(params, arrays) -> scores`, each in [0, 1].

  Args:
    apply: the model's.
    names: of the scores by task, see `names_of`.
    rows_at_once: see `means`.

  Returns:
    A pure function; a score is the mean over a set's questions of `probabilities`, with
    TRUTH_RATIO in its name that of `of_truth_ratios`.
  """

  def evaluate(params, arrays):
    mean_QxC = means(apply, params, arrays, rows_at_once=rows_at_once)
    log_ratio_Q = truth_ratios(mean_QxC, arrays["has"])
    scores = {}
    for score in ("retain", "forget", *names):
      name = score.removesuffix(TRUTH_RATIO)
      if score == name:
        value_Q = probabilities(mean_QxC, arrays["has"], name)
      else:
        value_Q = of_truth_ratios(log_ratio_Q, name)
      is_own_Q = arrays["set"] == SETS.index(name)
      total = jnp.sum(jnp.where(is_own_Q, value_Q, 0.0))
      scores[score] = total / jnp.maximum(jnp.sum(is_own_Q), 1)
    return scores

  return evaluate


def describe(sets: Mapping[str, Sequence[Answers]]) -> dict[str, dict[str, int]]:
  """Return what a score rests on: for each set its questions, answers and tokens."""
  sizes = {}
  for name in SETS:
    pairs = [pair for answers in sets.get(name, ()) for pair in slots(answers)]
    tokens = sum(len(pair.given) + len(pair.scored) for pair in pairs)
    counts = {"questions": len(sets.get(name, ())), "answers": len(pairs)}
    sizes[name] = counts | {"tokens": tokens}
  return sizes


def _total(mean_QxK, has_QxK):
  """Return the sum of exp over the answers that are there; 1 where there is none."""
  total_Q = jnp.sum(jnp.where(has_QxK, jnp.exp(mean_QxK), 0.0), axis=-1)
  return jnp.where(jnp.any(has_QxK, axis=-1), total_Q, 1.0)


def slots(answers: Answers) -> dict[Pair, list[int]]:
  """Return a question's answers that differ, with the slots of each."""
  by_pair: dict[Pair, list[int]] = {answers.answer: [ANSWER]}
  if answers.paraphrase is not None:
    by_pair.setdefault(answers.paraphrase, []).append(PARAPHRASE)
  for slot, pair in enumerate(answers.perturbed, start=WRONG):
    by_pair.setdefault(pair, []).append(slot)
  return by_pair


def _bucket(length: int) -> int:
  """Return the power of two that a row's length is rounded up to."""
  return max(_SMALLEST, 1 << (length - 1).bit_length())


def _up(number: int, multiple: int) -> int:
  return -(-number // multiple) * multiple


def _arrays(members, C, pad_id) -> Arrays:
  """Return the rows of a bucket, as long as its longest needs."""
  B = len(members)
  L = _up(max(sum(map(len, read)) for read, _, _ in members) - 1, _MULTIPLE)
  P = _up(max(len(read[-1]) for read, _, _ in members), _MULTIPLE)
  arrays = {
    "inputs": np.full((B, L), pad_id, np.int32),
    "positions": np.zeros((B, P), np.int32),
    "targets": np.zeros((B, P), np.int32),
    "mask": np.zeros((B, P), bool),
    "question": np.zeros(B, np.int32),
    "slots": np.zeros((B, C), bool),
  }
  for row, ((bos, given, scored), number, own) in enumerate(members):
    whole, num = [*bos, *given, *scored], len(scored)
    arrays["inputs"][row, : len(whole) - 1] = whole[:-1]
    arrays["positions"][row, :num] = np.arange(len(whole) - 1 - num, len(whole) - 1)
    arrays["targets"][row, :num] = scored
    arrays["mask"][row, :num] = True
    arrays["question"][row] = number
    arrays["slots"][row, own] = True
  return arrays
