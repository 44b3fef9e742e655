"""FLOPs of a program, counted in its jaxpr: loops as often as they turn."""

from collections import Counter
import dataclasses
import math
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxprs_in_params
from jax.interpreters import partial_eval


@dataclasses.dataclass
class Counted:
  """FLOPs of all devices together."""

  flops: int = 0
  kernel_flops: int = 0  # Those among them in Pallas kernels.
  uncounted: Counter = dataclasses.field(default_factory=Counter)  # By primitive.

  def add(self, other: "Counted", times: int = 1) -> None:
    """Adds another count, so many times."""
    self.flops += times * other.flops
    self.kernel_flops += times * other.kernel_flops
    self.uncounted += other.uncounted


def count(jaxpr: ClosedJaxpr) -> Counted:
  """Counts the FLOPs of matrix products and convolutions.

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


def trace(fn: Any, *args: Any) -> Counted:
  """Counts the FLOPs of a function at arguments or their shapes; see `count`."""
  return count(jax.make_jaxpr(fn)(*args))


def _count(jaxpr: Jaxpr) -> Counted:
  total = Counted()
  for equation in jaxpr.eqns:
    total.add(_count_equation(equation))
  return total


def _count_equation(equation: Any) -> Counted:
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


def _open(jaxpr):
  return jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr


def _product(equation) -> int:
  (contracting, _), _ = equation.params["dimension_numbers"]
  shape = equation.invars[0].aval.shape
  depth = math.prod(shape[axis] for axis in contracting)
  return 2 * math.prod(equation.outvars[0].aval.shape) * depth


def _convolution(equation) -> int:
  kernel = equation.invars[1].aval.shape
  out_features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
  depth = math.prod(kernel) // out_features
  return 2 * math.prod(equation.outvars[0].aval.shape) * depth
