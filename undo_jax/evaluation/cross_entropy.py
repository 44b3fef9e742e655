"""Cross-entropy on held-out rows, the score of capabilities without right answers."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from undo_jax.data.packing import to_batch
from undo_jax.evaluation import log_probabilities
from undo_jax.evaluation.parts import in_parts
from undo_jax.utils.types import ConfigError, Params, Rows

Problems = dict[str, np.ndarray]


def problems(sources: Mapping[str, Rows], num_rows: int) -> Problems:
  """Return the first rows of every source as arrays.

  Args:
    sources: for each name random access to packed rows, see data.rows.
    num_rows: of each.

  Returns:
    "inputs" and "targets" int32 [P, L], "mask" float32 [P, L] and "group" int32 [P],
    the index of a row's source.

  Raises:
    ConfigError: if a source has fewer rows, or none of them has a scored token.
  """
  batches = []
  for index, (name, source) in enumerate(sources.items()):
    if len(source) < num_rows:
      raise ConfigError(
        f"expected {num_rows} held-out rows of {name}, got {len(source)}; lower "
        "data.num_evaluation_rows, or hold out a larger part of its documents"
      )
    rows = [source[i] for i in range(num_rows)]
    batch = to_batch(
      {k: np.stack([row[k] for row in rows]) for k in ("tokens", "mask")}
    )
    if not batch["mask"].any():
      raise ConfigError(
        f"expected a scored token in the {num_rows} held-out rows of {name}, got none, "
        "of which there is no mean; raise data.sequence_length above the longest "
        "question, or data.num_evaluation_rows"
      )
    batches.append(batch | {"group": np.full(num_rows, index, np.int32)})
  return {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}


def problem_shapes(num_rows: int, length: int) -> dict[str, jax.ShapeDtypeStruct]:
  """Return the shapes of `problems`, of the rows of all sources together."""
  size = (num_rows, length)
  shapes = {"inputs": size, "targets": size, "mask": size, "group": (num_rows,)}
  return {
    name: jax.ShapeDtypeStruct(shape, jnp.float32 if name == "mask" else jnp.int32)
    for name, shape in shapes.items()
  }


def make_evaluate(
  apply: Callable, names: Sequence[str], *, rows_at_once: int
) -> Callable[[Params, Problems], dict[str, jax.Array]]:
  """Return `(params, problems) -> scores`, one mean for each name.

  score[g] = sum_t mask[t] * -log p(target[t]) / sum_t mask[t]  over the rows of g

  Args:
    apply: the model's.
    names: of the sources, in the order of `problems`.
    rows_at_once: rows in one forward pass; more go one pass after another.

  Returns:
    A pure function; its scores are float32 scalars, nats per scored token. Every
    token counts alike, whatever its document and its row.
  """

  def evaluate(params, problems):
    def nll(part):
      logits = apply(params, part["inputs"]).logits
      log_p = log_probabilities.of_tokens(logits, part["targets"][..., None])[..., 0]
      return -jnp.sum(jnp.where(part["mask"] > 0, log_p, 0.0), axis=-1)

    nll_P = in_parts(nll, problems, rows_at_once)
    member_PxG = jax.nn.one_hot(problems["group"], len(names))
    tokens_P = jnp.sum(problems["mask"] > 0, axis=-1).astype(jnp.float32)
    means_G = (nll_P @ member_PxG) / jnp.maximum(tokens_P @ member_PxG, 1.0)
    return {name: means_G[i] for i, name in enumerate(names)}

  return evaluate
