"""Divergences between a student's and a teacher's predictions, softened or not."""

from collections.abc import Callable
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from undo_jax.objectives import chunked
from undo_jax.objectives.cross_entropy import masked_sum
from undo_jax.utils import checks
from undo_jax.utils.option_types import Positive, Share
from undo_jax.utils.records import FieldError
from undo_jax.utils.types import SumCount

Divergence = Callable[[jax.Array, jax.Array, jax.Array], SumCount]
DIVERGENCES = ("forward_kl", "reverse_kl", "jsd")


@functools.cache
def make(
  divergence: str,
  *,
  temperature: Positive = 1.0,
  jsd_beta: Share = 0.5,
  teacher_top_k: int = 0,
) -> Divergence:
  """Return `(student_logits, teacher_logits, mask) -> SumCount` of a divergence.

  T^2 * sum_t mask[t] * D(p_T[t], p_S[t]),  p = softmax(logits / T), with D one of

  forward_kl: KL(p_T || p_S)
  reverse_kl: KL(p_S || p_T)
  jsd: b * KL(p_T || m) + (1 - b) * KL(p_S || m),  m = b * p_T + (1 - b) * p_S

  The factor T^2 keeps gradients about as large as they are at T = 1. Divided by b, the
  generalized Jensen-Shannon divergence tends to the forward KL as b tends to 0; divided
  by 1 - b, to the reverse KL as b tends to 1.

  With teacher_top_k both are distributions over k + 1 classes, see `keep_top`.

  Args:
    divergence: one of DIVERGENCES.
    temperature: T > 0 of both softmaxes.
    jsd_beta: b in (0, 1); read by jsd alone.
    teacher_top_k: k; 0: all tokens.

  Returns:
    A loss of logits [B, L, V], [B, L, V] and a mask [B, L], computed in float32; no
    gradient flows to the teacher. It takes logits in chunks, see `chunked`.

  Raises:
    FieldError: if a value is none of these.

  Reference: Hinton et al., arXiv 1503.02531, section 2 (temperature and its square);
  Agarwal et al., GKD, arXiv 2306.13649, section 2 (the divergences).
  """
  check(divergence, temperature, jsd_beta, teacher_top_k)
  between = _BETWEEN[divergence]

  @chunked.summed
  def loss(student_logits_BxLxV, teacher_logits_BxLxV, mask_BxL):
    teacher = jax.lax.stop_gradient(teacher_logits_BxLxV)
    log_p_T = _log_softmax(teacher, temperature)
    log_p_S = _log_softmax(student_logits_BxLxV, temperature)
    if teacher_top_k:
      log_p_T, log_p_S = keep_top(log_p_T, log_p_S, teacher_top_k)
    value_BxL = between(log_p_T, log_p_S, jsd_beta)
    return masked_sum(temperature**2 * value_BxL, mask_BxL)

  return loss


def keep_top(
  log_p_T: jax.Array, log_p_S: jax.Array, k: int
) -> tuple[jax.Array, jax.Array]:
  """Keep the k likeliest tokens of a teacher, and join all others in one class.

  It is what remains of a teacher whose k largest log-probabilities were kept: the mass
  of the others is known, not how they share it. A divergence between such pairs is at
  most that over all tokens, and equal where the student shares the rest as the teacher
  does, so at k = V.

  Args:
    log_p_T: [..., V], the teacher's log-probabilities.
    log_p_S: [..., V], the student's.
    k: at least 1.

  Returns:
    Both [..., k + 1], the joined class last; for k >= V both as they were.
  """
  if k >= log_p_T.shape[-1]:
    return log_p_T, log_p_S
  _, tokens = jax.lax.top_k(log_p_T, k)
  return _joined(log_p_T, tokens), _joined(log_p_S, tokens)


def _joined(log_p, tokens):
  """Return the log-probabilities of some tokens, and of all others as one class."""
  kept = jnp.take_along_axis(log_p, tokens, axis=-1)
  others = jnp.put_along_axis(log_p, tokens, -jnp.inf, axis=-1, inplace=False)
  rest = jax.nn.logsumexp(others, axis=-1, keepdims=True)
  return jnp.concatenate([kept, rest], axis=-1)


def predictions(logits: jax.Array, k: int) -> dict[str, jax.Array]:
  """Return what is kept of a teacher's predictions, by the names it has in a batch.

  Args:
    logits: [..., V].
    k: the likeliest tokens that are kept; 0 or at least V: all.

  Returns:
    "teacher_log_probs" float32: of all tokens [..., V], or of the k tokens and, last,
    of all others as one class [..., k + 1]; then also "teacher_tokens" int32 [..., k].
  """
  log_p = _log_softmax(logits, 1.0)
  if not 0 < k < logits.shape[-1]:
    return {"teacher_log_probs": log_p}
  _, tokens = jax.lax.top_k(log_p, k)
  return {"teacher_tokens": tokens, "teacher_log_probs": _joined(log_p, tokens)}


@functools.cache
def make_kept(divergence: str, *, jsd_beta: float = 0.5) -> Callable[..., SumCount]:
  """Return the divergence that `make` has with teacher_top_k, of kept predictions.

  Args:
    divergence: one of DIVERGENCES.
    jsd_beta: as in `make`.

  Returns:
    A loss of the student's logits [B, L, V], the teacher's log-probabilities
    [B, L, k + 1] and tokens [B, L, k], see `predictions`, and a mask [B, L]. What
    rounding makes of the probabilities' sum is divided out.
  """
  between = _BETWEEN[divergence]

  @chunked.summed
  def loss(student_logits_BxLxV, log_probs_BxLxK, tokens_BxLxk, mask_BxL):
    log_p_T = _log_softmax(jax.lax.stop_gradient(log_probs_BxLxK), 1.0)
    log_p_S = _log_softmax(student_logits_BxLxV, 1.0)
    log_p_S = _joined(log_p_S, tokens_BxLxk.astype(jnp.int32))
    return masked_sum(between(log_p_T, log_p_S, jsd_beta), mask_BxL)

  return loss


def check(divergence: Any, temperature: Any, jsd_beta: Any, teacher_top_k: Any) -> None:
  """Raise FieldError where the arguments of `make` cannot work."""
  if divergence not in DIVERGENCES:
    raise FieldError("divergence", f"one of {', '.join(DIVERGENCES)}", divergence)
  if not checks.is_number(temperature) or not temperature > 0:
    raise FieldError("temperature", "a number above 0", temperature)
  if not checks.is_number(jsd_beta) or not 0 < jsd_beta < 1:
    raise FieldError("jsd_beta", "a number in (0, 1)", jsd_beta)
  k = teacher_top_k
  if not isinstance(k, int) or isinstance(k, bool) or k < 0:
    raise FieldError("teacher_top_k", "an integer of at least 0", k)


def _log_softmax(logits, temperature):
  logits = logits.astype(jnp.float32)
  # Before the division: what it rounds would be large where logits are.
  largest = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
  return jax.nn.log_softmax((logits - largest) / temperature)


def _kl(log_p, log_q):
  """KL(p || q) over the last axis."""
  return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def _jsd(log_p_T, log_p_S, beta):
  log_m = jnp.logaddexp(log_p_T + math.log(beta), log_p_S + math.log1p(-beta))
  return beta * _kl(log_p_T, log_m) + (1.0 - beta) * _kl(log_p_S, log_m)


_BETWEEN = {
  "forward_kl": lambda log_p_T, log_p_S, beta: _kl(log_p_T, log_p_S),
  "reverse_kl": lambda log_p_T, log_p_S, beta: _kl(log_p_S, log_p_T),
  "jsd": _jsd,
}
