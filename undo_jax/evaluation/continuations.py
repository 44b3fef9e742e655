"""Texts that models go on with from the same prompts, for a person to compare."""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any

import jax
import numpy as np

from undo_jax.data.tokenizers import Tokenizer
from undo_jax.evaluation import chat as chat_templates
from undo_jax.evaluation.chat import ChatTemplate
from undo_jax.evaluation.scoring import Scorer
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder
from undo_jax.utils.types import ConfigError, Params

HUGGINGFACE = "huggingface:"  # Begins a tokenizer's name; its directory follows.
_PROMPTS_AT_ONCE = 8


def texts(
  config: ModelConfig,
  params: Params,
  tokenizer: Tokenizer,
  prompts: Sequence[str],
  *,
  num_tokens: int,
  temperature: float = 0.0,
  seed: int = 0,
  stops: Sequence[int] = (),
  template: ChatTemplate | None = None,
) -> list[str]:
  """Continue each prompt, greedily or at a temperature.

  Args:
    config: of the model.
    params: its parameters.
    tokenizer: its tokenizer, whose EOS ends a text.
    prompts: at least one, none empty.
    num_tokens: appended to a prompt at most, >= 1.
    temperature: >= 0; 0: the most likely token each time.
    seed: of the draws.
    stops: ids that end a text too.
    template: writes a prompt as a user's message, the text being the assistant's
      answer; None: prompts are continued as they are.

  Returns:
    What is appended to each, in their order.

  Raises:
    ConfigError: if a prompt is empty, or the tokenizer has ids that the model has not.
    ValueError: if num_tokens or temperature is out of range.
  """
  if not prompts or not all(prompts):
    raise ConfigError(
      "expected prompts of at least one character each, got an empty one"
    )
  if tokenizer.vocab_size > config.vocab_size:
    raise ConfigError(
      f"the tokenizer has ids up to {tokenizer.vocab_size - 1}, the model embeddings "
      f"for {config.vocab_size}; give --tokenizer of the model"
    )
  ids = [_ids(prompt, tokenizer, template) for prompt in prompts]
  scorer = Scorer(
    Decoder(config),
    params,
    max_length=max(map(len, ids)) + num_tokens,
    batch_size=min(len(ids), _PROMPTS_AT_ONCE),
  )
  is_stop_V = np.zeros(config.vocab_size, bool)
  ends = (tokenizer.eos_id, *stops)
  is_stop_V[[i for i in ends if i < config.vocab_size]] = True
  appended = scorer.generate(
    ids,
    num_tokens=num_tokens,
    temperature=temperature,
    is_stop_V=is_stop_V,
    key=jax.random.key(seed),
  )
  return [tokenizer.decode(new) for new in appended]


def eos_ids(
  generation: Mapping[str, object], settings: Mapping[str, object], where: pathlib.Path
) -> tuple[int, ...]:
  """Return the ids that end a text in transformers.

  Args:
    generation: generation_config.json, or empty.
    settings: config.json, which counts where that has no eos_token_id.
    where: the directory of both, for messages.

  Raises:
    ConfigError: if they are no ids; names the file.
  """
  name = "generation_config.json" if "eos_token_id" in generation else "config.json"
  ids = (generation if "eos_token_id" in generation else settings).get("eos_token_id")
  several: list[Any] = ids if isinstance(ids, list) else [] if ids is None else [ids]
  if not all(type(each) is int and 0 <= each < 2**31 for each in several):
    raise ConfigError(
      f"{where / name}: eos_token_id must be an id or a list of them, got {ids!r:.80}"
    )
  return tuple(several)


def template_of(name: str) -> ChatTemplate:
  """Return the chat template beside a tokenizer of Hugging Face, by its name.

  Raises:
    ConfigError: if there is none.
  """
  path = pathlib.Path(name.removeprefix(HUGGINGFACE))
  template = chat_templates.read(path) if name.startswith(HUGGINGFACE) else None
  if template is None:
    raise ConfigError(
      f"--apply_chat_template: the tokenizer {name} has no chat template; expected "
      "chat_template.jinja, or one in tokenizer_config.json, beside tokenizer.json"
    )
  return template


def _ids(prompt: str, tokenizer: Tokenizer, template: ChatTemplate | None) -> list[int]:
  """Return the ids of a prompt, BOS first where the tokenizer has one."""
  bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
  if template is None:
    return bos + tokenizer.encode(prompt)
  text = template.render([{"role": "user", "content": prompt}], begins_answer=True)
  ids = tokenizer.encode_chat(text)  # pyright: ignore[reportAttributeAccessIssue]
  return ids if ids[: len(bos)] == bos else bos + ids
