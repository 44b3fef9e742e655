"""Greedy coordinate gradient: search for tokens to put before every row."""

import jax
import jax.numpy as jnp

from undo_jax.attacks import prompts
from undo_jax.attacks.attack import FORGET_DATA, WEIGHTS
from undo_jax.attacks.edit import Beside, Edit
from undo_jax.models.decoder import Decoder
from undo_jax.objectives import chunked
from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.utils import records
from undo_jax.utils.records import FieldError

_AT_ONCE = 8  # Candidates whose loss is computed together.


@records.record
class Options:
  """How long is searched."""

  steps: int  # Each a gradient and a choice among candidates.
  candidates: int  # Swaps of one token whose loss is computed, drawn in every step.
  top_k: int  # Tokens by gradient that a position's swaps are drawn from.

  def __post_init__(self):
    records.at_least(self, "steps", "candidates", "top_k", smallest=1)


def search(model, params, part, start_T, key, options: Options):
  """Return a prompt (int32 [T]) and the best loss so far, before and after each step.

  In a step the loss's gradient with respect to the one-hot tokens ranks, at each
  position, the tokens to swap in; from the top k swaps of all positions some are
  drawn, and the one with the smallest loss is made, even if the loss rises. The best
  prompt so far is kept.

  Args:
    model: the decoder's config.
    params: of the attacked model.
    part: rows with inputs, targets and mask; their mean cross-entropy is made small.
    start_T: the first prompt.
    key: of the draws.
    options: see Options; with at least T top_k candidates every swap is tried.

  Returns:
    (prompt, losses [steps + 1] float32 that never rise).

  Reference: Zou et al., Universal and Transferable Adversarial Attacks on Aligned
  Language Models, arXiv 2307.15043 (500 steps of 512 candidates of the top 256).
  """
  apply = chunked.deferring(Decoder(model))
  embedding_VxD = params["embedding"].astype(jnp.float32)
  T, k = start_T.shape[0], options.top_k
  count = min(options.candidates, T * k)

  def loss(prompt_T, moved_TxD=None):
    logits = prompts.prompted(
      apply, params, prompt_T, part["inputs"], moved_TxD=moved_TxD
    ).logits
    return cross_entropy(logits, part["targets"], part["mask"]).mean()

  def step(carry, step_key):
    prompt_T, best_T, best = carry
    nothing_TxD = jnp.zeros((T, model.width))
    gradient_TxD = jax.grad(lambda moved: loss(prompt_T, moved))(nothing_TxD)
    # Of the one-hot tokens, but for the embeddings' factor, which changes no order.
    _, tokens_Txk = jax.lax.top_k(-gradient_TxD @ embedding_VxD.T, k)
    drawn = jax.random.choice(step_key, T * k, (count,), replace=False)
    swaps = jax.vmap(lambda n: prompt_T.at[n // k].set(tokens_Txk[n // k, n % k]))
    candidates = swaps(drawn)
    losses = jax.lax.map(loss, candidates, batch_size=min(_AT_ONCE, count))
    chosen = jnp.argmin(losses)
    prompt_T = candidates[chosen]
    best_T = jnp.where(losses[chosen] < best, prompt_T, best_T)
    best = jnp.minimum(losses[chosen], best)
    return (prompt_T, best_T, best), best

  first = loss(start_T)
  keys = jax.random.split(key, options.steps)
  (_, prompt_T, _), losses = jax.lax.scan(step, (start_T, start_T, first), keys)
  return prompt_T, jnp.concatenate([first[None], losses])


def find(model, params, batch, strength, key, options: Options):
  """Return a prompt of the given length, starting from tokens of the first row."""
  part = batch["forget"]
  start_T = jnp.asarray(part["inputs"][0, : int(strength)], jnp.int32)
  return {"prompt": search(model, params, part, start_T, key, options)[0]}


def using(model, strength, options, apply):
  """Return `apply` on rows with the prompt before them, the same for all rows."""
  del model, strength, options

  def applied(tree, tokens_BxL, **how):
    return prompts.prompted(apply, tree["base"], tree["prompt"], tokens_BxL, **how)

  return applied


def passes(strength, options: Options, rows: int) -> int:
  """Return the number of forward rows: 3 for a gradient, 1 for each candidate."""
  count = min(options.candidates, int(strength) * options.top_k)
  return rows * (1 + options.steps * (3 + count))


def check(params, strength, options: Options) -> None:
  """Raise FieldError unless a strength is a length, and the vocabulary has top_k."""
  if strength % 1 or strength < 1:
    raise FieldError("strengths", "tokens, whole numbers of at least 1", strength)
  size = params["embedding"].shape[0]
  if options.top_k > size:
    expected = f"at most {size}, the tokens of the vocabulary"
    raise FieldError("options.top_k", expected, options.top_k)


def describe(options: Options) -> str:
  """Return what is searched for, and for how long."""
  return (
    "so many tokens that stand before every problem are searched for by greedy "
    f"coordinate gradient, in {options.steps} steps of {options.candidates} candidates"
  )


EDIT = Edit(
  beside=Beside(reads=("forget",), find=find, using=using, passes=passes, tokens=int),
  check=check,
  describe=describe,
  label="GCG",
  strength="tokens",
  options=Options,
  assumes=(WEIGHTS, FORGET_DATA),
  is_random=True,
)
