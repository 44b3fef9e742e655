"""New or reserved MLP units and attention heads of the decoder, for gradient routing.

MLP units come one by one, attention heads in whole groups: a key/value head and its
H/G query heads, appended after the others. A query head alone, which shares its
key/value head with old ones, is not supported: zeroed it would still hand on the mean
of the values, and its rows of the output matrix would grow again.

The layers lie on one axis and have one size. Where only some layers are expanded, the
others get the same number of units, all zero, which no training changes (see
routing.era).
"""

from collections.abc import Iterable
import dataclasses

import jax
import jax.numpy as jnp

from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import shapes as shapes_of
from undo_jax.routing import era
from undo_jax.utils import trees
from undo_jax.utils.types import ConfigError, Params


def expand(
  config: ModelConfig,
  params: Params,
  key: jax.Array,
  *,
  mlp_units: int = 0,
  kv_heads: int = 0,
  layers: Iterable[int] | None = None,
  same_logits: bool = True,
) -> tuple[ModelConfig, Params, era.Expansion]:
  """Append MLP units and groups of heads to every layer; see `era.expand`.

  Args:
    config: the model's sizes.
    params: its parameters.
    key: PRNG key of the new entries, N(0, init_std^2).
    mlp_units: new units, >= 0.
    kv_heads: new key/value heads with their query heads, >= 0.
    layers: the layers whose new units are not zero; None: all.
    same_logits: start with zeros in what leads out of the new units, so that the
      model computes what it did; False: draw that too, as for training from scratch.

  Returns:
    (config of the expanded model, its parameters, what is new).

  Raises:
    ConfigError: if nothing is to be added, a layer does not exist, or the parameters
      are not those of `config`, naming the path (expanded before, for example).
  """
  _check_sizes(config, params)
  rules = _rules(config, mlp_units, kv_heads)
  chosen = sorted(set(range(config.num_layers) if layers is None else layers))
  if not chosen or not 0 <= chosen[0] <= chosen[-1] < config.num_layers:
    raise ConfigError(
      f"expanded layers must lie in [0, {config.num_layers}), got {chosen}"
    )
  zero = [pattern for pattern, _, _ in rules if pattern.endswith("bias")]
  if same_logits:
    zero += [pattern for pattern, _, _ in rules if pattern.endswith(_OUT)]
  grown, expansion = era.expand(
    params,
    rules,
    key,
    init=jax.nn.initializers.normal(config.init_std),
    zero=zero,
    nodes=_nodes(config, mlp_units, kv_heads),
  )
  if len(chosen) < config.num_layers:
    silent = jnp.ones(config.num_layers, bool).at[jnp.asarray(chosen)].set(False)

    def silence(path, x, ablated):
      where = silent.reshape(-1, *(1,) * (x.ndim - 1))
      return jnp.where(where, ablated, x) if path in expansion.params else x

    grown = trees.map_with_path(silence, grown, era.ablate(grown, expansion))
  return resize(config, mlp_units, kv_heads), grown, expansion


def reserve(
  config: ModelConfig, *, mlp_units: int = 0, kv_heads: int = 0
) -> era.Expansion:
  """Set the last MLP units and groups of heads of all layers aside.

  Args:
    config: the sizes of the whole model, the reserved units included.
    mlp_units: units set aside, >= 0.
    kv_heads: key/value heads set aside with their query heads, >= 0.

  Returns:
    The expansion as which `contract` and `era.ablate` see them.

  Raises:
    ConfigError: if nothing is set aside, or nothing would be left.
  """
  if mlp_units >= config.mlp_width or kv_heads >= config.num_kv_heads:
    raise ConfigError(
      f"of {config.mlp_width} MLP units and {config.num_kv_heads} key/value heads, "
      f"{mlp_units} and {kv_heads} cannot be set aside: some must be left"
    )
  rules = _rules(config, mlp_units, kv_heads)
  rest = resize(config, -mlp_units, -kv_heads)
  nodes = _nodes(rest, mlp_units, kv_heads)
  return era.reserve(shapes_of(config), rules, nodes=nodes)


def contract(
  config: ModelConfig, params: Params, expansion: era.Expansion
) -> tuple[ModelConfig, Params]:
  """Remove the new units; see `era.contract`.

  Returns:
    (config of the smaller model, its parameters).

  Raises:
    ValueError: if the parameters do not have the expansion's sizes.
  """
  nothing = era.Growth(-1, 0, 0)
  units = expansion.nodes.get("mlp/hidden", nothing).new
  heads = expansion.nodes.get("attention/heads", nothing).new
  group = config.num_heads // config.num_kv_heads
  return resize(config, -units, -heads // group), era.contract(params, expansion)


# Parameters that lead out of the units.
_OUT = ("out/kernel", "down/kernel")


def _rules(config, mlp_units, kv_heads):
  """Return the growth of every matrix and bias, [N, in, out] and [N, out]."""
  if min(mlp_units, kv_heads) < 0 or mlp_units + kv_heads < 1:
    raise ConfigError(
      "an expansion needs mlp_units >= 0 and kv_heads >= 0, not both 0, got "
      f"{mlp_units} and {kv_heads}"
    )
  query_heads = kv_heads * (config.num_heads // config.num_kv_heads)
  query, key = (heads * config.head_dim for heads in (query_heads, kv_heads))
  rules = []
  if mlp_units:
    rules += [
      ("layers/mlp/(gate|up)/kernel", 2, mlp_units),
      ("layers/mlp/down/kernel", 1, mlp_units),
    ]
    if config.mlp_bias:
      rules.append(("layers/mlp/(gate|up)/bias", 1, mlp_units))
  if kv_heads:
    rules += [
      ("layers/attention/query/kernel", 2, query),
      ("layers/attention/(key|value)/kernel", 2, key),
      ("layers/attention/out/kernel", 1, query),
    ]
    if config.qkv_bias:
      rules.append(("layers/attention/query/bias", 1, query))
      rules.append(("layers/attention/(key|value)/bias", 1, key))
  return rules


def _nodes(config, mlp_units, kv_heads):
  """Return the growth of the activations, from the sizes before."""
  nodes = {}
  if mlp_units:
    nodes["mlp/hidden"] = era.Growth(-1, config.mlp_width, mlp_units)
  if kv_heads:
    group = config.num_heads // config.num_kv_heads
    nodes["attention/heads"] = era.Growth(-2, config.num_heads, kv_heads * group)
  return nodes


def resize(config: ModelConfig, mlp_units: int, kv_heads: int) -> ModelConfig:
  """Return the config with so many more (or fewer) MLP units and groups of heads."""
  group = config.num_heads // config.num_kv_heads
  return dataclasses.replace(
    config,
    mlp_width=config.mlp_width + mlp_units,
    num_kv_heads=config.num_kv_heads + kv_heads,
    num_heads=config.num_heads + kv_heads * group,
  )


def _check_sizes(config, params):
  expected = shapes_of(config)
  if trees.paths(expected) != trees.paths(params):
    differing = sorted(set(trees.paths(expected)) ^ set(trees.paths(params)))
    raise ConfigError(
      f"the parameters are not those of the model's config: {', '.join(differing)}"
    )

  def check(path, shape, leaf):
    if shape.shape != jnp.shape(leaf):
      raise ConfigError(
        f"{path} has the shape {jnp.shape(leaf)}, the model's config says "
        f"{shape.shape}; parameters that were expanded need the config that `expand` "
        "returned with them"
      )

  trees.map_with_path(check, expected, params)
