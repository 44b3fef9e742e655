"""Policies: a single expert, or a mixture of two behind a gate with routed parts.

  logits = output(gate * diamond(x) + (1 - gate) * ghost(x))

If the Diamond was seen to be reached, only the Diamond expert is trained; if the Ghost
was, only the Ghost expert. The output layer is always trained. To steer, set the gate
to 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.gradient_routing import mlp
from experiments.gradient_routing.gridworld import environment
from undo_jax.routing.activations import route
from undo_jax.utils.types import Params

# Factors of the gradients of (Diamond expert, Ghost expert, gate), by the label of an
# episode: NOTHING known, DIAMOND overseen, GHOST overseen.
ROUTES = ((1.0, 1.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))

_VALUE_CHANNELS = 16


class Output(NamedTuple):
  """The policy's output for each observation."""

  logits: jax.Array  # float32 [..., A].
  gate_logit: jax.Array  # float32 [...]; 0 where there is no gate.


def init(
  key: jax.Array, *, experts: str, width: int, value_widths: tuple[int, ...]
) -> Params:
  """Return the parameters of a policy and of its value network.

  Args:
    key: PRNG key.
    experts: mixture or single.
    width: of the hidden layers.
    value_widths: of the value network's hidden layers.
  """
  channels, actions = environment.CHANNELS, environment.ACTIONS
  body = (environment.OBSERVATION, width, width)
  sizes = {
    "value_mix": (channels, _VALUE_CHANNELS),
    "value": (_VALUE_CHANNELS * environment.CELLS, *value_widths, 1),
  }
  if experts == "single":
    sizes["single"] = (*body, actions)
  else:
    sizes |= {
      "diamond": body,
      "ghost": body,
      "gate_mix": (channels, channels),
      "gate": (*body, 1),
      "output": (width, actions),
    }
  return mlp.init(
    key, {name: mlp.Network(one, zero_biases=True) for name, one in sizes.items()}
  )


def apply(
  params: Params,
  observation: jax.Array,
  *,
  routes: jax.Array | None = None,
  gate: float | None = None,
  gate_relu: bool = False,
) -> Output:
  """Return the logits of the actions.

  Args:
    params: of `init`.
    observation: [..., C].
    routes: [..., 3], a row of ROUTES for each observation; None: nothing is routed.
    gate: a constant in place of the gate; 1 steers towards the Diamond.
    gate_relu: whether a ReLU follows the gate's convolution, as in the paper's text;
      in the authors' code there is none.
  """
  if "single" in params:
    logits = mlp.apply(params["single"], observation)
    return Output(logits, jnp.zeros(logits.shape[:-1]))
  diamond = jax.nn.relu(mlp.apply(params["diamond"], observation))
  if gate == 1.0 and routes is None:  # Steered: the Ghost expert is not used.
    logits = mlp.apply(params["output"], diamond)
    return Output(logits, jnp.zeros(logits.shape[:-1]))
  ghost = jax.nn.relu(mlp.apply(params["ghost"], observation))
  if gate is None:
    mixed = _mix_channels(params["gate_mix"], observation)
    mixed = jax.nn.relu(mixed) if gate_relu else mixed
    gate_logit = mlp.apply(params["gate"], mixed)[..., 0]
    openness = jax.nn.sigmoid(gate_logit)[..., None]
  else:
    gate_logit = jnp.zeros(observation.shape[:-1])
    openness = jnp.full((*observation.shape[:-1], 1), gate)
  if routes is not None:
    diamond = route(diamond, routes[..., 0:1])
    ghost = route(ghost, routes[..., 1:2])
    openness = route(openness, routes[..., 2:3])
  hidden = openness * diamond + (1 - openness) * ghost
  return Output(mlp.apply(params["output"], hidden), gate_logit)


def value(params: Params, observation: jax.Array) -> jax.Array:
  """Return the value of observations [..., C], [...]."""
  mixed = jax.nn.relu(_mix_channels(params["value_mix"], observation))
  return mlp.apply(params["value"], mixed)[..., 0]


def sample(logits_ExA: jax.Array, words_E: jax.Array) -> jax.Array:
  """Return actions sampled by the logits, int32 [E], with one word for each.

  An action is the number of cumulated probabilities below the uniform number.
  """
  cumulated_ExA = jnp.cumsum(jax.nn.softmax(logits_ExA), axis=-1)
  uniform_E = environment.uniform(words_E)
  passed_ExA = uniform_E[:, None] >= cumulated_ExA[:, :-1]
  return jnp.sum(passed_ExA, axis=-1, dtype=jnp.int32)


def _mix_channels(layers, observation):
  """Return a 1 x 1 convolution over the channels, flat.

  It is one product with the kernel spread over the cells, since the few channels alone
  would make a slow product.
  """
  (layer,) = layers
  spread = jnp.kron(layer["kernel"], jnp.eye(environment.CELLS))
  bias = jnp.repeat(layer["bias"], environment.CELLS)
  return observation @ spread + bias
