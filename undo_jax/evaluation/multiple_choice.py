"""Accuracy on multiple-choice questions as lm-evaluation-harness measures it.

A question is right when, among " A" to " D" after "Answer:", the right letter has the
largest log-likelihood; the first of equal ones counts. In tasks that are cloze the
choices' own texts stand in the letters' place, their log-likelihoods by the character
where a task says so (acc_norm there). Prompts are those of data/questions.py.
Tokens are split where the harness splits them: the prompt's are those of the prompt
alone, a choice's those that follow in prompt and choice together.

Choices after the same text, such as letters of one token, share one forward pass, in
which only the logits before them are computed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from undo_jax.data import questions as questions_lib
from undo_jax.data.questions import Question, QuestionSet
from undo_jax.data.tokenizers import Tokenizer
from undo_jax.evaluation import log_probabilities
from undo_jax.evaluation.parts import in_parts
from undo_jax.utils.types import ConfigError, Params

Arrays = dict[str, Any]
_SMALLEST = 32  # Tokens of the shortest bucket; longer ones double.
_MULTIPLE = 8  # Of a bucket's length.
_ONES = [1] * len(questions_lib.LETTERS)


def encode(tasks: Sequence[QuestionSet], tokenizer: Tokenizer) -> Arrays:
  """Return the questions of all tasks as arrays.

  Rows are what a model reads: one a question where its choices are one token each. They
  are put in buckets by length, of at most 32, 64, 128, ... tokens.

  Args:
    tasks: with at least one question each.
    tokenizer: the model's.

  Returns:
    "answer" int32 [Q], the index of the right choice; "task" int32 [Q], that of the
    task; "size" float32 [Q, C], what a choice's log-likelihood is divided by; and
    "rows", for each bucket (by the decimals of its length L) "inputs" int32 [B, L],
    "positions" int32 [B, P], "targets" int32 and "mask" bool [B, P, C], what is scored
    at these positions for each choice, and "question" int32 [B], whose it is.

  Raises:
    ConfigError: if a task has no question, or the tokenizer joins a choice with the
      colon before it.
  """
  rows: list[tuple[list[int], dict[int, list[int]], int]] = []
  pairs = [(index, task, q) for index, task in enumerate(tasks) for q in task.questions]
  for task in tasks:
    if not task.questions:
      raise ConfigError(f"expected questions in the task {task.name}, got none")
  for number, (_, task, question) in enumerate(pairs):
    shared: dict[tuple[int, ...], dict[int, list[int]]] = {}
    for choice, (given, scored) in enumerate(_tokens(task, question, tokenizer)):
      shared.setdefault((*given, *scored[:-1]), {})[choice] = scored
    rows += [(list(read), scored, number) for read, scored in shared.items()]
  num_positions = max(len(s) for _, scored, _ in rows for s in scored.values())
  buckets: dict[int, list[Any]] = {}
  for row in rows:
    buckets.setdefault(_bucket(len(row[0])), []).append(row)
  made = {}
  for _, members in sorted(buckets.items()):
    arrays = _arrays(members, num_positions, tokenizer.pad_id)
    made[str(arrays["inputs"].shape[1])] = arrays
  return {
    "rows": made,
    "answer": np.asarray([q.answer for _, _, q in pairs], np.int32),
    "task": np.asarray([index for index, _, _ in pairs], np.int32),
    "size": np.asarray([_sizes(task, q) for _, task, q in pairs], np.float32),
  }


def describe(tasks: Sequence[QuestionSet]) -> dict[str, dict[str, int]]:
  """Return what a score rests on: for each task its questions and shots."""
  return {
    task.name: {"questions": len(task.questions), "shots": len(task.shots)}
    for task in tasks
  }


def log_likelihoods(
  apply: Callable, params: Params, arrays: Arrays, *, rows_at_once: int = 512
) -> jax.Array:
  """Compute the log-likelihood of every choice.

  sum over the choice's tokens of log p(token | all before it).

  Args:
    apply: the model's.
    params: its parameters.
    arrays: see `encode`.
    rows_at_once: rows in one forward pass; more go one pass after another.

  Returns:
    float32 [Q, C], in nats.
  """

  def score(part):
    logits = apply(params, part["inputs"], positions_BxP=part["positions"]).logits
    log_p_BxPxC = log_probabilities.of_tokens(logits, part["targets"])
    return jnp.sum(jnp.where(part["mask"], log_p_BxPxC, 0.0), axis=1)

  total_QxC = jnp.zeros((len(arrays["answer"]), len(questions_lib.LETTERS)))
  for bucket in arrays["rows"].values():
    nats_BxC = in_parts(score, bucket, rows_at_once)
    # A choice is scored in one row; the others add 0.
    total_QxC = total_QxC.at[bucket["question"]].add(nats_BxC)
  return total_QxC


def make_evaluate(
  apply: Callable,
  names: Sequence[str],
  *,
  groups: Mapping[str, Sequence[str]],
  rows_at_once: int = 512,
) -> Callable[[Params, Arrays], dict[str, jax.Array]]:
  """Return `(params, arrays) -> scores`, each in [0, 1].

  Args:
    apply: the model's.
    names: of the tasks, in the order of `encode`.
    groups: more scores, each over the questions of several tasks.
    rows_at_once: see `log_likelihoods`.

  Returns:
    A pure function; its scores are the accuracy of every task, and that of every
    group: each question counts alike, as in the harness's groups. All are NaN where a
    log-likelihood is: the model has diverged.

  Raises:
    ValueError: if a group has no task, or one that is not there.
  """
  members = {}
  for group, own in groups.items():
    if not own or not set(own) <= set(names):
      raise ValueError(f"group {group} must be of tasks {list(names)}, got {list(own)}")
    members[group] = own
  members |= {name: [name] for name in names}

  def evaluate(params, arrays):
    nats_QxC = log_likelihoods(apply, params, arrays, rows_at_once=rows_at_once)
    right_Q = jnp.argmax(nats_QxC / arrays["size"], axis=-1) == arrays["answer"]
    right_Q = jnp.where(jnp.any(jnp.isnan(nats_QxC), axis=-1), jnp.nan, right_Q)
    scores = {}
    for name, own in members.items():
      is_member = np.asarray([other in own for other in names], np.float32)
      weight_Q = jnp.asarray(is_member)[arrays["task"]]
      scores[name] = jnp.sum(weight_Q * right_Q) / jnp.sum(weight_Q)
    return scores

  return evaluate


def _tokens(
  task: QuestionSet, question: Question, tokenizer: Tokenizer
) -> list[tuple[list[int], list[int]]]:
  """Return for each choice the ids that are given and those that are scored."""
  bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
  text = questions_lib.context(task, question)
  given = tokenizer.encode(text)
  pairs = []
  for choice in questions_lib.continuations(task, question):
    scored = tokenizer.encode(text + choice)[len(given) :]
    if not scored:
      raise ConfigError(
        f"data.tokenizer: expected a token for the answer {choice!r} after 'Answer:', "
        "but the tokenizer joins them; choose another"
      )
    pairs.append(([*bos, *given], scored))
  return pairs


def _sizes(task: QuestionSet, question: Question) -> list[int]:
  """Return for each choice its characters, or 1 where they do not count."""
  return [len(c) or 1 for c in question.choices] if task.is_normalized else _ONES


def _bucket(length: int) -> int:
  """Return the power of two that a row's length is rounded up to."""
  return max(_SMALLEST, 1 << (length - 1).bit_length())


def _arrays(members, num_positions, pad_id) -> dict[str, np.ndarray]:
  """Return the rows of a bucket, as long as its longest needs."""
  B = len(members)
  L = -(-max(len(read) for read, _, _ in members) // _MULTIPLE) * _MULTIPLE
  P, C = num_positions, len(questions_lib.LETTERS)
  inputs_BxL = np.full((B, L), pad_id, np.int32)
  positions_BxP = np.zeros((B, P), np.int32)
  targets_BxPxC = np.zeros((B, P, C), np.int32)
  mask_BxPxC = np.zeros((B, P, C), bool)
  question_B = np.zeros(B, np.int32)
  for row, (read, scored, number) in enumerate(members):
    inputs_BxL[row, : len(read)] = read
    positions_BxP[row] = np.maximum(np.arange(-P, 0) + len(read), 0)
    question_B[row] = number
    for choice, ids in scored.items():
      targets_BxPxC[row, -len(ids) :, choice] = ids
      mask_BxPxC[row, -len(ids) :, choice] = True
  return {
    "inputs": inputs_BxL,
    "positions": positions_BxP,
    "targets": targets_BxPxC,
    "mask": mask_BxPxC,
    "question": question_B,
  }
