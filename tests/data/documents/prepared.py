"""Made-up documents, prepared, and what is read back of their rows."""

import json
import random

from undo_jax.data import rows
from undo_jax.data.documents import hashes as document_hashes
from undo_jax.data.documents import preparation
from undo_jax.data.tokenizers import BOS, EOS, ByteTokenizer

LENGTH = 16
WORDS = "the cat sat on 고양이 매트 위에 é 😀 12".split()


def make_texts(count, seed=0):
  rng = random.Random(seed)
  return [
    f"{n} " + " ".join(rng.choices(WORDS, k=rng.randint(0, 12))) for n in range(count)
  ]


def write_jsonl(path, values):
  lines = [json.dumps(v if isinstance(v, dict) else {"text": v}) for v in values]
  path.write_text("\n".join(lines))
  return str(path)


def prepare(directory, sources, **settings):
  defaults = {
    "tokenizer": "bytes",
    "length": LENGTH,
    "packing": "packed",
    "seed": 3,
    "num_workers": 1,
  }
  return preparation.prepare(directory, sources=sources, **(defaults | settings))


def stream_of(directory, split):
  """Return the tokens of a split, each once, and which of them are scored."""
  source = rows.source(directory, length=LENGTH, split=split)
  records = [source[index] for index in range(len(source))]
  first = records[0]
  tokens, mask = first["tokens"][:1].tolist(), first["mask"][:1].tolist()
  for record in records:
    tokens += record["tokens"][1:].tolist()
    mask += record["mask"][1:].tolist()
  while tokens[-1] == 0:  # Pads.
    tokens.pop(), mask.pop()
  return tokens, mask


def texts_of(directory, split):
  """Return the documents of a split, read back from its rows."""
  tokens, _ = stream_of(directory, split)
  decoded, tokenizer = [], ByteTokenizer()
  while tokens:
    end = tokens.index(EOS)
    assert tokens[0] == BOS
    decoded.append(tokenizer.decode(tokens[1:end]))
    tokens = tokens[end + 1 :]
  return decoded


def contents(directory):
  return {
    str(path.relative_to(directory)): path.read_bytes()
    for path in directory.rglob("*")
    if path.is_file()
  }


def is_held_out(text, fraction, seed=3):
  """splitmix64 of the hash and the seed, in Python's integers."""
  value = document_hashes.text_hash(text) + (seed + 1) * 0x9E3779B97F4A7C15
  value %= 2**64
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
  value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
  return value ^ (value >> 31) < fraction * 2**64
