"""Soft prompts: trained embeddings stand before every row, and no weight changes."""

import functools

import jax
import jax.numpy as jnp

from undo_jax.attacks import beside, prompts
from undo_jax.attacks.attack import Attack, Members
from undo_jax.utils import records


@records.record
class Options:
  """How long a prompt is."""

  tokens: int  # T, embeddings before every row.

  def __post_init__(self):
    records.at_least(self, "tokens", smallest=1)


def parse(options) -> Options:
  """Return the record that a config's options say; raise ConfigError."""
  return records.from_json(Options, dict(options), path="options")


def prompting(model, apply):
  """Return `apply` of {"base": params, "prompt": [T, D]} on rows after the prompt.

  The prompt is in units of prompts.unit, as the first layer reads it.
  """

  def applied(tree, tokens_BxL, **how):
    params, prompt_TxD = tree["base"], tree["prompt"]
    # Where the prompt is, the decoder looks up token 0, which is taken away again.
    looked_up_D = prompts.embedding_factor(model) * params["embedding"][0]
    return prompts.prompted(
      apply,
      params,
      jnp.zeros(prompt_TxD.shape[0], jnp.int32),
      tokens_BxL,
      moved_TxD=prompts.unit(model, params) * prompt_TxD - looked_up_D,
      **how,
    )

  return applied


def members(model, options, objective) -> Members:
  """Return members that train one prompt, from the embeddings of random tokens.

  The prompt is universal: the same before the rows that are trained on and before
  those that are scored.

  References: Lester et al., The Power of Scale for Parameter-Efficient Prompt Tuning,
  arXiv 2104.08691 (20 to 100 embeddings, begun at those of the vocabulary); Schwinn et
  al., Soft Prompt Threats, arXiv 2402.09063 (on unlearned models).
  """
  del objective
  size = parse(options).tokens

  def start(params, key):
    drawn_T = jax.random.randint(key, (size,), 0, model.vocab_size)
    scale = prompts.root_mean_square(params)
    return {"prompt": jnp.take(params["embedding"], drawn_T, axis=0) / scale}

  return beside.members(model, start=start, using=functools.partial(prompting, model))


def check(model, options) -> None:
  """Raise FieldError unless a prompt has a length."""
  del model
  parse(options)


ATTACK = Attack(
  members=members,
  check=check,
  describe=lambda options: f"{options['tokens']} embeddings before every row",
  label="soft prompt",
  trains_weights=False,
  added_tokens=lambda options: options["tokens"],
)
