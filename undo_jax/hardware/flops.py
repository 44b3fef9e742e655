"""FLOPs, in two ways that agree on a model's forward pass.

`forward_flops` is a closed form of the model's sizes: what a run is accounted by,
whatever its programs compute besides (recomputed layers, what is skipped). `count` is
of one program, from its jaxpr: what the devices are given to do, loops as often as
they turn.
"""

from collections import Counter
from collections.abc import Callable
import dataclasses
import math
from typing import cast

import jax
from jax.core import ShapedArray
from jax.extend.core import (
  ClosedJaxpr,  # pyright: ignore[reportPrivateImportUsage]
  Jaxpr,
  JaxprEqn,
  Literal,
  Var,
  jaxprs_in_params,
)
from jax.interpreters import partial_eval

from undo_jax.models.config import ModelConfig


def forward_flops(config: ModelConfig, length: int) -> int:
  """Return the FLOPs of one forward pass over one row.

  L * (2 * M + 4 * N * L * H * K), with M the entries of all matrices that are
  multiplied (unembedding yes, embedding look-up no) and the second term the
  attention scores and their sums, counted in full as they are computed here.

  Args:
    config: the model.
    length: L, positions of the row.
  """
  c = config
  layer = 2 * c.width * c.head_dim * (c.num_heads + c.num_kv_heads)
  layer += 3 * c.width * c.mlp_width
  matrices = c.vocab_size * c.width + c.num_layers * layer
  attention = 4 * c.num_layers * length * c.num_heads * c.head_dim
  return length * (2 * matrices + attention)


@dataclasses.dataclass
class Counted:
  """FLOPs of all devices together."""

  flops: int = 0
  kernel_flops: int = 0  # Those among them in Pallas kernels.
  uncounted: Counter[str] = dataclasses.field(default_factory=Counter)  # By primitive.

  def add(self, other: "Counted", times: int = 1) -> None:
    """Add another count, so many times."""
    self.flops += times * other.flops
    self.kernel_flops += times * other.kernel_flops
    self.uncounted += other.uncounted


def count(jaxpr: ClosedJaxpr) -> Counted:
  """Count the FLOPs of matrix products and convolutions.

  A product [.., M, K] x [.., K, N] counts 2 * M * N * K for each of its batch
  entries. A scan counts its body as often as it turns, a branch the dearest of its
  arms, a Pallas kernel what it states itself or else its body for every point of
  its grid (too much where a kernel skips points). What nothing depends on does not
  count; what is recomputed in a backward pass does. Loops of unknown length, whose
  body counts once, and calls of foreign code are told as uncounted.

  Args:
    jaxpr: of a traced function, `jax.jit(fn).trace(...).jaxpr`.
  """
  live, _ = partial_eval.dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))
  return _count(live)


def trace(fn: Callable[..., object], *args: object) -> Counted:
  """Count the FLOPs of a function at arguments or their shapes; see `count`."""
  return count(jax.make_jaxpr(fn)(*args))


def _count(jaxpr: Jaxpr) -> Counted:
  total = Counted()
  for equation in jaxpr.eqns:
    total.add(_count_equation(equation))
  return total


def _count_equation(equation: JaxprEqn) -> Counted:
  name, params = equation.primitive.name, equation.params
  if name == "dot_general":
    return Counted(_product(equation))
  if name == "conv_general_dilated":
    return Counted(_convolution(equation))
  if name == "pallas_call":
    flops = _kernel(params)
    return Counted(flops, flops)
  inner = [_count(_open(jaxpr)) for jaxpr in jaxprs_in_params(params)]
  if name == "cond":
    return max(inner, key=lambda branch: branch.flops)
  total = Counted()
  if name == "while" or "custom_call" in name or name == "ffi_call":
    total.uncounted[name] += 1
  times = {"scan": params.get("length", 1)}.get(name, 1)
  if name == "shard_map":
    times = params["mesh"].size
  for each in inner:
    total.add(each, times)
  return total


def _kernel(params) -> int:
  if params.get("cost_estimate") is not None:
    return int(params["cost_estimate"].flops)
  points = math.prod(params["grid_mapping"].grid)
  return points * sum(_count(_open(jaxpr)).flops for jaxpr in jaxprs_in_params(params))


def _open(jaxpr: Jaxpr | ClosedJaxpr) -> Jaxpr:
  return jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr


def _product(equation: JaxprEqn) -> int:
  (contracting, _), _ = equation.params["dimension_numbers"]
  shape = _shape(equation.invars[0])
  depth = math.prod(shape[axis] for axis in contracting)
  return 2 * math.prod(_shape(equation.outvars[0])) * depth


def _convolution(equation: JaxprEqn) -> int:
  kernel = _shape(equation.invars[1])
  out_features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
  depth = math.prod(kernel) // out_features
  return 2 * math.prod(_shape(equation.outvars[0])) * depth


def _shape(atom: Var | Literal) -> tuple[int, ...]:
  return cast(ShapedArray, atom.aval).shape
