"""Short stories with and without a topic: made up, or from files like TinyStories'.

A story is about the topic (forget) if it has one of the topic's words; all others are
retain. Which stories are held out depends on their text, so no story is both trained on
and evaluated.
"""

from collections.abc import Iterable, Iterator, Sequence
import dataclasses
import itertools
import re
from typing import NamedTuple

import numpy as np

from experiments.gradient_routing.stories import words
from undo_jax.data import packing, rows, tokenizers
from undo_jax.data.documents import hashes as document_hashes
from undo_jax.data.documents import source as document_source
from undo_jax.data.tokenizers import Tokenizer
from undo_jax.utils.types import ConfigError

# The mark between the stories of a file.
MARK = "<|endoftext|>"
# The most made-up stories that are drawn for each one that is needed.
_DRAWS = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
  """A config's block `data`."""

  paths: tuple[str, ...]  # (): made-up stories, half about forest, half about sea.
  forget_words: tuple[str, ...]  # The topic's words in the files.
  tokenizer: str
  length: int
  max_characters: int  # Of a story, from its beginning.
  held_out_fraction: float
  num_forget: int  # To train on.
  num_retain: int  # To train on.
  num_held_out: int  # Of each kind.


class Stories(NamedTuple):
  """Texts, in the order of their source."""

  forget: list[str]
  retain: list[str]


class Corpus(NamedTuple):
  """Distinct stories: what may be trained on, and what is held out."""

  train: Stories
  held_out: Stories


def make_tokenizer(name: str) -> Tokenizer:
  """Return words:stories, for made-up stories, or a tokenizer of data.tokenizers."""
  if name == "words:stories":
    return tokenizers.WordTokenizer(words.vocabulary())
  return tokenizers.make(name)


def generate(seed: int, topic: str) -> Iterator[str]:
  """Draw stories of a topic without end.

  A story has an opening, three different sentences in any order and an ending. They
  are all about one animal, with the relations of words.related.

  Args:
    seed: a non-negative integer.
    topic: one of words.TOPICS.
  """
  rng = np.random.default_rng([seed, *f"stories {topic}".encode()])

  def draw(choices):
    return choices[int(rng.integers(len(choices)))]

  while True:
    fill = words.related(topic, int(rng.integers(len(words.TOPICS[topic]["animal"]))))
    fill |= {slot: draw(choices) for slot, choices in words.SHARED.items()}
    fill["other"] = draw([n for n in words.SHARED["name"] if n != fill["name"]])
    middles = rng.choice(len(words.MIDDLES), size=3, replace=False)
    sentences = [draw(words.OPENINGS)]
    sentences += [words.MIDDLES[i] for i in middles]
    sentences.append(draw(words.ENDINGS))
    yield " ".join(sentence.format(**fill) for sentence in sentences)


def read(paths: Sequence[str]) -> Iterator[str]:
  """Yield the stories of text files, where the mark <|endoftext|> separates them.

  Args:
    paths: .txt files, folders and globs.

  Raises:
    ConfigError: if there is no such file, or if one is not UTF-8 text.
  """
  for path in document_source.find(paths):
    text: list[str] = []
    try:
      with open(path, encoding="utf-8") as file:
        for line in file:
          before, *others = line.split(MARK)
          text.append(before)
          for other in others:
            yield "".join(text)
            text = [other]
    except (OSError, UnicodeDecodeError) as error:
      raise ConfigError(
        f"data.paths: expected text in UTF-8, but {path} cannot be read as such "
        f"({error}); convert it or narrow the paths"
      ) from None
    yield "".join(text)


def topic_pattern(topic_words: Iterable[str]) -> re.Pattern[str]:
  """Return a pattern that finds one of the words, whole and in any case, in a text."""
  options = "|".join(re.escape(word) for word in topic_words)
  return re.compile(rf"\b({options})\b", re.IGNORECASE)


def collect(data: Data, seed: int) -> Corpus:
  """Return the stories of a config.

  Args:
    data: the kind and number of stories.
    seed: for made-up stories and for what is held out.

  Raises:
    ConfigError: if there are too few stories; names what is missing.
  """
  numbers = {
    ("train", "forget"): data.num_forget,
    ("train", "retain"): data.num_retain,
    ("held_out", "forget"): data.num_held_out,
    ("held_out", "retain"): data.num_held_out,
  }
  kept: dict[tuple[str, str], list[str]] = {key: [] for key in numbers}
  texts = read(data.paths) if data.paths else _made_up(seed, sum(numbers.values()))
  for split, topic, text in _distinct(data, seed, texts):
    if len(kept[split, topic]) < numbers[split, topic]:
      kept[split, topic].append(text)
      if all(len(kept[key]) == number for key, number in numbers.items()):
        break
  for (split, topic), number in numbers.items():
    if len(kept[split, topic]) < number:
      raise ConfigError(
        f"config.data: expected {number} distinct {topic} stories to "
        f"{'train on' if split == 'train' else 'hold out'}, got "
        f"{len(kept[split, topic])}; give more files, or lower the number of stories "
        "in the config"
      )
  return Corpus(
    *(Stories(kept[split, "forget"], kept[split, "retain"]) for split in Corpus._fields)
  )


def _distinct(
  data: Data, seed: int, texts: Iterable[str]
) -> Iterator[tuple[str, str, str]]:
  """Yield (split, topic, story) of each distinct text that is not empty."""
  pattern = topic_pattern(data.forget_words or words.topic_words("forest"))
  seen = set()
  for text in texts:
    text = text.strip()[: data.max_characters]
    digest = document_hashes.text_hash(text)
    if not text or digest in seen:
      continue
    seen.add(digest)
    split = document_hashes.held_out(
      np.array([digest], np.uint64),
      validation=data.held_out_fraction,
      test=0.0,
      seed=seed,
    )[0]
    topic = "forget" if pattern.search(text) else "retain"
    yield "held_out" if split else "train", topic, text


def _made_up(seed: int, number: int) -> Iterator[str]:
  pairs = zip(generate(seed, "forest"), generate(seed, "sea"), strict=True)
  return itertools.islice(itertools.chain.from_iterable(pairs), _DRAWS * number)


def encode(texts: Sequence[str], tokenizer: Tokenizer, length: int) -> rows.InMemory:
  """Return one row of L + 1 tokens a story, cut to fit with its BOS and EOS.

  Args:
    texts: the stories.
    tokenizer: it adds its special ids.
    length: L.
  """
  documents = (tokenizer.encode(text)[: length - 1] for text in texts)
  packed = packing.rows(documents, length, mode="one_per_row", tokenizer=tokenizer)
  return rows.InMemory([{"tokens": tokens, "mask": mask} for tokens, mask in packed])
