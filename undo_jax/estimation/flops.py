"""FLOPs of a program, counted in its jaxpr: loops as often as they turn."""

from collections import Counter
import math
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxprs_in_params
from jax.interpreters import partial_eval


def count(jaxpr: ClosedJaxpr) -> tuple[int, Counter]:
  """Counts the FLOPs of matrix products and convolutions, over all devices.

  A product [.., M, K] x [.., K, N] counts 2 * M * N * K for each of its batch
  entries. A scan counts its body as often as it turns, a branch the dearest of its
  arms, a Pallas kernel what it states itself or else its body for every point of
  its grid (too much where a kernel skips points). What nothing depends on does not
  count; what is recomputed in a backward pass does.

  Args:
    jaxpr: of a traced function, `jax.jit(fn).trace(...).jaxpr`.

  Returns:
    (FLOPs, how often each kind of equation that could not be counted occurs: loops
    of unknown length, whose body then counts once, and calls of foreign code).
  """
  live, _ = partial_eval.dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))
  unknown: Counter = Counter()
  return _count(live, unknown), unknown


def _count(jaxpr: Jaxpr, unknown: Counter) -> int:
  return sum(_count_equation(equation, unknown) for equation in jaxpr.eqns)


def _count_equation(equation: Any, unknown: Counter) -> int:
  name, params = equation.primitive.name, equation.params
  if name == "dot_general":
    return _product(equation)
  if name == "conv_general_dilated":
    return _convolution(equation)
  if name == "pallas_call" and params.get("cost_estimate") is not None:
    return int(params["cost_estimate"].flops)
  if name == "cond":
    return max(_count(branch.jaxpr, unknown) for branch in params["branches"])
  times = 1
  if name == "scan":
    times = params["length"]
  elif name == "pallas_call":
    times = math.prod(params["grid_mapping"].grid)
  elif name == "shard_map":
    times = params["mesh"].size
  elif name == "while" or "custom_call" in name or name == "ffi_call":
    unknown[name] += 1
  inner = jaxprs_in_params(params)
  return times * sum(_count(_open(jaxpr), unknown) for jaxpr in inner)


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


def trace(fn: Any, *args: Any) -> tuple[int, Counter]:
  """Counts the FLOPs of a function at arguments or their shapes; see `count`."""
  return count(jax.make_jaxpr(fn)(*args))
