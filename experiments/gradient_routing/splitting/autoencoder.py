"""Networks, losses and scores of autoencoder and certificates."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from experiments.gradient_routing import mlp
from experiments.gradient_routing.splitting.config import Setting
from undo_jax.data.images import Images
from undo_jax.routing.activations import route
from undo_jax.utils.types import Metrics, Params, SumCount

# Added under the root of a variance, so a unit constant in a batch has no correlation.
EPSILON = 1e-8
# "images" [B, P]; "group" int [B], 0 or 1; "present" float [B], 0 for rows that only
# fill the batch up.
Batch: TypeAlias = dict[str, jax.Array]


class Weights(NamedTuple):
  """A setting as arrays, so that one program serves all settings."""

  masks_GxZ: jax.Array  # Factors of the code's gradient, by the image's group.
  seen_G: jax.Array  # 1: the autoencoder is trained on the group; 0: it is not.
  l1_Z: jax.Array  # Weight of the mean absolute value of each unit.
  correlation: jax.Array  # Weight of the correlation between the halves.


def make_weights(setting: Setting, latent: int) -> Weights:
  """Return the arrays of a setting, for a code of `latent` units, an even number."""
  half = latent // 2
  return Weights(
    masks_GxZ=jnp.repeat(jnp.asarray(setting.masks, jnp.float32), half, axis=1),
    seen_G=jnp.asarray(setting.seen, jnp.float32),
    l1_Z=jnp.repeat(jnp.asarray(setting.l1, jnp.float32), half),
    correlation=jnp.float32(setting.correlation),
  )


def init(
  key: jax.Array,
  pixels: int,
  *,
  hidden: Sequence[int],
  latent: int,
  separate_decoders: bool,
) -> Params:
  """Return encoder, decoders (one, or one a group) and the two certificates.

  Args:
    key: PRNG key.
    pixels: P.
    hidden: widths from the image to the code; decoders mirror them.
    latent: Z, even.
    separate_decoders: whether each group of images has a decoder of its own.
  """
  out = (*reversed(hidden), pixels)
  networks = {
    "encoder": mlp.Network((pixels, *hidden, latent), last_bias=False),
    "certificate_0": mlp.Network((latent // 2, *out)),
    "certificate_1": mlp.Network((latent // 2, *out)),
    "decoder_0": mlp.Network((latent, *out)),
  }
  if separate_decoders:
    networks["decoder_1"] = networks["decoder_0"]
  return mlp.init(key, networks)


def reconstruct(params: Params, code_BxZ: jax.Array, group_B: jax.Array) -> jax.Array:
  """Return the images [B, P] from the decoder, or from the decoder of each group."""
  first_BxP = mlp.apply(params["decoder_0"], code_BxZ)
  if "decoder_1" not in params:
    return first_BxP
  second_BxP = mlp.apply(params["decoder_1"], code_BxZ)
  return jnp.where(group_B[:, None] == 0, first_BxP, second_BxP)


def certify(params: Params, code_BxZ: jax.Array) -> list[jax.Array]:
  """Return the images [B, P] that each certificate makes from its half alone."""
  halves = jnp.split(jax.lax.stop_gradient(code_BxZ), 2, axis=-1)
  return [mlp.apply(params[f"certificate_{h}"], half) for h, half in enumerate(halves)]


def loss(params: Params, batch: Batch, weights: Weights) -> tuple[jax.Array, Metrics]:
  """Return the loss of all networks, and its parts.

  sum_g seen_g * mean_{images of g} |decoder(route(z, m_g)) - x|
    + sum_h mean |certificate_h(stop_gradient(z_h)) - x|
    + sum_k l1_k * mean |z_k| + correlation * mean_{k, l} |corr(z_k, z_l)|
  with k in the first half and l in the second. The penalties are not routed, and are
  taken over the images that the autoencoder is trained on.

  Args:
    params: of `init`.
    batch: see `Batch`.
    weights: see `Weights`.

  Returns:
    (float32 scalar, its parts before their weights).

  Reference: Cloud et al., arXiv 2410.04332, appendix B. As in the authors' code, the
    first term is a sum over groups of a mean each, and |corr| is of standardized units.
  """
  images_BxP, group_B, present_B = batch["images"], batch["group"], batch["present"]
  code_BxZ = mlp.apply(params["encoder"], images_BxP)
  routed_BxZ = route(code_BxZ, weights.masks_GxZ[group_B])
  error_B = _mean_error(reconstruct(params, routed_BxZ, group_B), images_BxP)
  is_group_GxB = (group_B == jnp.arange(2)[:, None]) * present_B
  group_errors = SumCount(is_group_GxB @ error_B, is_group_GxB.sum(1))
  certified = [
    SumCount(jnp.sum(present_B * _mean_error(out, images_BxP)), jnp.sum(present_B))
    for out in certify(params, code_BxZ)
  ]
  seen_B = present_B * weights.seen_G[group_B]
  size_Z = _mean(jnp.abs(code_BxZ), seen_B)
  correlation = mean_correlation(code_BxZ, seen_B)
  total = (
    group_errors._replace(sum=weights.seen_G * group_errors.sum).mean()
    + sum(one.mean() for one in certified)
    + jnp.sum(weights.l1_Z * size_Z)
    + weights.correlation * correlation
  )
  one = jnp.float32(1.0)
  return total, {
    "reconstruction": group_errors,
    "code_size": SumCount(jnp.sum(size_Z), one),
    "correlation": SumCount(correlation, one),
  }


def mean_correlation(code_BxZ: jax.Array, weight_B: jax.Array) -> jax.Array:
  """Return the mean absolute correlation between units of the two halves.

  mean_{k, l} |1/n sum_b zhat_bk zhat_bl|, zhat standardized by the unbiased variance

  Args:
    code_BxZ: the code.
    weight_B: 1 for the n rows that count, 0 for the others.
  """
  count = jnp.maximum(jnp.sum(weight_B), 2.0)
  centred_BxZ = weight_B[:, None] * (code_BxZ - _mean(code_BxZ, weight_B))
  variance_Z = jnp.sum(centred_BxZ**2, axis=0) / (count - 1)
  first, second = jnp.split(
    centred_BxZ * jax.lax.rsqrt(variance_Z + EPSILON), 2, axis=1
  )
  return jnp.mean(jnp.abs(first.T @ second / count))


def scores(params: Params, batch: Batch) -> tuple[dict[str, jax.Array], jax.Array]:
  """Return the errors of certificates and autoencoder on each group of images.

  Returns:
    (mean squared and absolute errors by name: certificate_* [halves, groups],
    autoencoder_* [groups]; what the certificates make of the images, [H, B, P]).
  """
  images_BxP, group_B = batch["images"], batch["group"]
  code_BxZ = mlp.apply(params["encoder"], images_BxP)
  certified_HxBxP = jnp.stack(certify(params, code_BxZ))
  decoded_BxP = reconstruct(params, code_BxZ, group_B)
  is_group_BxG = jax.nn.one_hot(group_B, 2)
  share_BxG = is_group_BxG / jnp.maximum(is_group_BxG.sum(0), 1.0)
  errors = {}
  for name, error in (("mse", jnp.square), ("mae", jnp.abs)):
    certificate_HxB = error(certified_HxBxP - images_BxP).mean(-1)
    errors[f"certificate_{name}"] = certificate_HxB @ share_BxG
    errors[f"autoencoder_{name}"] = error(decoded_BxP - images_BxP).mean(-1) @ share_BxG
  return errors, certified_HxBxP


def groups(images: Images) -> tuple[Batch, Batch]:
  """Return training and test images as batches; the first classes are group 0."""
  first = images.num_classes // 2

  def batch(rows, labels):
    return {
      "images": jnp.asarray(rows),
      "group": jnp.asarray(labels >= first, jnp.int32),
      "present": jnp.ones(len(rows)),
    }

  return (
    batch(images.train, images.train_labels),
    batch(images.test, images.test_labels),
  )


def _mean_error(output_BxP, images_BxP):
  return jnp.mean(jnp.abs(output_BxP - images_BxP), axis=-1)


def _mean(values_BxZ, weight_B):
  return weight_B @ values_BxZ / jnp.maximum(jnp.sum(weight_B), 1.0)
