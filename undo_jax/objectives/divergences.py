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
from undo_jax.utils.records import FieldError
from undo_jax.utils.types import SumCount

Divergence = Callable[[jax.Array, jax.Array, jax.Array], SumCount]
DIVERGENCES = ("forward_kl", "reverse_kl", "jsd")


@functools.cache
def make(
  divergence: str, *, temperature: float = 1.0, jsd_beta: float = 0.5
) -> Divergence:
  """Returns `(student_logits, teacher_logits, mask) -> SumCount` of a divergence.

  T^2 * sum_t mask[t] * D(p_T[t], p_S[t]),  p = softmax(logits / T), with D one of

  forward_kl: KL(p_T || p_S)
  reverse_kl: KL(p_S || p_T)
  jsd: b * KL(p_T || m) + (1 - b) * KL(p_S || m),  m = b * p_T + (1 - b) * p_S

  The factor T^2 keeps gradients about as large as they are at T = 1. Divided by b, the
  generalized Jensen-Shannon divergence tends to the forward KL as b tends to 0; divided
  by 1 - b, to the reverse KL as b tends to 1.

  Args:
    divergence: one of DIVERGENCES.
    temperature: T > 0 of both softmaxes.
    jsd_beta: b in (0, 1); read by jsd alone.

  Returns:
    A loss of logits [B, L, V], [B, L, V] and a mask [B, L], computed in float32; no
    gradient flows to the teacher. It takes logits in chunks, see `chunked`.

  Raises:
    FieldError: if a value is none of these.

  Reference: Hinton et al., arXiv 1503.02531, section 2 (temperature and its square);
  Agarwal et al., GKD, arXiv 2306.13649, section 2 (the divergences).
  """
  check(divergence, temperature, jsd_beta)
  between = _BETWEEN[divergence]

  @chunked.summed
  def loss(student_logits_BxLxV, teacher_logits_BxLxV, mask_BxL):
    teacher = jax.lax.stop_gradient(teacher_logits_BxLxV)
    log_p_T = _log_softmax(teacher, temperature)
    log_p_S = _log_softmax(student_logits_BxLxV, temperature)
    value_BxL = between(log_p_T, log_p_S, jsd_beta)
    return masked_sum(temperature**2 * value_BxL, mask_BxL)

  return loss


def check(divergence: Any, temperature: Any, jsd_beta: Any) -> None:
  """Raises FieldError where the arguments of `make` cannot work."""
  if divergence not in DIVERGENCES:
    raise FieldError("divergence", f"one of {', '.join(DIVERGENCES)}", divergence)
  if not checks.is_number(temperature) or not temperature > 0:
    raise FieldError("temperature", "a number above 0", temperature)
  if not checks.is_number(jsd_beta) or not 0 < jsd_beta < 1:
    raise FieldError("jsd_beta", "a number in (0, 1)", jsd_beta)


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
