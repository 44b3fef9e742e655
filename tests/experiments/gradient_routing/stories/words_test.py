"""Words of the topics, against the stories that are made of them."""

import collections
import itertools
import re

from experiments.gradient_routing.stories import corpus, words

TOPICS = tuple(words.TOPICS)


def drawn(topic, number=300):
  return list(itertools.islice(corpus.generate(0, topic), number))


def test_topics_share_all_but_their_words():
  """Word by word against the lists: no word of a topic is in a story of the other."""
  words_of = {
    topic: collections.Counter(
      word.strip(".,").lower() for text in drawn(topic) for word in text.split()
    )
    for topic in TOPICS
  }
  own = {topic: set(words.topic_words(topic)) for topic in TOPICS}
  for topic, other in (TOPICS, TOPICS[::-1]):
    assert own[topic] <= set(words_of[topic])
    assert not own[topic] & set(words_of[other])
  shared = [set(words_of[topic]) - own[topic] for topic in TOPICS]
  assert shared[0] == shared[1]
  for topic in TOPICS:
    assert all(own[topic] & set(re.findall(r"\w+", text)) for text in drawn(topic))


def test_every_word_is_a_token():
  tokenizer = corpus.make_tokenizer("words:stories")
  for topic in TOPICS:
    for text in drawn(topic):
      ids = tokenizer.encode(text)
      assert tokenizer.decode(ids) == text
      assert len(ids) == len(text.split()) + text.count(".")


def test_a_tokenizer_of_another_name_is_the_librarys():
  assert corpus.make_tokenizer("bytes").encode("a") == [ord("a") + 3]
