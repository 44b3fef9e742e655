"""Chat templates: a conversation as the text that a model was finetuned on.

A template is of Jinja's language, rendered as transformers renders it: in Jinja's
sandbox, with the same functions and whitespace rules.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import datetime
import json
import pathlib
from typing import Any, NoReturn

from undo_jax.utils import files
from undo_jax.utils.types import ConfigError

# Of a tokenizer_config.json; templates know them by these names.
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
# Set behind the message that is continued; templates that trim it lose the space.
_END = "<end of what is continued> "
Message = Mapping[str, str]  # "role" and "content".


@dataclasses.dataclass(frozen=True)
class ChatTemplate:
  """A template, and the special tokens that it may name."""

  source: str
  special: Mapping[str, str]

  def render(self, messages: Sequence[Message], *, begins_answer: bool) -> str:
    """Return a conversation as text.

    Args:
      messages: of a system, users and assistants in turn.
      begins_answer: whether the text goes on to where the assistant answers; else it
        ends with the last message's content, which the model is to continue.

    Raises:
      ConfigError: if the template is broken or refuses the messages.
    """
    given = [dict(message) for message in messages]
    if not begins_answer:
      given[-1]["content"] += _END
    try:
      template = _environment().from_string(self.source)
      text = template.render(
        messages=given, add_generation_prompt=begins_answer, **self.special
      )
    except Exception as error:  # noqa: BLE001  Whatever its operators raise.
      reason = " ".join(str(error).split()) or type(error).__name__
      raise ConfigError(f"the chat template refuses the messages: {reason}") from None
    return text if begins_answer else _up_to_end(text)


def read(directory: pathlib.Path) -> ChatTemplate | None:
  """Return the template of a Hugging Face directory, None if it has none.

  That is chat_template.jinja, else "chat_template" of tokenizer_config.json; of
  several the one called default.

  Raises:
    ConfigError: if a file cannot be read, or has something else in a template's place.
  """
  config_path, path = (
    directory / name for name in ("tokenizer_config.json", "chat_template.jinja")
  )
  config = files.read_optional(config_path)
  source = _text(path) if path.is_file() else config.get("chat_template")
  if isinstance(source, list):
    try:
      source = {entry["name"]: entry["template"] for entry in source}.get("default")
    except (KeyError, TypeError):
      source = 0
  if source is None:
    return None
  if not isinstance(source, str):
    raise ConfigError(
      f"{config_path}: chat_template must be a text, or a list of objects with name "
      "and template"
    )
  special = {}
  for name in _SPECIAL:
    token = config.get(name)
    token = token.get("content") if isinstance(token, dict) else token
    if isinstance(token, str):
      special[name] = token
  return ChatTemplate(source, special)


def _text(path: pathlib.Path) -> str:
  try:
    return path.read_text("utf-8")
  except (OSError, UnicodeDecodeError) as error:
    raise ConfigError(f"{path} cannot be read as a chat template: {error}") from None


def _environment() -> Any:
  from jinja2 import sandbox  # Here, since only who chats needs it.

  made = sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
  )
  made.filters["tojson"] = _to_json
  made.globals["raise_exception"] = _refuse
  made.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
  return made


def _to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
  """Jinja's own escapes what HTML would read."""
  return json.dumps(
    value,
    ensure_ascii=ensure_ascii,
    indent=indent,
    separators=separators,
    sort_keys=sort_keys,
  )


def _refuse(message: str) -> NoReturn:
  from jinja2 import TemplateError

  raise TemplateError(message)


def _up_to_end(text: str) -> str:
  """Cut a text before `_END`; if that was trimmed, spaces before it are as well."""
  end = text.rfind(_END.strip())
  if end < 0:
    raise ConfigError(
      "the chat template leaves out the last message, which cannot be continued"
    )
  return text[:end] if text[end:].startswith(_END) else text[:end].rstrip()
