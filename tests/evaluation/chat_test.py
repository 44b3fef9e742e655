"""Chat templates: by hand, as transformers renders them, and in a sandbox."""

import json
import os
import re

import pytest

from undo_jax.evaluation import chat
from undo_jax.utils.types import ConfigError

# Of the form of SmolLM2's and Qwen's.
CHATML = (
  "{% for message in messages %}"
  "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + eos_token }}\n"
  "{% endfor %}\n"
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Blocks on lines of their own, a loop that is left, JSON, a refusal.
LINES = """{{ bos_token }}
{%- for message in messages %}
  {%- if message.role not in ('system', 'user', 'assistant') %}
    {{- raise_exception('no role ' + message.role) }}
  {%- endif %}
  {% if loop.index > 3 %}{% break %}{% endif %}
    [{{ message.role }}] {{ message.content | trim }}
    {{ {'<role>': message.role, 'é': 1} | tojson }}
{% endfor %}
{% if add_generation_prompt %}
[assistant]
{% endif %}"""
MESSAGES = [
  {"role": "system", "content": "Be brief."},
  {"role": "user", "content": "What is 2 + 2? "},
  {"role": "assistant", "content": " It is <4> "},
]
SPECIAL = {"bos_token": "<s>", "eos_token": "<|im_end|>"}


def test_a_conversation_is_written_as_the_template_says():
  template = chat.ChatTemplate(CHATML, SPECIAL)
  written = template.render(MESSAGES[:2], begins_answer=True)
  assert written == (
    "<|im_start|>system\nBe brief.<|im_end|>\n"
    "<|im_start|>user\nWhat is 2 + 2? <|im_end|>\n"
    "<|im_start|>assistant\n"
  )
  continued = template.render(MESSAGES, begins_answer=False)
  assert continued.endswith("<|im_start|>assistant\n It is <4> ")


@pytest.mark.parametrize("source", [CHATML, LINES])
@pytest.mark.parametrize("begins_answer", [True, False])
def test_the_text_is_that_of_transformers(tmp_path, source, begins_answer):
  transformers = pytest.importorskip("transformers")
  tokenizers = pytest.importorskip("tokenizers")
  made = tokenizers.Tokenizer(tokenizers.models.BPE())
  theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=made, **SPECIAL)
  theirs.chat_template = source
  theirs.save_pretrained(tmp_path)
  ours = chat.read(tmp_path)
  assert ours is not None
  assert ours.render(MESSAGES, begins_answer=begins_answer) == (
    theirs.apply_chat_template(
      MESSAGES,
      tokenize=False,
      add_generation_prompt=begins_answer,
      continue_final_message=not begins_answer,
    )
  )


def test_templates_lie_in_either_file(tmp_path):
  assert chat.read(tmp_path) is None
  config = {"eos_token": {"content": "<e>"}, "bos_token": None, "chat_template": "a"}
  (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
  assert chat.read(tmp_path) == chat.ChatTemplate("a", {"eos_token": "<e>"})
  several = [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]
  config["chat_template"] = several
  (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
  assert chat.read(tmp_path) == chat.ChatTemplate("d", {"eos_token": "<e>"})
  (tmp_path / "chat_template.jinja").write_text("b")
  assert chat.read(tmp_path) == chat.ChatTemplate("b", {"eos_token": "<e>"})


@pytest.mark.parametrize(
  ("source", "message"),
  [
    ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
    ("{% if %}", "the chat template refuses"),
    ("{{ ''.__class__.__mro__ }}", "unsafe|refuses"),
    ("{{ messages.append(1) }}", "refuses"),
    ("{% include 'a' %}", "refuses"),
    ("{{ 1 // 0 }}", "refuses"),
    ("{{ 'a' + 1 }}", "refuses"),
    ("{{ strftime_now(1) }}", "refuses"),
    ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "refuses"),
    ("nothing of it", "leaves out the last message"),
  ],
)
def test_what_a_template_cannot_do_is_one_line(source, message):
  template = chat.ChatTemplate(source, SPECIAL)
  with pytest.raises(ConfigError, match=message) as error:
    template.render(MESSAGES, begins_answer=False)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("name", "content"),
  [
    ("tokenizer_config.json", b"{"),
    ("tokenizer_config.json", b"[]"),
    ("tokenizer_config.json", b"[" * 100_000),
    ("tokenizer_config.json", b'{"chat_template": 1}'),
    ("tokenizer_config.json", b'{"chat_template": [1]}'),
    ("tokenizer_config.json", b'{"chat_template": [{"name": "default"}]}'),
    ("chat_template.jinja", b"\xff"),
  ],
)
def test_what_holds_no_template_is_named(tmp_path, name, content):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(ConfigError, match=re.escape(name)) as error:
    chat.read(tmp_path)
  assert "\n" not in str(error.value)


def test_a_pipe_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / "tokenizer_config.json")
  with pytest.raises(ConfigError, match="it is no file"):
    chat.read(tmp_path)
