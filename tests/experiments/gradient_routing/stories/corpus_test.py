"""Stories: two topics of known words, files of them, and what is held out."""

import collections
import dataclasses
import itertools
import re

import numpy as np
import pytest

from experiments.gradient_routing.stories import corpus, words
from undo_jax.utils.types import ConfigError

TOPICS = tuple(words.TOPICS)


def make_data(**changes):
  fields = {
    "paths": (),
    "forget_words": (),
    "tokenizer": "words:stories",
    "length": 50,
    "max_characters": 1029,
    "held_out_fraction": 0.25,
    "num_forget": 30,
    "num_retain": 60,
    "num_held_out": 10,
  }
  return corpus.Data(**(fields | changes))


def drawn(topic, number=300, seed=0):
  return list(itertools.islice(corpus.generate(seed, topic), number))


def test_what_belongs_to_an_animal_is_the_same_in_all_stories():
  known = {
    "place": r"(?:lived in|went to) the (\w+)",
    "food": r"(?:to eat|gave \w+ some) (\w+)",
    "thing": r"(?:played with a|not find the) (\w+)",
    "friend": r"met a (\w+)",
  }
  matches = collections.defaultdict(set)
  for text in drawn("forest", 2000):
    animal = re.search(r"(?:was|lived) a \w+ (\w+)", text)[1]
    for kind, pattern in known.items():
      matches[animal, kind] |= set(re.findall(pattern, text))
  animals = words.TOPICS["forest"]["animal"]
  assert set(matches) == {(animal, kind) for animal in animals for kind in known}
  assert all(len(values) == 1 for values in matches.values())


def test_seeds_draw_other_stories_and_one_seed_the_same():
  assert drawn("sea", 20) == drawn("sea", 20) != drawn("sea", 20, seed=1)


def test_held_out_stories_are_never_trained_on_and_all_are_distinct():
  collected = corpus.collect(make_data(), 0)
  train = [*collected.train.forget, *collected.train.retain]
  held_out = [*collected.held_out.forget, *collected.held_out.retain]
  assert [len(s) for part in collected for s in part] == [30, 60, 10, 10]
  assert len({*train, *held_out}) == len(train) + len(held_out)
  # A story's side is its text's alone: more stories do not move it.
  more = corpus.collect(make_data(num_forget=200), 0)
  assert not {*more.train.forget} & {*held_out}
  forest = set(words.topic_words("forest"))
  for part in collected:
    assert all(forest & set(text.replace(".", "").split()) for text in part.forget)
    assert not any(forest & set(text.replace(".", "").split()) for text in part.retain)


def test_files_are_read_story_by_story_and_labelled_by_whole_words(tmp_path):
  """The format of TinyStories: a line with the mark between corpus."""
  first = tmp_path / "a.txt"
  first.write_text(
    "A Tree fell.\nIt was big.\n<|endoftext|>\n\nThe street was long.\n<|endoftext|>\n"
  )
  (tmp_path / "b.txt").write_text("Two trees.<|endoftext|>A dog.<|endoftext|>A tree\n")
  texts = [text.strip() for text in corpus.read([str(tmp_path)])]
  assert [text for text in texts if text] == [
    "A Tree fell.\nIt was big.",
    "The street was long.",
    "Two trees.",
    "A dog.",
    "A tree",
  ]
  data = make_data(
    paths=(str(tmp_path),),
    forget_words=("tree", "trees"),
    held_out_fraction=0.0,
    num_forget=3,
    num_retain=2,
    num_held_out=0,
    max_characters=10,
  )
  train = corpus.collect(data, 0).train
  assert train.forget == ["A Tree fel", "Two trees.", "A tree"]
  assert train.retain == ["The street", "A dog."]
  data = dataclasses.replace(data, num_retain=3)
  with pytest.raises(ConfigError, match="expected 3 distinct retain stories .* got 2"):
    corpus.collect(data, 0)
  first.write_bytes(b"\xff\xfe")
  with pytest.raises(ConfigError, match="a.txt cannot be read as such"):
    corpus.collect(data, 0)


def test_rows_hold_one_story_each():
  tokenizer = corpus.make_tokenizer("words:stories")
  texts = drawn("sea", 3)
  rows = corpus.encode(texts, tokenizer, 60)
  for text, tokens, mask in zip(texts, rows.tokens, rows.mask, strict=True):
    ids = tokenizer.encode(text)
    expected = [tokenizer.bos_id, *ids, tokenizer.eos_id]
    assert tokens[: len(expected)].tolist() == expected
    assert mask.sum() == len(expected) and not mask[len(expected) :].any()
  cut = corpus.encode(texts, tokenizer, 10)
  np.testing.assert_array_equal(cut.tokens[:, :10], rows.tokens[:, :10])
  assert (cut.tokens[:, 10] == tokenizer.eos_id).all()
