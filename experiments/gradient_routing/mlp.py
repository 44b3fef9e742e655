"""Fully connected networks as plain trees, initialized as PyTorch's Linear is."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from undo_jax.utils.types import Params


class Network(NamedTuple):
  """Sizes of a network, from its input to its output."""

  sizes: Sequence[int]
  zero_biases: bool = False  # Otherwise they are drawn as the kernels are.
  last_bias: bool = True  # Whether the last layer has one.


def init(key: jax.Array, networks: Mapping[str, Network]) -> dict[str, Params]:
  """Return the layers of networks by name, dicts of `kernel` and `bias`.

  kernel, bias ~ U(-1 / sqrt(inputs), 1 / sqrt(inputs))

  All networks are cut from one draw, since each draw takes seconds to compile on a CPU.

  Args:
    key: PRNG key.
    networks: their sizes by name.
  """
  total = sum(
    (inputs + 1) * outputs
    for net in networks.values()
    for inputs, outputs in _pairs(net)
  )
  drawn = jax.random.uniform(key, (total,), minval=-1.0)
  params, start = {}, 0
  for name, net in networks.items():
    layers = []
    for inputs, outputs in _pairs(net):
      end = start + (inputs + 1) * outputs
      uniform = inputs**-0.5 * drawn[start:end].reshape(inputs + 1, outputs)
      bias = jnp.zeros(outputs) if net.zero_biases else uniform[-1]
      layers.append({"kernel": uniform[:-1], "bias": bias})
      start = end
    if not net.last_bias:
      del layers[-1]["bias"]
    params[name] = layers
  return params


def apply(layers: Sequence[Params], x: jax.Array) -> jax.Array:
  """Return the output of a network with ReLU between its layers.

  Args:
    layers: of `init`.
    x: [..., inputs].

  Returns:
    [..., outputs].
  """
  for index, layer in enumerate(layers):
    x = x @ layer["kernel"]
    if "bias" in layer:
      x = x + layer["bias"]
    if index < len(layers) - 1:
      x = jax.nn.relu(x)
  return x


def _pairs(network):
  """Return (inputs, outputs) of each layer."""
  return list(zip(network.sizes[:-1], network.sizes[1:], strict=True))
