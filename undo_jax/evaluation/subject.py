"""A model that is measured: what it makes of texts, and what it says."""

from collections.abc import Sequence

import numpy as np

from undo_jax.data.tokenizers import Tokenizer
from undo_jax.evaluation.scoring import Scorer, Tokens, TokenScores
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder
from undo_jax.utils.types import ConfigError, Params

MOST_TOKENS = 8192  # Of a text: more than any question with its answer has.


class Subject:
  """A model with its tokenizer."""

  def __init__(
    self,
    config: ModelConfig,
    params: Params,
    tokenizer: Tokenizer,
    *,
    batch_size: int = 8,
    max_length: int = MOST_TOKENS,
  ):
    """Prepare; nothing is compiled before it is needed.

    Args:
      config: of the model.
      params: its parameters.
      tokenizer: its tokenizer.
      batch_size: rows in one pass.
      max_length: tokens that the model reads at most.

    Raises:
      ConfigError: if the tokenizer has ids that the model has no embedding for.
    """
    if tokenizer.vocab_size > config.vocab_size:
      raise ConfigError(
        f"config.data.tokenizer: expected at most {config.vocab_size} ids, which the "
        f"model has, got {tokenizer.vocab_size}; name the checkpoint's own"
      )
    self.tokenizer = tokenizer
    bos = tokenizer.bos_id
    self.bos: tuple[int, ...] = () if bos is None else (bos,)  # Begins a text.
    self._vocab_size = config.vocab_size
    # Shared by all that is measured, which has shapes in common.
    self._scorer = Scorer(
      Decoder(config), params, max_length=max_length, batch_size=batch_size
    )

  def tokens(
    self, pairs: Sequence[tuple[Tokens, Tokens]], *, standardize: bool = False
  ) -> list[TokenScores]:
    """Score the tokens of continuations after what begins a text; see Scorer.tokens."""
    whole = [((*self.bos, *context), text) for context, text in pairs]
    return self._scorer.tokens(whole, standardize=standardize, progress=True)

  def say(
    self, prompts: Sequence[Tokens], max_new_tokens: int, stops: Sequence[str] = ()
  ) -> list[str]:
    """Return the likeliest continuations as text, token after token; see `up_to`."""
    is_stop_V = np.zeros(self._vocab_size, bool)
    is_stop_V[self.tokenizer.eos_id] = True
    appended = self._scorer.generate(
      [(*self.bos, *prompt) for prompt in prompts],
      num_tokens=max_new_tokens,
      is_stop_V=is_stop_V,
      progress=True,
    )
    return [up_to(self.tokenizer.decode(ids), stops) for ids in appended]


def up_to(text: str, stops: Sequence[str]) -> str:
  """Return what stands before the first of some texts, without space around it."""
  for stop in stops:
    text = text.split(stop)[0]
  return text.strip()
