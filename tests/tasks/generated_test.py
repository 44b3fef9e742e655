"""Splits of documents that a task makes itself: packed once, and read."""

from undo_jax.data import tokenizers
from undo_jax.tasks import generated

DATA = {"sequence_length": 12, "packing": "one_per_row", "tokenizer": "bytes"}
DOCUMENTS = {"retain": ["one", "two"], "forget": ["three"]}


def pack(directory, documents):
  encode = tokenizers.make("bytes").encode
  return generated.pack(
    DATA, directory, "test", tuple(documents), read=documents.get, encode=encode
  )


def test_documents_become_the_rows_of_their_split_and_what_is_there_stays(tmp_path):
  counts = {"retain": 2, "forget": 1}
  assert pack(tmp_path, DOCUMENTS) == counts
  other = {"retain": ["nothing"], "forget": ["like", "it"]}
  assert pack(tmp_path, other) == counts
  decode = tokenizers.make("bytes").decode
  for split, documents in DOCUMENTS.items():
    rows = generated.source(DATA, tmp_path, split)
    assert [decode(rows[i]["tokens"]) for i in range(len(rows))] == documents
    assert rows[0]["tokens"].shape == (13,)
