"""Documents divided into splits and cut to limits."""

from tests.data.documents.prepared import (
  is_held_out,
  make_texts,
  prepare,
  stream_of,
  texts_of,
  write_jsonl,
)
from undo_jax.data.documents import preparation
from undo_jax.data.tokenizers import BOS, EOS


def test_answers_are_scored_and_questions_are_read(tmp_path):
  pairs = [{"q": f"질문 {n}?", "a": f"it is {n}"} for n in range(20)]
  source = preparation.Source(
    paths=[write_jsonl(tmp_path / "a.jsonl", pairs)],
    question_field="q",
    answer_field="a",
    validation_fraction=0.0,
  )
  summary = prepare(tmp_path / "out", {"pairs": source})["sources"]["pairs"]
  tokens, mask = stream_of(tmp_path / "out", "pairs_train")
  expected_tokens, expected_mask = [], []
  for pair in pairs:
    question, answer = f"{pair['q']}\nAnswer: ".encode(), pair["a"].encode()
    expected_tokens += [BOS, *(b + 3 for b in question + answer), EOS]
    expected_mask += [0] * (1 + len(question)) + [1] * (len(answer) + 1)
  assert tokens == expected_tokens
  assert mask == expected_mask
  assert summary["scored_tokens"] == {"train": sum(expected_mask)}
  assert list(summary["rows"]) == ["train"]


def test_limits_on_tokens_are_met_exactly_and_no_text_is_on_both_sides(tmp_path):
  texts = make_texts(300) * 2  # Each text again, once validation is full.
  source = preparation.Source(
    paths=[write_jsonl(tmp_path / "a.jsonl", texts)],
    validation_fraction=0.3,
    validation_tokens=500,
    max_tokens=12_345,
  )
  summary = prepare(tmp_path / "out", {"a": source})["sources"]["a"]
  assert summary["tokens"] == {"train": 12_345, "validation": 500}
  validation = [text for text in texts if is_held_out(text, 0.3)]
  assert (
    texts_of(tmp_path / "out", "a_validation")[:-1]
    == validation[: summary["documents"]["validation"] - 1]
  )
  held_out = set(validation[: summary["documents"]["validation"]])
  train = texts_of(tmp_path / "out", "a_train")
  assert not held_out & set(train)
  # The others of validation's share came to train when it was full.
  assert set(validation) & set(train)
  assert summary["held_out"] > 0
  hashes = [
    preparation.content_hashes(tmp_path / "out", f"a_{split}")
    for split in ("train", "validation")
  ]
  assert preparation.overlap(*hashes).count == 0


def test_limits_on_documents_and_their_length(tmp_path):
  texts = ["short", "a document of 29 characters..", "x" * 30, "y" * 31, "end", "more"]
  source = preparation.Source(
    paths=[write_jsonl(tmp_path / "a.jsonl", texts)],
    validation_fraction=0.0,
    max_document_tokens=30,
    max_documents=4,
  )
  summary = prepare(tmp_path / "out", {"a": source})["sources"]["a"]
  assert texts_of(tmp_path / "out", "a_train") == [*texts[:3], "end"]
  assert (summary["too_long"], summary["documents"]) == (1, {"train": 4})
