"""Measures of what the dimension stands for, and how to steer along it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.gradient_routing.steering.config import Config
from experiments.gradient_routing.steering.results import Projection
from experiments.gradient_routing.stories import corpus
from undo_jax.objectives.cross_entropy import masked_sum
from undo_jax.utils.types import Params


def projection(
  config: Config, params: Params, seen_V: np.ndarray
) -> tuple[Projection, float]:
  """Measure the vocabulary's projection on the dimension.

  score[i] = sign * U[i, dimension] / |U[i]|, where the word's own score is positive

  Args:
    config: of the study.
    params: of the decoder.
    seen_V: bool, tokens that occur in training; the others are left out.

  Returns:
    (the projection, the sign).
  """
  score_V = _share(params, config.model.tied, config.routing.dimension)
  tokenizer = corpus.make_tokenizer(config.data.tokenizer)
  (token,) = tokenizer.encode(f" {config.routing.word}")
  # The topic's other words that are single tokens.
  encoded = (tokenizer.encode(f" {word}") for word in config.topic_words)
  related = {ids[0] for ids in encoded if len(ids) == 1}
  sign = 1.0 if score_V[token] >= 0 else -1.0
  score_V = sign * score_V
  tokens = [i for i in np.argsort(-score_V, kind="stable").tolist() if seen_V[i]]
  inside = np.array([score_V[i] for i in tokens if i in related])
  outside = np.array([score_V[i] for i in tokens if i not in related and i != token])
  above = (inside[:, None] > outside).mean() if len(inside) and len(outside) else 0.5
  nearest = [
    (tokenizer.decode([i]), float(score_V[i])) for i in tokens[: config.num_top]
  ]
  return {
    "score": float(score_V[token]),
    "rank": 1 + tokens.index(token),
    "auc": float(above),
    "nearest": nearest,
    "related": inside.tolist(),
    "others": outside.tolist(),
  }, sign


def _share(params: Params, tied: bool, dimension: int) -> np.ndarray:
  """Return the share of each token's unembedding in the dimension, float64 [V]."""
  unembedding_VxD = np.asarray(params["embedding"], np.float64)
  if not tied:
    unembedding_VxD = np.asarray(params["head"]["kernel"], np.float64).T
  norm_V = np.linalg.norm(unembedding_VxD, axis=1)
  return unembedding_VxD[:, dimension] / np.maximum(norm_V, 1e-12)


def stream_size(apply: Callable, layer: int) -> Callable[..., jax.Array]:
  """Return (params, batch) -> the size of the residual stream after a layer.

  sqrt(mean of x^2 over the dimensions), averaged over the positions that count
  """

  def size(params, batch):
    captured = apply(params, batch["inputs"], capture=(layer + 1,)).captured
    root_BxL = jnp.sqrt(jnp.mean(jnp.square(captured[layer + 1]), axis=-1))
    return masked_sum(root_BxL, batch["mask"]).mean()

  return size


def steered(params: Params, layer: int, dimension: int, strength: float) -> Params:
  """Return parameters whose residual stream has `strength` added after a layer.

  `strength` goes into the bias of the layer's MLP, which is added to the stream.
  """
  down = params["layers"]["mlp"]["down"]
  bias_NxD = down["bias"].at[layer, dimension].add(strength)
  mlp = {**params["layers"]["mlp"], "down": {**down, "bias": bias_NxD}}
  return {**params, "layers": {**params["layers"], "mlp": mlp}}
