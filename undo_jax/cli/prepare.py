r"""Train a tokenizer on your own text files.

COMMAND:

  undo-jax prepare --corpus='texts/*.jsonl' --kind=bpe \
      --vocab_size=8000 --output=tokenizer

Then train with --config.data.tokenizer=huggingface:tokenizer (sentencepiece:tokenizer
for --kind=sentencepiece) and a --config.model.vocab_size of at least 8000.
"""

import pathlib

from absl import flags

from undo_jax.cli.process import Main
from undo_jax.data.tokenizers import training as tokenizer_training


def define() -> Main:
  """Define the flags; the main trains and prints what it was trained on."""
  corpus = flags.DEFINE_list(
    "corpus",
    None,
    "Files, folders or quoted globs: .txt (a line each), .jsonl, .parquet, .html.",
    required=True,
  )
  kind = flags.DEFINE_enum(
    "kind", "sentencepiece", tokenizer_training.KINDS, "Kind of tokenizer."
  )
  size = flags.DEFINE_integer("vocab_size", 8000, "Number of ids, with special ones.")
  output = flags.DEFINE_string(
    "output", None, "Directory to make; must not exist.", required=True
  )
  text_field = flags.DEFINE_string("text_field", "text", "The field of a JSON line.")

  def main(argv: list[str]) -> None:
    del argv
    directory = pathlib.Path(str(output.value)).expanduser()
    trained = tokenizer_training.train(
      list(corpus.value or ()),
      directory,
      kind=str(kind.value),
      vocab_size=int(size.value or 0),
      text_field=str(text_field.value),
    )
    print(
      f"{directory}: {trained.documents} documents, {trained.num_bytes} bytes, "
      f"vocabulary {trained.vocab_size}"
    )

  return main
