"""Batches of stories: their composition, their epochs, and wrong configs."""

import numpy as np
import pytest

from configs import routing_stories
from undo_jax.data import stories_words as words
from undo_jax.data import tokenizers
from undo_jax.studies import story_batches
from undo_jax.utils.types import ConfigError


def test_batches_have_the_topics_rows_first_and_every_epoch_all_stories():
  config = routing_stories.get_config("tiny")
  config.data.update(num_forget=8, num_retain=12, num_held_out=3)
  config.train.update(forget_rows=2, retain_rows=3, num_steps=8)
  data = story_batches.load(config, 5)
  tokenizer = tokenizers.make(config.data.tokenizer)
  own = {tokenizer.encode(f" {word}")[0] for word in words.topic_words("forest")}
  targets = data.batches["targets"]
  assert targets.shape == (8, 5, config.data.length)
  has_topic = np.isin(targets, list(own)).any(axis=-1)
  assert has_topic[:, :2].all() and not has_topic[:, 2:].any()
  story = data.batches["story"]
  for epoch in np.split(story[:, :2].reshape(-1), 2):
    assert sorted(epoch) == list(range(8))
  for epoch in np.split(story[:, 2:].reshape(-1), 2):
    assert sorted(epoch) == list(range(12))
  row = data.train["retain"].tokens[story[6, 4]]
  np.testing.assert_array_equal(data.batches["inputs"][6, 4], row[:-1])
  np.testing.assert_array_equal(targets[6, 4], row[1:])
  held_out = {
    rows.tokens[i].tobytes() for rows in data.held_out.values() for i in (0, 1)
  }
  train = {tokens.tobytes() for rows in data.train.values() for tokens in rows.tokens}
  assert not held_out & train


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("seeds", (), "config.seeds: expected at least one integer"),
    ("data.num_forget", 0, "config.data.num_forget: expected an integer"),
    ("data.held_out_fraction", 1.5, "config.data.held_out_fraction: expected a number"),
    ("data.paths", ("a.txt",), "config.data.forget_words: expected the topic's words"),
    ("train.forget_rows", 0, "config.train.forget_rows"),
    ("train.warmup_steps", 99, "warmup_steps in"),
    ("model.vocab_size", 99, "config.model.vocab_size: expected at least 276"),
  ],
)
def test_a_wrong_field_is_named(field, value, message):
  config = routing_stories.get_config("tiny")
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ConfigError, match=message):
    story_batches.check(config)


def test_files_that_are_missing_are_named():
  config = routing_stories.get_config("tiny")
  config.data.update(paths=("missing/*.txt",), forget_words=("tree",))
  with pytest.raises(ConfigError, match=r"data.paths: .*none matches 'missing/\*.txt'"):
    story_batches.check(config)
