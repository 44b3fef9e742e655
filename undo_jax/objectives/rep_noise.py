"""RepNoise: remove forget data from the hidden states, in addition to MaxEnt."""

from collections.abc import Callable
import math

import jax
import jax.numpy as jnp

from undo_jax.models.decoder import Output
from undo_jax.objectives import retention
from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.objectives.max_ent import uniform_kl
from undo_jax.objectives.method import Method
from undo_jax.objectives.terms import weighted
from undo_jax.utils.option_types import NotNegative
from undo_jax.utils.types import Batch, Objective, Params, SumCount

NUM_KERNELS = 5


def mmd(x_BxK: jax.Array, y_BxK: jax.Array) -> jax.Array:
  """Compute the maximum mean discrepancy of two samples, squared and biased.

  mean_ij(k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(y_i, x_j)) with
  k(a, b) = sum_{i<5} exp(-|a - b|^2 / (w * 2^(i-2))),
  w = mean over all pairs of different rows of both samples of |a - b|^2

  Args:
    x_BxK: [B, K], one vector a row.
    y_BxK: [B, K]; as many rows.

  Returns:
    A float32 scalar, 0 for equal samples. No gradient flows through w.

  Reference: Gretton et al., A Kernel Two-Sample Test, JMLR 2012; the kernels are
  those of Rosati et al., Representation Noising, arXiv 2405.14577.
  """
  B = x_BxK.shape[0]
  z = jnp.concatenate([x_BxK, y_BxK]).astype(jnp.float32)
  z -= jnp.mean(z, axis=0)  # Distances stay; their differences of products round less.
  products = jnp.einsum("ik,jk->ij", z, z, precision="highest")
  squares = jnp.diagonal(products)
  distances = squares[:, None] + squares[None, :] - 2 * products
  distances = jnp.where(jnp.eye(2 * B, dtype=bool), 0.0, jnp.maximum(distances, 0.0))
  width = jax.lax.stop_gradient(jnp.sum(distances)) / (2 * B * (2 * B - 1))
  width = jnp.where(width > 0, width, 1.0)  # Zero: all rows are equal.
  kernel = sum(
    jnp.exp(-distances / (width * 2.0 ** (i - 2))) for i in range(NUM_KERNELS)
  )
  sign = jnp.where(jnp.arange(2 * B) < B, 1.0, -1.0)
  return sign @ kernel @ sign / B**2


def noise_distance(
  outputs_NxBxLxD: jax.Array, mask_BxL: jax.Array, key: jax.Array
) -> SumCount:
  """Compute how far the MLPs' outputs are from Gaussian noise.

  1/N * sum_n MMD(mask * outputs[n], mask * gaussian[n]), a row's positions and
  features being one vector.

  Args:
    outputs_NxBxLxD: of every layer's MLP.
    mask_BxL: [B, L], 1 where a position counts; others are zero in both samples.
    key: PRNG key of the standard normal sample.

  Returns:
    SumCount with count 1: a statistic of the rows together, not a sum over them.
  """
  N, B = outputs_NxBxLxD.shape[:2]
  mask_BxLx1 = mask_BxL.astype(jnp.float32)[:, :, None]

  def of_layer(index_and_outputs):
    index, outputs_BxLxD = index_and_outputs
    noise = jax.random.normal(jax.random.fold_in(key, index), outputs_BxLxD.shape)
    kept = jnp.where(mask_BxLx1 > 0, outputs_BxLxD.astype(jnp.float32), 0.0)
    return mmd(kept.reshape(B, -1), (mask_BxLx1 * noise).reshape(B, -1))

  values_N = jax.lax.map(of_layer, (jnp.arange(N), outputs_NxBxLxD))
  return SumCount(jnp.mean(values_N), jnp.float32(1))


def log_loss(
  apply: Callable, params: Params, output: Output, part: Batch, blank_BxL: jax.Array
) -> SumCount:
  """Compute the log of the cross-entropy read off all hidden states of a part.

  log(1 + (CE + sum_{k=0}^{N} CE_k) / (N + 1)), CE that of the model's logits and
  CE_k that of unembed(final_norm(h_k)). The logits of one state are there at a time,
  in the backward pass too.

  Args:
    apply: the model's.
    params: its parameters.
    output: of `apply` on the part, with "embedding" and "residual" captured.
    part: inputs, targets and mask.
    blank_BxL: bool, positions at which the prediction counts as uniform.

  Returns:
    SumCount with count 1: the log of a mean does not add up over microbatches.
  """

  @jax.checkpoint
  def at_state(hidden_BxLxD):
    logits = apply(params, part["inputs"], hidden_BxLxD=hidden_BxLxD).logits
    return _cross_entropy(logits, part, blank_BxL).mean()

  captured = output.captured
  states = jnp.concatenate([captured["embedding"][None], captured["residual"]])
  total = jnp.sum(jax.lax.map(at_state, states))
  total += _cross_entropy(output.logits, part, blank_BxL).mean()
  return SumCount(jnp.log(total / len(states) + 1.0), jnp.float32(1))


def make(
  apply: Callable,
  *,
  retain_weight: NotNegative,
  alpha: NotNegative,
  beta: NotNegative,
  forget_weight: NotNegative = 1.0,
  retain_loss: retention.Loss = "cross_entropy",
  only_differing: bool = False,
) -> Objective:
  """Return L = forget_weight * (KL(U || p(forget)) + L_rn) + retain_weight * R.

  L_rn = CE(retain) + beta * N - alpha * log(A)

  N is `noise_distance` of the MLPs and log(A) is `log_loss`, both on forget data and
  both statistics of a microbatch: over several they are averaged. R is the retain
  term of MaxEnt.

  Args:
    apply: the model's.
    retain_weight: of R.
    alpha: of the ascent on forget data.
    beta: of the distance to noise.
    forget_weight: of all the rest.
    retain_loss: "cross_entropy" or "kl", see retention.
    only_differing: mask as the code published with UNDO does, where forget and retain
      row hold the same token at the same position. This is meant for two answers
      to one prompt; between unrelated rows it leaves out what is equal by chance.

  That code also norms the last hidden state twice and does not cap the logits of the
  others; here each is read as the model reads its last one.

  Reference: Rosati et al., Representation Noising, arXiv 2405.14577; as a baseline
  in UNDO, arXiv 2506.06278.
  """
  retain_term = retention.make(apply, retain_loss)
  capture = ("embedding", "mlp/out", "residual")

  def objective(params, frozen, batch, key):
    forget, retain = batch["forget"], batch["retain"]
    output = apply(params, forget["inputs"], capture=capture)
    retain_logits = apply(params, retain["inputs"]).logits
    uniform = uniform_kl(output.logits, forget["mask"])
    kept, metrics = retain_term(retain_logits, frozen, retain)
    blank = jnp.zeros_like(forget["mask"], bool)
    if only_differing:
      blank = forget["inputs"] == retain["inputs"]
      forget, retain = _differing(forget, retain), _differing(retain, forget)
    harmless = _cross_entropy(retain_logits, retain, blank)
    noise = noise_distance(output.captured["mlp/out"], forget["mask"] * ~blank, key)
    ascent = log_loss(apply, params, output, forget, blank)
    loss = weighted(
      (forget_weight, uniform),
      (retain_weight, kept),
      (forget_weight, harmless),
      (forget_weight * beta, noise),
      (-forget_weight * alpha, ascent),
    )
    metrics = metrics | {"forget_uniform_kl": uniform, "forget_noise_distance": noise}
    return loss, metrics | {"forget_log_loss": ascent}

  return objective


def _differing(part, other):
  """Return the part without the targets that the other one shares."""
  return {**part, "mask": part["mask"] * (part["targets"] != other["targets"])}


def _cross_entropy(logits, part, blank_BxL) -> SumCount:
  """Return the cross-entropy, that of a uniform prediction at blank positions."""
  read = cross_entropy(logits, part["targets"], part["mask"] * ~blank_BxL)
  num_blank = jnp.sum(part["mask"] * blank_BxL)
  return SumCount(
    read.sum + num_blank * math.log(logits.shape[-1]), read.count + num_blank
  )


METHOD = Method(
  make=make,
  trains=("forget", "retain"),
  unembeds=("forget",),
  needs=retention.needs,
  is_unlearning=True,
  label="MaxEnt + RepNoise",
  color="#661100",
  marker="h",
)
