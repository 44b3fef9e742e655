"""Rows of any length through a model in a few static shapes.

Lengths are rounded up to powers of two and batches have a fixed number of rows, so
that each program is compiled a handful of times. Only what was asked for leaves the
device: log-probabilities of given tokens, or generated tokens.
"""

from collections.abc import Callable, Iterable, Sequence
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from undo_jax.models.decoder import Decoder
from undo_jax.models.generation import make_generate
from undo_jax.utils.types import Params

Tokens = Sequence[int]
_MIN_LENGTH = 32  # Of a padded row; all shorter ones share it.
_MIN_POSITIONS = 16  # Scored in a row; likewise.


class TokenScores(NamedTuple):
  """What a model made of each token of a continuation."""

  log_p: np.ndarray  # float32 [T], nats.
  is_likeliest: np.ndarray  # bool [T].
  standardized: np.ndarray | None = None  # float32 [T], see standardized_score.


class Scorer:
  """Log-likelihoods and continuations of token sequences under one model."""

  def __init__(
    self,
    model: Decoder,
    params: Params,
    *,
    max_length: int,
    batch_size: int = 8,
    logits_bytes: int = 1 << 30,
  ):
    """Prepare; nothing is compiled before it is needed.

    Args:
      model: the decoder.
      params: its parameters, on the devices where they are to be used.
      max_length: tokens that the model reads at most; what is further back is cut.
      batch_size: rows in one pass.
      logits_bytes: bound on a pass's logits, B * P * V * 4 bytes for P scored
        positions; where batch_size rows would need more, fewer go at once.

    Raises:
      ValueError: if max_length or batch_size is less than 1.
    """
    if max_length < 1 or batch_size < 1:
      raise ValueError(
        "max_length and batch_size must be at least 1, got "
        f"{max_length} and {batch_size}"
      )
    self.max_length = max_length
    self.batch_size = batch_size
    self._model = model
    self._params = params
    self._logits_bytes = logits_bytes
    self._score = jax.jit(functools.partial(score, model))
    self._standardized = jax.jit(functools.partial(standardized_score, model))
    self._make_generate = functools.cache(functools.partial(make_generate, model))

  def log_likelihoods(
    self, pairs: Sequence[tuple[Tokens, Tokens]], *, progress: bool = False
  ) -> list[tuple[float, bool]]:
    """Score continuations of contexts.

    sum over the continuation's tokens of log p(token | all before it), the context
    first. Pairs that the model reads alike, such as a question's choices of one
    token, share a row.

    Args:
      pairs: (context, continuation), ids in [0, V), both of at least one token. Of
        the context only the last max_length + 1 - len(continuation) are read.
      progress: whether to show a bar.

    Returns:
      For each pair (log-likelihood in nats, whether each token of the continuation
      is the most likely one).

    Raises:
      ValueError: if a context or continuation is empty, a continuation longer than
        max_length, or an id lies outside the vocabulary.
      FloatingPointError: if a log-likelihood is NaN.
    """
    scores = self._token_arrays(self._score, pairs, progress)
    return [
      (float(np.sum(log_p, dtype=np.float64)), bool(hit.all())) for log_p, hit in scores
    ]

  def tokens(
    self,
    pairs: Sequence[tuple[Tokens, Tokens]],
    *,
    standardize: bool = False,
    progress: bool = False,
  ) -> list[TokenScores]:
    """Score each token of continuations.

    Args:
      pairs: see `log_likelihoods`.
      standardize: whether to compare each log-probability with the others there.
      progress: whether to show a bar.

    Raises:
      ValueError: as `log_likelihoods`.
    """
    fn = self._standardized if standardize else self._score
    return [TokenScores(*each) for each in self._token_arrays(fn, pairs, progress)]

  def _token_arrays(self, fn: Callable, pairs, progress: bool) -> list[Any]:
    """Return for each pair what `fn` has of each token of the continuation."""
    rows: dict[tuple[int, ...], list[int]] = {}
    for index, (context, continuation) in enumerate(pairs):
      self._check_pair(context, continuation)
      read = (*context, *continuation)[-(self.max_length + 1) :]
      rows.setdefault(tuple(read[:-1]), []).append(index)
    buckets: dict[tuple[int, int], list[tuple[int, ...]]] = {}
    for row in sorted(rows, key=len, reverse=True):
      num = sum(len(pairs[index][1]) for index in rows[row])
      shape = self._length(len(row)), self._num_positions(len(row), num)
      buckets.setdefault(shape, []).append(row)
    scores: list[Any] = [None] * len(pairs)
    with _bar(len(pairs), "log-likelihoods", progress) as bar:
      for (length, positions), members in buckets.items():
        for part in _parts(members, self._num_rows(positions)):
          shared = {row: rows[row] for row in part}
          for index, outcome in self._score_rows(fn, shared, pairs, length, positions):
            scores[index] = outcome
            bar.update()
    return scores

  def generate(
    self,
    prompts: Sequence[Tokens],
    *,
    num_tokens: int,
    temperature: float = 0.0,
    is_stop_V: np.ndarray | None = None,
    key: jax.Array | None = None,
    progress: bool = False,
  ) -> list[list[int]]:
    """Continue prompts; see models/generation.py.

    Args:
      prompts: of at least one and at most max_length - num_tokens ids in [0, V).
      num_tokens: appended at most.
      temperature: >= 0; 0: greedy.
      is_stop_V: bool [V], True for ids that end a row; None: none does.
      key: of the draws, needed at a temperature > 0.
      progress: whether to show a bar.

    Returns:
      For each prompt the tokens appended, the one that ended it included.

    Raises:
      ValueError: if a prompt is empty or too long, or an id lies outside the
        vocabulary; else as make_generate.
    """
    room = self.max_length - num_tokens
    for prompt in prompts:
      self._check_ids(prompt)
      if not 0 < len(prompt) <= room:
        raise ValueError(
          f"a prompt must have from 1 to {room} tokens (max_length {self.max_length} "
          f"less num_tokens {num_tokens}), got {len(prompt)}; cut it or generate less"
        )
    run = self._make_generate(num_tokens=num_tokens, temperature=temperature)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
    buckets: dict[int, list[int]] = {}
    for index in order:
      length = min(self._length(len(prompts[index])), room)
      buckets.setdefault(length, []).append(index)
    texts: list[Any] = [None] * len(prompts)
    passes = 0
    with _bar(len(prompts), "continuations", progress) as bar:
      for length, members in buckets.items():
        for part in _parts(members, self.batch_size):
          tokens = np.zeros((self.batch_size, length), np.int32)
          valid = np.zeros(tokens.shape, bool)
          for row, index in enumerate(part):
            start = length - len(prompts[index])
            tokens[row, start:], valid[row, start:] = prompts[index], True
          pass_key = None if key is None else jax.random.fold_in(key, passes)
          passes += 1
          generated = run(
            self._params, tokens, valid, key=pass_key, is_stop_V=is_stop_V
          )
          new, num = jax.device_get(generated)
          for row, index in enumerate(part):
            texts[index] = new[row, : num[row]].tolist()
          bar.update(len(part))
    return texts

  def _score_rows(self, fn, rows, pairs, length, positions):
    """Yield (index, arrays of `fn`) of the pairs that share each of the rows."""
    B = self._num_rows(positions)
    tokens = np.zeros((B, length), np.int32)
    where = np.zeros((B, positions), np.int32)
    targets = np.zeros((B, positions), np.int32)
    spans = []
    for row, (read, indices) in enumerate(rows.items()):
      tokens[row, : len(read)] = read
      start = 0
      for index in indices:
        continuation = pairs[index][1]
        span = slice(start, start := start + len(continuation))
        where[row, span] = range(len(read) - len(continuation), len(read))
        targets[row, span] = continuation
        spans.append((index, row, span))
    outputs = jax.device_get(fn(self._params, tokens, where, targets))
    for index, row, span in spans:
      scores = tuple(each[row, span] for each in outputs)
      if math.isnan(np.sum(scores[0])):  # No choice is less likely: a wrong answer.
        raise FloatingPointError(
          f"the logits after a text of {len(pairs[index][0])} tokens are not finite: "
          "the model has diverged, or its dtype is too small for its values"
        )
      yield index, scores

  def _check_pair(self, context, continuation):
    if not continuation or not context:
      empty = "context" if continuation else "continuation"
      raise ValueError(
        f"context and continuation need at least one token each, got an empty {empty} "
        f"(context {list(context)[:8]}, continuation {list(continuation)[:8]}); a "
        "context may be the token that begins a text"
      )
    if len(continuation) > self.max_length:
      raise ValueError(
        f"a continuation may have at most max_length {self.max_length} tokens, got "
        f"{len(continuation)}; score it in windows"
      )
    self._check_ids(context)
    self._check_ids(continuation)

  def _check_ids(self, ids):
    V = self._model.config.vocab_size
    wrong = next((index for index in ids if not 0 <= index < V), None)
    if wrong is not None:
      raise ValueError(
        f"ids must lie in [0, {V}), the model's vocabulary, got {wrong}; the tokenizer "
        "is not that of the model"
      )

  def _length(self, num: int) -> int:
    return min(_power_of_two(max(num, _MIN_LENGTH)), self.max_length)

  def _num_positions(self, length: int, num: int) -> int:
    """Return 16, 64, 256, ..., or the padded length if that is enough and less."""
    rounded = max(_MIN_POSITIONS, 4 ** (((num - 1).bit_length() + 1) // 2))
    padded = self._length(length)
    return min(rounded, padded) if num <= padded else rounded

  def _num_rows(self, positions: int) -> int:
    row_bytes = 4 * positions * self._model.config.vocab_size
    return min(self.batch_size, max(1, self._logits_bytes // row_bytes))


def score(
  model: Decoder,
  params: Params,
  tokens_BxL: jax.Array,
  positions_BxP: jax.Array,
  targets_BxP: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Compute the log-probabilities of tokens, in float32.

  log p = logits[target] - logsumexp(logits) at each position.

  Args:
    model: the decoder.
    params: its parameters.
    tokens_BxL: int32, rows padded on the right.
    positions_BxP: int32 in [0, L), where to look; may repeat.
    targets_BxP: int32 in [0, V), the tokens that follow these positions.

  Returns:
    (log p [B, P] float32, whether the target has the largest logit [B, P] bool).
  """
  logits = model.apply(params, tokens_BxL, positions_BxP=positions_BxP).logits
  chosen = jnp.take_along_axis(logits, targets_BxP[:, :, None], axis=-1)[:, :, 0]
  log_p_BxP = chosen - jax.nn.logsumexp(logits, axis=-1)
  return log_p_BxP, jnp.argmax(logits, axis=-1) == targets_BxP


def standardized_score(
  model: Decoder,
  params: Params,
  tokens_BxL: jax.Array,
  positions_BxP: jax.Array,
  targets_BxP: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Compute `score`, and how far each log-probability is from the others there.

  z = (log p(target) - mu) / sigma

  mu and sigma^2, at least 1e-6, are mean and variance of log p(v) over v drawn from p.

  Args:
    model: the decoder.
    params: its parameters.
    tokens_BxL: see `score`.
    positions_BxP: likewise.
    targets_BxP: likewise.

  Returns:
    What `score` returns, and z [B, P] float32.

  Reference: Zhang et al., Min-K%++, arXiv 2404.02936, equation 3.
  """
  logits = model.apply(params, tokens_BxL, positions_BxP=positions_BxP).logits
  log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
  chosen = jnp.take_along_axis(log_p, targets_BxP[:, :, None], axis=-1)[:, :, 0]
  p = jnp.exp(log_p)
  # What has no probability adds nothing, however small its logarithm.
  mean = jnp.sum(jnp.where(p > 0, p * log_p, 0.0), axis=-1)
  away = jnp.where(p > 0, log_p - mean[..., None], 0.0)
  variance = jnp.maximum(jnp.sum(p * away * away, axis=-1), 1e-6)
  is_likeliest = jnp.argmax(logits, axis=-1) == targets_BxP
  return chosen, is_likeliest, (chosen - mean) / jnp.sqrt(variance)


def _power_of_two(num: int) -> int:
  return 1 << (num - 1).bit_length()


def _parts(members: Sequence[object], size: int) -> Iterable[Sequence[Any]]:
  return (members[i : i + size] for i in range(0, len(members), size))


def _bar(total, name, progress):
  return tqdm.tqdm(total=total, desc=name, disable=None if progress else True)
