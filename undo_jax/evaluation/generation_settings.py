"""How a task of lm-evaluation-harness asks for text: its gen_kwargs."""

import dataclasses
from typing import Any

from undo_jax.utils.types import Options

# The harness's names of the number of tokens, the first given wins.
_NUM_TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
# Options that only matter where tokens are drawn, and which we do not have.
_SAMPLING = ("top_p", "top_k", "min_p", "typical_p")


@dataclasses.dataclass(frozen=True)
class Settings:
  """How to generate; what a task calls gen_kwargs."""

  num_tokens: int
  temperature: float
  until: tuple[str, ...]


def read(options: Options, model: Any) -> Settings:
  """Read the options of a request.

  Args:
    options: gen_kwargs of a task.
    model: has max_gen_toks, where no number of tokens is given, and max_length.

  Raises:
    ValueError: if one is not known, or leaves no room for the text.
  """
  options = dict(options)
  until = options.pop("until", None) or ()
  until = (until,) if isinstance(until, str) else tuple(until)
  given = [options.pop(name, None) for name in _NUM_TOKENS]
  given = [number for number in given if number is not None]
  num_tokens = int(given[0]) if given else model.max_gen_toks
  temperature = float(options.pop("temperature", None) or 0.0)
  do_sample = options.pop("do_sample", None)
  if do_sample and temperature == 0.0:
    raise ValueError("do_sample needs a temperature > 0, got none; give one")
  if do_sample is False:
    temperature = 0.0
  if temperature == 0.0:
    options = {key: value for key, value in options.items() if key not in _SAMPLING}
  if options:
    raise ValueError(
      f"generation knows until, {', '.join(_NUM_TOKENS)}, do_sample and temperature, "
      f"got also {options}; remove it from the task's generation_kwargs"
    )
  if not 0 < num_tokens < model.max_length:
    raise ValueError(
      f"the tokens to generate must be from 1 to {model.max_length - 1}, less than "
      f"max_length, got {num_tokens}; set max_gen_toks in the task's generation_kwargs"
    )
  return Settings(num_tokens, temperature, tuple(stop for stop in until if stop))
