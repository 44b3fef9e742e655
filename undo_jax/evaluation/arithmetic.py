"""Exact-match accuracy on arithmetic, batched and teacher-forced.

The model is scored right when, fed the true answer, its most likely token is the
true one at every position of the answer and of the token that ends it. That is
the case exactly when greedy decoding from the prompt writes the answer and ends it.
Logits are computed at these positions alone.

The tokens are those of the whole text, as in training. A tokenizer may join the
prompt's last space with the answer's first digit: such a token is predicted, and the
prompt ends before it. The answer must come in these tokens; another way to split the
same digits counts as wrong.
"""

from collections.abc import Callable, Mapping, Sequence
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from undo_jax.data.arithmetic import RETAIN, Problem
from undo_jax.data.tokenizers import Tokenizer
from undo_jax.evaluation.parts import in_parts
from undo_jax.objectives import chunked
from undo_jax.utils.types import ConfigError, Params

Problems = dict[str, np.ndarray]


# After the name of a task: of the items that an attacker reads.
ATTACKED = "_attacked"


def encode(
  tasks: Mapping[str, Sequence[Problem]],
  tokenizer: Tokenizer,
  worked: Sequence[Problem] = (),
) -> Problems:
  """Return the problems as arrays.

  Args:
    tasks: the problems of each, with prompt, answer and suffix.
    tokenizer: must give every text back as it was.
    worked: stand before each problem, as documents do in a row: BOS text EOS.

  Returns:
    "inputs" int32 [P, L] (L: the longest, to a multiple of 8); for the S tokens of the
    longest answer and its end "positions" int32 [P, S], where they are predicted,
    "targets" int32 [P, S], and "mask" bool [P, S], False where an answer is shorter;
    and "task" int32 [P], the index of the task.

  Raises:
    ConfigError: if the tokenizer changes a text, or leaves no token before an answer.
  """
  problems = [problem for of_task in tasks.values() for problem in of_task]
  before = [token for problem in worked for token in document(problem, tokenizer)]
  encoded = [prompt_and_scored(problem, tokenizer) for problem in problems]
  encoded = [([*before, *prompt], scored) for prompt, scored in encoded]
  length = max(len(prompt) + len(scored) for prompt, scored in encoded) - 1
  length = -(-length // 8) * 8
  P, S = len(encoded), max(len(scored) for _, scored in encoded)
  inputs_PxL = np.full((P, length), tokenizer.pad_id, np.int32)
  positions_PxS = np.zeros((P, S), np.int32)
  targets_PxS = np.zeros((P, S), np.int32)
  mask_PxS = np.zeros((P, S), bool)
  for row, (prompt, scored) in enumerate(encoded):
    read, count = [*prompt, *scored[:-1]], len(scored)
    inputs_PxL[row, : len(read)] = read
    positions_PxS[row, :count] = np.arange(len(prompt) - 1, len(read))
    targets_PxS[row, :count] = scored
    mask_PxS[row, :count] = True
  sizes = [len(of_task) for of_task in tasks.values()]
  task = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
  return {
    "inputs": inputs_PxL,
    "positions": positions_PxS,
    "targets": targets_PxS,
    "mask": mask_PxS,
    "task": task,
  }


def document(problem: Problem, tokenizer: Tokenizer) -> list[int]:
  """Return the ids of a problem with its answer, as training reads it."""
  bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
  return [*bos, *tokenizer.encode(problem.text), tokenizer.eos_id]


def prompt_and_scored(
  problem: Problem, tokenizer: Tokenizer
) -> tuple[list[int], list[int]]:
  """Return the ids a model is given and the ids it must write.

  With text = encode(prompt + answer + suffix) and n the length of the longest common
  prefix of encode(prompt) and text: given is BOS text[:n]; scored is text[n:] up to
  the first token that goes beyond the answer or, where nothing follows it, EOS.

  Args:
    problem: with prompt, answer and suffix.
    tokenizer: must give the text back as it was.

  Returns:
    Two lists of ids, neither of them empty.

  Raises:
    ConfigError: if the tokenizer changes the text, or leaves no token to begin with.
  """
  ids = tokenizer.encode(problem.text)
  if tokenizer.decode(ids) != problem.text:
    raise ConfigError(
      f"data.tokenizer: expected one that gives a text back as it was, got "
      f"{tokenizer.decode(ids)!r} for {problem.text!r}; choose one without unknown "
      "tokens (sentencepiece with byte_fallback, byte-level BPE, bytes)"
    )
  start = _common_length(tokenizer.encode(problem.prompt), ids)
  bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
  if not bos and not start:
    raise ConfigError(
      "data.tokenizer: expected a token before the answer or a BOS, got neither for "
      f"{problem.text!r}; choose a tokenizer of shorter tokens or one with a BOS"
    )
  if not problem.suffix:
    return [*bos, *ids[:start]], [*ids[start:], tokenizer.eos_id]
  end = start + 1
  while not _goes_beyond(problem, tokenizer.decode(ids[:end])):
    end += 1
  return [*bos, *ids[:start]], ids[start:end]


def _goes_beyond(problem: Problem, text: str) -> bool:
  """Return whether a text is prompt and answer and something more."""
  known = problem.prompt + problem.answer
  return text.startswith(known) and text != known


def _common_length(first: Sequence[int], second: Sequence[int]) -> int:
  """Return the length of the longest common prefix."""
  pairs = itertools.takewhile(lambda p: p[0] == p[1], zip(first, second, strict=False))
  return sum(1 for _ in pairs)


def by_task(problems: Sequence[Problem], ending: str = "") -> dict[str, list[Problem]]:
  """Return problems by the task that they count for: operation_kind and an ending."""
  tasks: dict[str, list[Problem]] = {}
  for problem in problems:
    name = f"{problem.operation}_{problem.kind}{ending}"
    tasks.setdefault(name, []).append(problem)
  return tasks


def groups(names: Sequence[str]) -> dict[str, list[int]]:
  """Return which tasks the score of each group is over, by their place."""
  indices: dict[str, list[int]] = {"retain": [], "forget": []}
  for index, name in enumerate(names):
    group = "retain" if name.split("_")[0] in RETAIN else "forget"
    ending = ATTACKED if name.endswith(ATTACKED) else ""
    indices.setdefault(f"{group}{ending}", []).append(index)
  return indices


def exact_match(logits: Any, targets_PxS: jax.Array, mask_PxS: jax.Array) -> jax.Array:
  """Compare the likeliest tokens with the targets wherever the mask is set.

  Args:
    logits: an array [P, S, V], or Deferred.
    targets_PxS: int32.
    mask_PxS: bool.

  Returns:
    float32 [P]: 1 where all are equal, else 0; NaN where a logit there is not finite.
  """

  def is_hit(logits_PxSxV, targets_PxS):
    hit_PxS = jnp.argmax(logits_PxSxV, axis=-1) == targets_PxS
    return jnp.where(jnp.all(jnp.isfinite(logits_PxSxV), axis=-1), hit_PxS, jnp.nan)

  hit_PxS = chunked.mapped(is_hit, logits, targets_PxS)
  return jnp.prod(jnp.where(mask_PxS, hit_PxS, 1.0), axis=-1)


def make_evaluate(
  apply: Callable, names: Sequence[str], *, rows_at_once: int = 512
) -> Callable[[Params, Problems], dict[str, jax.Array]]:
  """Return `(params, problems) -> scores`, each in [0, 1].

  Args:
    apply: the model's.
    names: the tasks, see `by_task`.
    rows_at_once: problems in one forward pass; more go one pass after another.

  Returns:
    A pure function; its scores are the accuracy of every task, and the means over the
    tasks of their operations: `retain`, `forget` and, where there are such tasks,
    `forget_attacked` of the items that an attacker reads. All are NaN where a logit
    that is scored is not finite: the model has diverged, and has not forgotten.
  """

  def evaluate(params, problems):
    def score(part):
      output = apply(params, part["inputs"], positions_BxP=part["positions"])
      return exact_match(output.logits, part["targets"], part["mask"])

    right_P = in_parts(score, problems, rows_at_once)
    member_PxT = jax.nn.one_hot(problems["task"], len(names))
    counts_T = jnp.sum(member_PxT, axis=0)
    accuracy_T = right_P @ member_PxT / counts_T
    scores = {name: accuracy_T[i] for i, name in enumerate(names)}
    for group, members in groups(names).items():
      scores[group] = jnp.mean(accuracy_T[jnp.asarray(members)])
    return scores

  return evaluate
