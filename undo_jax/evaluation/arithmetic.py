"""Exact-match accuracy on arithmetic, batched and teacher-forced.

The model is scored right when, fed the true answer, its most likely token is the
true one at every position of the answer and of the token that ends it. That is
the case exactly when greedy decoding from the prompt writes the answer and ends it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from undo_jax.data.arithmetic import FORGET, RETAIN, Problem
from undo_jax.data.tokenizers import BOS, EOS, PAD, Tokenizer
from undo_jax.types import Params

Problems = dict[str, np.ndarray]


def encode(problems: Sequence[Problem], tokenizer: Tokenizer) -> Problems:
  """Returns the problems as arrays.

  Args:
    problems: with prompt, answer and suffix.
    tokenizer: must split prompt + answer where the answer begins (characters and
      bytes do).

  Returns:
    "inputs" and "targets" int32 [P, L] (L: the longest, to a multiple of 8),
    "mask" bool [P, L], set where the target belongs to the answer or ends it, and
    "task" int32 [P], the index in `tasks(problems)`.
  """
  names = tasks(problems)
  encoded = []
  for problem in problems:
    prompt = [BOS, *tokenizer.encode(problem.prompt)]
    end = tokenizer.encode(problem.suffix)[:1] or [EOS]
    encoded.append((prompt, [*tokenizer.encode(problem.answer), *end]))
  length = max(len(prompt) + len(answer) for prompt, answer in encoded) - 1
  length = -(-length // 8) * 8
  tokens = np.full((len(problems), length + 1), PAD, np.int32)
  mask = np.zeros((len(problems), length), bool)
  for row, (prompt, answer) in enumerate(encoded):
    end = len(prompt) + len(answer)
    tokens[row, :end] = prompt + answer
    mask[row, len(prompt) - 1 : end - 1] = True
  task = np.asarray([names.index(task_of(problem)) for problem in problems], np.int32)
  return {
    "inputs": tokens[:, :-1],
    "targets": tokens[:, 1:],
    "mask": mask,
    "task": task,
  }


def task_of(problem: Problem) -> str:
  """Returns the task a problem counts for: operation_kind."""
  return f"{problem.operation}_{problem.kind}"


def tasks(problems: Sequence[Problem]) -> list[str]:
  """Returns the names of the tasks, in order of first appearance."""
  return list(dict.fromkeys(task_of(problem) for problem in problems))


def exact_match(
  logits_PxLxV: jax.Array, targets_PxL: jax.Array, mask_PxL: jax.Array
) -> jax.Array:
  """Returns bool [P]: the argmax equals the target wherever the mask is set."""
  hit_PxL = jnp.argmax(logits_PxLxV, axis=-1) == targets_PxL
  return jnp.all(hit_PxL | ~mask_PxL, axis=-1)


def make_evaluate(
  apply: Callable, names: Sequence[str], *, rows_at_once: int = 512
) -> Callable[[Params, Any], dict[str, jax.Array]]:
  """Returns `(params, problems) -> scores`, each in [0, 1].

  Args:
    apply: the model's.
    names: the tasks, see `tasks`.
    rows_at_once: problems in one forward pass; more go one pass after another.

  Returns:
    A pure function; its scores are the accuracy of every task, and `retain` and
    `forget`, the means over the tasks of their operations.
  """
  groups = {
    group: [i for i, name in enumerate(names) if name.split("_")[0] in operations]
    for group, operations in (("retain", RETAIN), ("forget", FORGET))
  }

  def evaluate(params, problems):
    def score(part):
      logits = apply(params, part["inputs"]).logits
      return exact_match(logits, part["targets"], part["mask"])

    right_P = _in_parts(score, problems, rows_at_once)
    member_PxT = jax.nn.one_hot(problems["task"], len(names))
    counts_T = jnp.sum(member_PxT, axis=0)
    accuracy_T = right_P.astype(jnp.float32) @ member_PxT / counts_T
    scores = {name: accuracy_T[i] for i, name in enumerate(names)}
    for group, members in groups.items():
      scores[group] = jnp.mean(accuracy_T[jnp.asarray(members)])
    return scores

  return evaluate


def _in_parts(fn, arrays, rows_at_once):
  """Maps `fn` over parts of the leading axis, as equal as they come."""
  size = arrays["inputs"].shape[0]
  num_parts = -(-size // rows_at_once)
  while size % num_parts:
    num_parts += 1
  if num_parts == 1:
    return fn(arrays)
  parts = jax.tree.map(lambda x: x.reshape(num_parts, -1, *x.shape[1:]), arrays)
  return jax.lax.map(fn, parts).reshape(size)
