"""Tokenizers of GGUF files out: the metadata that came in; others are refused."""

import json

import pytest

from tests.models.made_up_gguf import tokenizer_fields
from undo_jax.data.tokenizers import from_gguf, to_gguf
from undo_jax.utils.types import ConfigError


@pytest.fixture
def directory(tmp_path):
  from_gguf.write(tokenizer_fields(), tmp_path, path="model.gguf")
  return tmp_path


@pytest.mark.parametrize("cut", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
def test_the_fields_are_those_that_came_in(tmp_path, cut):
  fields = tokenizer_fields() | {"tokenizer.ggml.pre": cut}
  from_gguf.write(fields, tmp_path, path="model.gguf")
  num_ids = len(fields["tokenizer.ggml.tokens"])
  assert to_gguf.fields(tmp_path, num_ids=num_ids) == fields


def test_ids_without_a_token_are_unused(directory):
  num_ids = len(tokenizer_fields()["tokenizer.ggml.tokens"])
  fields = to_gguf.fields(directory, num_ids=num_ids + 2)
  padding = [f"[PAD{num_ids}]", f"[PAD{num_ids + 1}]"]
  assert fields["tokenizer.ggml.tokens"][-2:] == padding
  assert fields["tokenizer.ggml.token_type"][-3:] == [1, 5, 5]


def test_the_template_may_lie_beside(directory):
  (directory / "chat_template.jinja").write_text("{{ other }}")
  fields = to_gguf.fields(directory, num_ids=300)
  assert fields["tokenizer.chat_template"] == "{{ other }}"


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"pre_tokenizer": {"type": "Whitespace"}}, "cuts text in a way that has no name"),
    ({"normalizer": {"type": "NFC"}}, "cuts text in a way that has no name"),
    ({"model": {"type": "Unigram", "vocab": []}}, "only byte-level BPE"),
  ],
)
def test_other_tokenizers_are_refused(directory, change, message):
  path = directory / "tokenizer.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  with pytest.raises(ConfigError, match=message):
    to_gguf.fields(directory, num_ids=300)


def test_a_model_without_a_tokenizer_is_refused(tmp_path):
  with pytest.raises(ConfigError, match=r"has no tokenizer\.json"):
    to_gguf.fields(tmp_path, num_ids=300)


@pytest.mark.parametrize(
  "content",
  [b"{", b"\xff", b"[1]", b"{}", b'{"model": 1}', b'{"model": {"type": "BPE"}}']
  + [b'{"model": {"type": "BPE", "vocab": {"a": []}, "merges": []}}', b"[" * 100_000],
)
def test_a_tokenizer_that_is_none_is_one_line(tmp_path, content):
  (tmp_path / "tokenizer.json").write_bytes(content)
  with pytest.raises(ConfigError, match=r"tokenizer\.json") as error:
    to_gguf.fields(tmp_path, num_ids=300)
  assert "\n" not in str(error.value)
