"""Rows hold every token once, reference rows the paper's, batches shift by one."""

import numpy as np
import pytest

from undo_jax.data import packing
from undo_jax.data.tokenizers import BOS, EOS, PAD, ByteTokenizer

TOKENIZER = ByteTokenizer()
DOCUMENTS = [[11, 12, 13], list(range(21, 27)), [31], list(range(41, 51)), [51, 52]]


def pack(documents, length, mode):
  return list(packing.rows(documents, length, mode=mode, tokenizer=TOKENIZER))


def tokens_of(documents, length, mode):
  return [tokens.tolist() for tokens, _ in pack(documents, length, mode)]


def test_reference_rule_on_the_papers_example():
  assert tokens_of(DOCUMENTS, 7, "reference") == [
    [11, 12, 13, 2, 21, 22, 23, 24],
    [31, 2, 41, 42, 43, 44, 45, 46],
  ]


def test_reference_rule_drops_tails_and_the_bos_of_a_full_row():
  rows = tokens_of([[1] * 8, [3] * 7, [4] * 20], 7, "reference")
  assert rows == [[1] * 8, [3] * 7 + [2], [4] * 8]


def test_reference_mode_returns_rows_of_one_more_token():
  tokens, mask = pack(DOCUMENTS, 7, "reference")[0]
  assert tokens.tolist() == [11, 12, 13, 2, 21, 22, 23, 24]
  assert mask.tolist() == [1] * 8


@pytest.mark.parametrize("length", [3, 4, 7, 8, 50])
def test_packed_rows_predict_every_token_once(length):
  stream = [t for document in DOCUMENTS for t in (BOS, *document, EOS)]
  targets = []
  for tokens, mask in pack(DOCUMENTS, length, "packed"):
    assert tokens.shape == mask.shape == (length + 1,)
    targets += tokens[1:][mask[1:] == 1].tolist()
  assert targets == stream[1:]


def random_documents(rng, count):
  """Document of 0 to 30 tokens with masks; a quarter of them without."""
  documents = []
  for _ in range(count):
    ids = rng.integers(3, 99, rng.integers(0, 31)).tolist()
    mask = rng.integers(0, 2, len(ids)).tolist()
    documents.append(ids if rng.random() < 0.25 else packing.Masked(ids, mask))
  return documents


def ids_and_mask(document):
  if isinstance(document, packing.Masked):
    return list(document.ids), list(document.mask)
  return document, [1] * len(document)


@pytest.mark.parametrize("length", [1, 2, 7, 40])
def test_packed_masks_by_brute_force(length):
  documents = random_documents(np.random.default_rng(length), 60)
  stream, scored = [], []
  for ids, mask in map(ids_and_mask, documents):
    stream += [BOS, *ids, EOS]
    scored += [(mask or [1])[0], *mask, (mask or [1])[-1]]
  rows = pack(documents, length, "packed")
  for number, (tokens, mask) in enumerate(rows):
    begin = number * length
    whole = stream[begin : begin + length + 1]
    padding = [PAD] * (length + 1 - len(whole))
    assert tokens.tolist() == whole + padding
    assert mask.tolist() == scored[begin : begin + length + 1] + [0] * len(padding)
  assert len(rows) == -(-(len(stream) - 1) // length)


@pytest.mark.parametrize("length", [1, 2, 7, 40])
def test_reference_masks_by_brute_force(length):
  documents = random_documents(np.random.default_rng(length), 60)
  expected, row, scored = [], [], []
  for ids, mask in map(ids_and_mask, documents):
    room = length + 1 - len(row)
    row += ids[:room] + [BOS]
    scored += mask[:room] + [(mask[:room] or [1])[-1]]
    if len(row) > length:
      expected.append((row[: length + 1], scored[: length + 1]))
      row, scored = [], []
  rows = pack(documents, length, "reference")
  assert [(t.tolist(), m.tolist()) for t, m in rows] == expected


def test_one_per_row_keeps_masks():
  ((tokens, mask),) = pack([packing.Masked([5, 6, 7], [0, 0, 1])], 6, "one_per_row")
  assert tokens.tolist() == [BOS, 5, 6, 7, EOS, PAD, PAD]
  assert mask.tolist() == [0, 0, 0, 1, 1, 0, 0]


def test_one_per_row_pads_and_masks():
  ((tokens, mask),) = pack([[5, 6]], 6, "one_per_row")
  assert tokens.tolist() == [BOS, 5, 6, EOS, PAD, PAD, PAD]
  assert mask.tolist() == [1, 1, 1, 1, 0, 0, 0]


def test_one_per_row_refuses_a_document_longer_than_a_row():
  assert len(pack([[5] * 5], 6, "one_per_row")) == 1
  with pytest.raises(ValueError, match="does not fit a row of 6"):
    pack([[5] * 6], 6, "one_per_row")


def test_unknown_mode_names_the_known():
  with pytest.raises(ValueError, match="one_per_row, packed, reference"):
    packing.rows(DOCUMENTS, 8, mode="sliding", tokenizer=TOKENIZER)


class Delimiters(ByteTokenizer):
  """Special ids that are unlike each other and unlike the constants."""

  def __init__(self, bos_id):
    self.pad_id, self.eos_id, self.bos_id = 90, 91, bos_id


@pytest.mark.parametrize(
  "mode, with_bos, without_bos",
  [
    (
      "one_per_row",
      [[92, 5, 6, 91, 90], [92, 7, 91, 90, 90]],
      [[5, 6, 91, 90, 90], [7, 91, 90, 90, 90]],
    ),
    ("packed", [[92, 5, 6, 91, 92], [92, 7, 91, 90, 90]], [[5, 6, 91, 7, 91]]),
    ("reference", [[5, 6, 92, 7, 92]], [[5, 6, 91, 7, 91]]),
  ],
)
def test_special_ids_are_the_tokenizers(mode, with_bos, without_bos):
  for bos_id, expected in ((92, with_bos), (None, without_bos)):
    tokenizer = Delimiters(bos_id)
    rows = list(packing.rows([[5, 6], [7]], 4, mode=mode, tokenizer=tokenizer))
    assert [tokens.tolist() for tokens, _ in rows] == expected
    for tokens, mask in rows:
      assert mask.tolist() == (tokens != 90).astype(int).tolist()


def test_batch_shifts_once():
  tokens = np.array([[BOS, 5, 6, EOS, PAD]], np.int32)
  batch = packing.to_batch({"tokens": tokens, "mask": np.array([[1, 1, 1, 1, 0]])})
  assert batch["inputs"].tolist() == [[BOS, 5, 6, EOS]]
  assert batch["targets"].tolist() == [[5, 6, EOS, PAD]]
  assert batch["mask"].tolist() == [[1, 1, 1, 0]]
  assert batch["mask"].dtype == np.float32
