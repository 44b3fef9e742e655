"""What models append to prompts, against the most likely token chosen one by one."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from undo_jax import testing
from undo_jax.cli import generate as command
from undo_jax.data import tokenizers
from undo_jax.evaluation import continuations
from undo_jax.models import huggingface
from undo_jax.models.decoder import Decoder
from undo_jax.utils.types import ConfigError

CONFIG = testing.config(vocab_size=264)
PROMPTS = ("What is 3 + 4?", "It")
NUM = 5


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  """A directory of Hugging Face's without a tokenizer."""
  path = tmp_path_factory.mktemp("continuations") / "model"
  huggingface.save(path, CONFIG, testing.weights(CONFIG))
  return path


def texts(checkpoint, prompts=PROMPTS, **options):
  options = {"num_tokens": NUM, "tokenizer": "bytes"} | options
  return command.generate(str(checkpoint), prompts, **options)


def one_by_one(ids, num):
  """Append the most likely token of a whole forward pass, `num` times."""
  for _ in range(num):
    logits = Decoder(CONFIG).apply(testing.weights(CONFIG), jnp.asarray([ids])).logits
    ids = [*ids, int(np.argmax(logits[0, -1]))]
  return ids[-num:]


def test_each_prompt_goes_on_with_the_most_likely_tokens(checkpoint):
  encoder = tokenizers.make("bytes")
  for prompt, each in zip(PROMPTS, texts(checkpoint), strict=True):
    new = one_by_one([encoder.bos_id, *encoder.encode(prompt)], NUM)
    ended = new[: new.index(encoder.eos_id)] if encoder.eos_id in new else new
    assert (each.checkpoint, each.prompt) == (str(checkpoint), prompt)
    assert each.text == encoder.decode(ended)


def test_ids_of_the_generation_config_end_a_text(checkpoint, tmp_path):
  encoder = tokenizers.make("bytes")
  prompt = PROMPTS[0]
  new = one_by_one([encoder.bos_id, *encoder.encode(prompt)], NUM)
  other = tmp_path / "model"
  huggingface.save(other, CONFIG, testing.weights(CONFIG))
  ends = {"eos_token_id": [new[1], 5]}
  (other / "generation_config.json").write_text(json.dumps(ends))
  (each,) = texts(other, [prompt])
  assert each.text == encoder.decode(new[: new.index(new[1]) + 1])
  (other / "generation_config.json").write_text('{"eos_token_id": "x"}')
  with pytest.raises(ConfigError, match=r"generation_config.json: eos_token_id must"):
    texts(other, [prompt])


def test_draws_depend_on_the_seed_alone(checkpoint):
  drawn = [texts(checkpoint, temperature=2.0, seed=seed) for seed in (0, 0, 1)]
  assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
  "options, said",
  [
    ({"prompts": ("a", "")}, "at least one character"),
    ({"is_chat": True}, "the tokenizer bytes has no chat template"),
    ({"tokenizer": None}, "tokenizer.json"),
  ],
)
def test_what_cannot_be_asked_is_one_line(checkpoint, options, said):
  with pytest.raises(ConfigError, match=said) as error:
    texts(checkpoint, **options)
  assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
  ("generation", "settings", "expected"),
  [
    ({}, 5, (5,)),
    ({}, [5, 6], (5, 6)),
    ({"eos_token_id": [7]}, 5, (7,)),
    ({}, None, ()),
  ],
)
def test_the_ids_that_end_a_text_are_those_of_transformers(
  tmp_path, generation, settings, expected
):
  ids = continuations.eos_ids(generation, {"eos_token_id": settings}, tmp_path)
  assert ids == expected


@pytest.mark.parametrize("wrong", ["x", 1.5, True, -1, [1, "a"], {"a": 1}, 2**31])
def test_what_is_no_id_that_ends_a_text_is_named(tmp_path, wrong):
  ids = {"eos_token_id": wrong}
  with pytest.raises(ConfigError, match=f"^{tmp_path}/config.json: eos_token_id must"):
    continuations.eos_ids({}, ids, tmp_path)
  with pytest.raises(ConfigError, match=f"^{tmp_path}/generation_config.json: eos_"):
    continuations.eos_ids(ids, {"eos_token_id": 1}, tmp_path)


def test_the_table_has_a_line_for_each_model():
  made = [
    command.Continuation(name, prompt, "a\nb")
    for name in ("x", "longer")
    for prompt in ("p", "q")
  ]
  assert command.table(made).splitlines() == [
    "'p'",
    "  x       'a\\nb'",
    "  longer  'a\\nb'",
    "'q'",
    "  x       'a\\nb'",
    "  longer  'a\\nb'",
  ]
