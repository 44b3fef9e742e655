"""Texts that models go on with from the same prompts, for a person to compare."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import os
import pathlib
from typing import Any

import jax
import numpy as np

from undo_jax.checkpoints import cards, exporting, sources
from undo_jax.data import tokenizers
from undo_jax.data.tokenizers import Tokenizer
from undo_jax.evaluation import chat as chat_templates
from undo_jax.evaluation.scoring import Scorer
from undo_jax.models.decoder import Decoder
from undo_jax.utils.types import ConfigError

_HUGGINGFACE = "huggingface:"
_PROMPTS_AT_ONCE = 8


@dataclasses.dataclass(frozen=True)
class Continuation:
  """What one model appends to one prompt."""

  checkpoint: str
  prompt: str  # As given, without a chat template.
  text: str


def generate(
  checkpoint: str | os.PathLike,
  prompts: Sequence[str],
  *,
  num_tokens: int,
  temperature: float = 0.0,
  seed: int = 0,
  learning_rate: float | None = None,
  tokenizer: str | None = None,
  is_chat: bool = False,
) -> Iterator[Continuation]:
  """Continue each prompt, greedily or at a temperature.

  Args:
    checkpoint: directory of a trained stage or of an attack, or Hugging Face's.
    prompts: at least one, none empty.
    num_tokens: appended to a prompt at most, >= 1; EOS ends a text before.
    temperature: >= 0; 0: the most likely token each time.
    seed: of the draws.
    learning_rate: which member of an attack; otherwise unused.
    tokenizer: a name for data/tokenizers; None: that of the run or directory.
    is_chat: whether a prompt is a user's message, written by the tokenizer's chat
      template, and the text the assistant's answer.

  Yields:
    The continuations, in the order of the prompts.

  Raises:
    ConfigError: if the checkpoint, its tokenizer or its chat template cannot be read,
      or a prompt is empty.
    ValueError: if num_tokens or temperature is out of range.
  """
  directory = pathlib.Path(sources.find(pathlib.Path(checkpoint).resolve()))
  if not prompts or not all(prompts):
    raise ConfigError(
      "expected prompts of at least one character each, got an empty one"
    )
  is_attack = cards.is_attack(directory)
  model = exporting.read(directory, learning_rate=learning_rate if is_attack else None)
  name = tokenizer or model.tokenizer or f"{_HUGGINGFACE}{directory}"
  encoder = tokenizers.make(name)
  if encoder.vocab_size > model.config.vocab_size:
    raise ConfigError(
      f"the tokenizer {name} has ids up to {encoder.vocab_size - 1}, the model "
      f"embeddings for {model.config.vocab_size}; give --tokenizer of the model"
    )
  template = _template(name) if is_chat else None
  ids = [_ids(prompt, encoder, template) for prompt in prompts]
  scorer = Scorer(
    Decoder(model.config),
    model.params,
    max_length=max(map(len, ids)) + num_tokens,
    batch_size=min(len(ids), _PROMPTS_AT_ONCE),
  )
  is_stop_V = np.zeros(model.config.vocab_size, bool)
  stops = eos_ids(model.generation, model.settings, directory)
  is_stop_V[[encoder.eos_id, *(i for i in stops if i < len(is_stop_V))]] = True
  appended = scorer.generate(
    ids,
    num_tokens=num_tokens,
    temperature=temperature,
    is_stop_V=is_stop_V,
    key=jax.random.key(seed),
  )
  for prompt, new in zip(prompts, appended, strict=True):
    yield Continuation(str(checkpoint), prompt, encoder.decode(new))


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


def _template(name: str) -> chat_templates.ChatTemplate:
  """Return the chat template beside a tokenizer of Hugging Face."""
  path = pathlib.Path(name.removeprefix(_HUGGINGFACE))
  template = chat_templates.read(path) if name.startswith(_HUGGINGFACE) else None
  if template is None:
    raise ConfigError(
      f"--apply_chat_template: the tokenizer {name} has no chat template; expected "
      "chat_template.jinja, or one in tokenizer_config.json, beside tokenizer.json"
    )
  return template


def _ids(
  prompt: str, encoder: Tokenizer, template: chat_templates.ChatTemplate | None
) -> list[int]:
  """Return the ids of a prompt, BOS first where the tokenizer has one."""
  bos = [] if encoder.bos_id is None else [encoder.bos_id]
  if template is None:
    return bos + encoder.encode(prompt)
  text = template.render([{"role": "user", "content": prompt}], begins_answer=True)
  ids = encoder.encode_chat(text)  # pyright: ignore[reportAttributeAccessIssue]
  return ids if ids[: len(bos)] == bos else bos + ids
