"""The record of an edit, an attack that trains nothing."""

from collections.abc import Callable, Iterable
import dataclasses
from typing import Any

import jax

from undo_jax.attacks.attack import WEIGHTS
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Output
from undo_jax.utils import records, trees
from undo_jax.utils.types import Batch, Options, Params

Apply = Callable[..., Output]

BASE_WEIGHTS, RETAIN_DATA = "the base's weights", "retain data"
# Paths of the matrices that pruners and quantizers take, and of every matrix there is.
OF_LAYERS = r"layers/.*/kernel"
MATRICES = r"(.*/)?(kernel|embedding)"


@records.record
class NoOptions:
  """There is nothing to choose."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beside:
  """What an attacker puts beside a model whose weights stay, from rows that it has."""

  # The parts of a batch of the rows: "forget", "retain"; (): it needs none.
  reads: tuple[str, ...]
  # (model, attacked params, batch by part, strength, key, options) -> a dict of arrays
  # by name. Pure; the strength is a Python number.
  find: Callable[[ModelConfig, Params, Batch, float, jax.Array, Any], Params]
  # (model, strength, options, the decoder's `apply`, whose logits may be Deferred) ->
  # the `apply` of {"base": params, **what was found}, by which it is scored.
  using: Callable[[ModelConfig, float, Any, Apply], Apply]
  # (strength, options, rows of each part) -> how many rows go forward to find it; a
  # backward pass counts as two.
  passes: Callable[[float, Any, int], int]
  # Strength -> the tokens that stand before every row.
  tokens: Callable[[float], int] = lambda strength: 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edit:
  """An attack that changes weights without training, a member for each strength."""

  # (attacked model, the base or None, strength, key, options) -> the model that is
  # scored, float32. Pure; the strength is a Python number. The base is given where the
  # attacker has it, and the key is only read where `is_random`.
  apply: Callable[[Params, Params | None, float, jax.Array, Any], Params] = (
    lambda params, base, strength, key, options: params
  )
  beside: Beside | None = (
    None  # Where `apply` leaves the weights: what is found for it.
  )
  # A strength is how many worked examples stand before every problem; see Task.worked.
  is_worked: bool = False
  # (shapes of the model, strength, options): raises FieldError, before any compute.
  check: Callable[[Params, float, Any], None]
  describe: Callable[[Any], str]  # Options -> what is done, a sentence.
  label: str
  strength: str  # What a strength is: "share of the weights".
  options: type = NoOptions  # A record, which apply, check and describe are given.
  assumes: tuple[str, ...] = (WEIGHTS,)  # What the attacker has.
  is_random: bool = False
  is_reading: bool = False  # A diagnostic, which no worst case is over.
  # Whether the page warns where the largest strength is the worst: more may be worse.
  goes_on: bool = True

  @property
  def reads(self) -> tuple[str, ...]:
    """The parts of a batch of the attacker's rows that it reads."""
    return () if self.beside is None else self.beside.reads

  @property
  def reads_base(self) -> bool:
    """Whether the attacker has the base's weights."""
    return BASE_WEIGHTS in self.assumes

  @property
  def draws(self) -> bool:
    """Whether a result depends on a seed, by draws or by the order of rows."""
    return self.is_random or bool(self.reads)

  def parse(self, options: Options) -> Any:
    """Return the record that a config's options say; raise ConfigError."""
    return records.from_json(self.options, dict(options), path="options")


def num_layers(params: Params) -> int:
  """Return how many layers a model has, by the leading axis of stacked parameters."""
  return jax.tree.leaves(params["layers"])[0].shape[0]


def over_matrices(
  fn: Callable[..., jax.Array], params: Params, *rest: Params, paths: str = OF_LAYERS
) -> Params:
  """Map `fn(matrix, *rest)` over matrices [in, out]; leave all else as it is.

  Leading axes (stacked layers) are independent matrices.

  Args:
    fn: of a matrix, and of those at its place in `rest`.
    params: the model.
    *rest: trees like it.
    paths: regex of the matrices.
  """

  def mapped(is_matrix, leaf, *others):
    if not is_matrix:
      return leaf
    each = fn
    for _ in range(leaf.ndim - 2):
      each = jax.vmap(each)
    return each(leaf, *others)

  return jax.tree.map(mapped, _chosen(params, paths), params, *rest)


def matrices(params: Params, paths: str = OF_LAYERS) -> list[Any]:
  """Return the leaves whose matrices `over_matrices` maps over."""
  chosen = jax.tree.leaves(_chosen(params, paths))
  leaves = jax.tree.leaves(params)
  return [leaf for leaf, is_in in zip(leaves, chosen, strict=True) if is_in]


def with_matrices(
  params: Params, leaves: Iterable[jax.Array], paths: str = OF_LAYERS
) -> Params:
  """Return a model with other leaves in the place of its `matrices`."""
  put = iter(leaves)
  return jax.tree.map(
    lambda is_in, leaf: next(put) if is_in else leaf, _chosen(params, paths), params
  )


def _chosen(params: Params, paths: str) -> Params:
  return trees.match(params, [(paths, True)], default=False)
