"""Trains a tokenizer on your own text files.

COMMAND:

  python -m experiments.prepare --corpus='texts/*.jsonl' --kind=bpe \
      --vocab_size=8000 --output=tokenizer

Then train with --config.data.tokenizer=huggingface:tokenizer (sentencepiece:tokenizer
for --kind=sentencepiece) and a --config.model.vocab_size of at least 8000.
"""

import pathlib

from absl import flags

from experiments import launch
from undo_jax.data.tokenizers import training as tokenizer_training

_CORPUS = flags.DEFINE_list(
  "corpus",
  None,
  "Files, folders or quoted globs: .txt (a document a line), .jsonl, .parquet, .html.",
)
_KIND = flags.DEFINE_enum(
  "kind", "sentencepiece", tokenizer_training.KINDS, "What is trained."
)
_VOCAB_SIZE = flags.DEFINE_integer("vocab_size", 8000, "Ids, special ones included.")
_OUTPUT = flags.DEFINE_string("output", None, "Directory to make; must not exist.")
_TEXT_FIELD = flags.DEFINE_string("text_field", "text", "The field of a JSON line.")
flags.mark_flags_as_required(["corpus", "output"])


def main(argv: list[str]) -> None:
  """Trains the tokenizer and prints what it was trained on."""
  del argv
  output = pathlib.Path(str(_OUTPUT.value)).expanduser()
  trained = tokenizer_training.train(
    list(_CORPUS.value or ()),
    output,
    kind=str(_KIND.value),
    vocab_size=int(_VOCAB_SIZE.value or 0),
    text_field=str(_TEXT_FIELD.value),
  )
  print(
    f"{output}: {trained.documents} documents, {trained.num_bytes} bytes, "
    f"vocabulary {trained.vocab_size}"
  )


if __name__ == "__main__":
  launch.run(main)
