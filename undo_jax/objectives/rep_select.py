"""RepSelect: forget in the directions that few of the forget rows have in common."""

from collections.abc import Callable
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from undo_jax.models import lora
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import shapes
from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.objectives.method import Join, Method
from undo_jax.utils import trees
from undo_jax.utils.option_types import Count, NotNegative
from undo_jax.utils.records import FieldError
from undo_jax.utils.types import Objective, Options, Params

SOURCE = "forget"
TARGETS = (r"layers/mlp/(gate|up|down)/kernel",)
# PEFT's defaults of the adapters that relearn.
RANK, SCALE = 8, 1.0


class Selection(NamedTuple):
  """What is carried from update to update."""

  updates: jax.Array  # Done so far.
  adapters: Params  # That relearn.
  gradient: Params  # Of what is forgotten: the sum so far, then what was selected.


def soft_collapse(matrix: jax.Array, components: int) -> jax.Array:
  """Return a matrix whose first principal components are collapsed on both sides.

  S_i -> S_n^2 / S_i  for i <= n,  the others as they are

  What many rows have in common, and relearning brings back first, becomes the least;
  with n = 1 nothing changes. It is homogeneous: c M -> c times what M becomes.

  Args:
    matrix: [in, out].
    components: n, at most the smaller side.
  """
  left, values, right = jnp.linalg.svd(matrix.astype(jnp.float32), full_matrices=False)
  limit = values[components - 1]
  inverted = limit**2 / jnp.maximum(values, 1e-30)
  is_first = jnp.arange(values.size) < components
  # Where the limit is 0, so is all that is collapsed.
  values = jnp.where(is_first, inverted, values)
  return (left * values) @ right


def make(
  apply: Callable,
  *,
  adversary_rate: NotNegative = 0.01,
  adversary_updates: Count = 20,
  gradient_updates: Count = 20,
  components: Count = 512,
  targets: tuple[str, ...] = TARGETS,
) -> Objective:
  """Return L = CE(forget; adversary).

  First low-rank adapters relearn the forget rows, a step of gradient descent an update.
  Then gradients of -CE are summed with these adapters in place, while the model stays.
  The sum's matrices are collapsed (soft_collapse), the adapters dropped, and this and
  every further update goes a step along what is left:

    theta <- theta - rate * collapse(sum grad -CE(forget; adversary))

  So one update after the others have passed is a whole step, and more repeat it, which
  is one step at so many times the rate. The authors stop at a KL on general text; here
  it is the rate and the updates that are searched. For the optimizer "descent" without
  clipping.

  Args:
    apply: the model's.
    adversary_rate: of the adapters' steps.
    adversary_updates: of them.
    gradient_updates: whose gradients are summed; the last of them is the first step.
    components: n of soft_collapse; the paper's 512 are of matrices 4096 wide.
    targets: path regexes of the stacked matrices that are adapted and changed.

  Returns:
    An objective of parameters, or of {SOURCE: parameters}.

  Reference: RepSelect, arXiv 2606.17168. Singular values are exact, not of a random
  projection, and the adapters begin at the same draw in every run.
  """
  del adversary_rate, adversary_updates, gradient_updates, components, targets

  def objective(params, frozen, batch, key):
    del key
    apart = params[SOURCE] if set(params) == {SOURCE} else params
    start = jax.lax.stop_gradient(frozen["adversary"])
    weights = jax.tree.map(
      lambda a, p: a + (p - jax.lax.stop_gradient(p)), start, apart
    )
    forget = batch["forget"]
    logits = apply(weights, forget["inputs"]).logits
    lost = cross_entropy(logits, forget["targets"], forget["mask"])
    return lost, {"adversary_cross_entropy": lost}

  return objective


def select(
  *,
  adversary_rate: float,
  adversary_updates: int,
  gradient_updates: int,
  components: int,
  targets: tuple[str, ...],
) -> optax.GradientTransformation:
  """Turn the gradients at the adversary into what `make` says; see there.

  The adapters' gradients follow from those of the merged matrices W + s a b, G:
  s G b^T of a and s a^T G of b.
  """
  first = adversary_updates + gradient_updates - 1  # Updates before the first step.

  def init(params):
    adapters = lora.init(params, jax.random.key(0), rank=RANK, targets=targets)
    return Selection(
      jnp.zeros([], jnp.int32), adapters, jax.tree.map(jnp.zeros_like, params)
    )

  def relearned(adapters, gradient):
    leaves = dict(zip(trees.paths(gradient), jax.tree.leaves(gradient), strict=True))
    pairs = lora.pairs(adapters)

    def step(path, leaf):
      kernel, _, side = path.rpartition("/")
      (a, b), g = pairs[kernel], leaves[kernel]
      turned = lambda x: jnp.swapaxes(x, -1, -2)  # noqa: E731
      own = g @ turned(b) if side == "a" else turned(a) @ g
      return leaf - adversary_rate * SCALE * own

    return trees.map_with_path(step, adapters)

  def collapsed(total):
    def each(path, leaf):
      if not any(re.fullmatch(target, path) for target in targets):
        return jnp.zeros_like(leaf)
      return jax.vmap(lambda m: soft_collapse(m, components))(leaf).astype(leaf.dtype)

    return trees.map_with_path(each, total)

  def update(updates, state, params=None):
    del params
    gradient, done = updates[SOURCE], state.updates
    is_relearning, is_begun = done < adversary_updates, done > first
    moved = relearned(state.adapters, gradient)
    adapters = jax.tree.map(
      lambda old, new: jnp.where(is_relearning, new, old), state.adapters, moved
    )
    is_summed = jnp.logical_not(is_relearning | is_begun)
    total = jax.tree.map(
      lambda t, g: t - jnp.where(is_summed, g, 0.0).astype(t.dtype),
      state.gradient,
      gradient,
    )
    total = jax.lax.cond(done == first, collapsed, lambda tree: tree, total)
    step = jax.tree.map(lambda t: jnp.where(done >= first, t, 0.0), total)
    return step, Selection(done + 1, adapters, total)

  return optax.GradientTransformation(init, update)


def joins(
  trainable: tuple,
  *,
  adversary_rate: float = 0.01,
  adversary_updates: int = 20,
  gradient_updates: int = 20,
  components: int = 512,
  targets: tuple[str, ...] = TARGETS,
) -> Join:
  """Return how its gradients become a step, and the adversary that is carried along."""
  del trainable  # The optimizer leaves out what is not trained.
  transform = select(
    adversary_rate=adversary_rate,
    adversary_updates=adversary_updates,
    gradient_updates=gradient_updates,
    components=components,
    targets=tuple(targets),
  )

  def carried(opt_state: Any, params: Params) -> dict[str, Params]:
    state = optax.tree.get(opt_state, Selection.__name__)
    is_there = state.updates < adversary_updates + gradient_updates
    scale = jnp.where(is_there, SCALE, 0.0)
    return {"adversary": lora.merge(params, state.adapters, scale=scale)}

  return Join(
    sources=(SOURCE,),
    transform=transform,
    carried=carried,
    state_rules=((r"adapters/.*", ()),),
  )


def check(model: ModelConfig, options: Options, *, is_random: bool) -> None:
  """Raise FieldError where adapters or components do not fit the model's matrices."""
  del is_random
  targets = options.get("targets", TARGETS)
  try:
    adapters = jax.eval_shape(
      lambda: lora.init(shapes(model), jax.random.key(0), rank=RANK, targets=targets)
    )
  except ValueError as error:
    raise FieldError("targets", f"matrices for adapters ({error})", targets) from None
  sides = [
    size for a, b in lora.pairs(adapters).values() for size in (a.shape[1], b.shape[2])
  ]
  components = options.get("components", 512)
  if components > min(sides):
    expected = f"at most {min(sides)}, the smallest side of the matrices"
    raise FieldError("components", expected, components)


METHOD = Method(
  make=make,
  trains=("forget",),
  joins=joins,
  check=check,
  is_unlearning=True,
  label="RepSelect",
  color="#365f8a",
  marker="d",
)
