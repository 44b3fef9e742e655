"""Batches of stories: their composition and their epochs."""

import numpy as np

from configs.gradient_routing import stories as config_file
from experiments.gradient_routing.stories import batches, corpus, words
from experiments.gradient_routing.stories.config import Train
from experiments.shared import typed


def test_batches_have_the_topics_rows_first_and_every_epoch_all_stories():
  config = config_file.get_config("tiny")
  config.data.update(num_forget=8, num_retain=12, num_held_out=3)
  config.train.update(forget_rows=2, retain_rows=3, num_steps=8)
  block = typed.read(corpus.Data, config.data)
  data = batches.load(block, typed.read(Train, config.train), 5)
  tokenizer = corpus.make_tokenizer(block.tokenizer)
  own = {tokenizer.encode(f" {word}")[0] for word in words.topic_words("forest")}
  targets = data.batches["targets"]
  assert targets.shape == (8, 5, block.length)
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
