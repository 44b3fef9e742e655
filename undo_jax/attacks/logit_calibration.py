"""Logit calibration: fit biases of the logits, and change nothing else."""

import dataclasses

import jax.numpy as jnp

from undo_jax.attacks import beside, finetuning
from undo_jax.attacks.attack import Attack, Members
from undo_jax.objectives import chunked


def biased(apply):
  """Return `apply` of {"base": params, "bias": [V]} that adds the biases to logits.

  logits(x) + b,  after a soft cap if there is one

  The cross-entropy is convex in b; at its minimum the mean probability of every token
  equals its share of the targets.

  Args:
    apply: the decoder's, or one whose logits are Deferred.

  Reference: Selective Gradient Masking, arXiv 2512.05648, which reports losses after
  such a fit.
  """

  def applied(tree, tokens_BxL, **how):
    output = apply(tree["base"], tokens_BxL, **how)
    return output._replace(logits=_plus(output.logits, tree["bias"]))

  return applied


def _plus(logits, bias_V):
  if not isinstance(logits, chunked.Deferred):
    return logits + bias_V
  unembed = logits.unembed
  return dataclasses.replace(
    logits,
    weights={"unembedding": logits.weights, "bias": bias_V},
    unembed=lambda weights, hidden: (
      unembed(weights["unembedding"], hidden) + weights["bias"]
    ),
  )


def members(model, options, objective) -> Members:
  """Return members that train biases from 0, all the same."""
  del options, objective
  return beside.members(
    model, start=lambda params, key: {"bias": jnp.zeros(model.vocab_size)}, using=biased
  )


ATTACK = Attack(
  members=members,
  check=finetuning.check,
  describe=lambda options: "biases of the logits, one a token,",
  label="logit calibration",
  trains_weights=False,
)
