"""Makes the texts and the tokenizer of the language setting from your own files.

COMMAND:

  python -m experiments.prepare_language --retain=help/en-US --forget=help/ko \
      --forget_lines='[가-힣]' --output=data/libreoffice

Files are .txt, .jsonl, .parquet or .html. Lines that occurred before in the same
language are left out, and those that --retain_lines or --forget_lines do not match. The
output is what configs/language.py reads: retain.jsonl, forget.jsonl and tokenizer/, a
byte-level BPE trained on both.
"""

import json
import pathlib

from absl import flags

from experiments import launch
from undo_jax.data.documents import files as document_files
from undo_jax.data.documents import line_filter
from undo_jax.data.documents.source import Source, find
from undo_jax.data.tokenizers import training as tokenizer_training
from undo_jax.utils import files

_PATHS = {
  name: flags.DEFINE_list(name, None, f"Files, folders, globs of the text to {name}.")
  for name in ("retain", "forget")
}
_LINES = {
  name: flags.DEFINE_string(
    f"{name}_lines", None, f"Regex that a line of the text to {name} must match."
  )
  for name in ("retain", "forget")
}
_OUTPUT = flags.DEFINE_string("output", None, "Directory to make; must not exist.")
_VOCAB_SIZE = flags.DEFINE_integer("vocab_size", 2048, "Ids, special ones included.")
_MIN_CHARACTERS = flags.DEFINE_integer(
  "min_characters", 100, "Shorter documents are left out."
)
flags.mark_flags_as_required(["retain", "forget", "output"])


def main(argv: list[str]) -> None:
  """Writes the texts, trains the tokenizer and prints their sizes."""
  del argv
  output = pathlib.Path(str(_OUTPUT.value)).expanduser()
  with files.new_directory(output) as temporary:
    for name in _PATHS:
      print(_write(temporary / f"{name}.jsonl", name))
    trained = tokenizer_training.train(
      [str(temporary)],
      temporary / "tokenizer",
      kind="bpe",
      vocab_size=int(_VOCAB_SIZE.value or 0),
    )
  print(f"tokenizer: vocabulary {trained.vocab_size}")


def _write(path: pathlib.Path, name: str) -> str:
  """Writes the documents of one language; returns a line that says how many."""
  source = Source(paths=_PATHS[name].value or ())
  texts = (record.text for record in document_files.read(find(source.paths), source))
  count = size = 0
  with path.open("w", encoding="utf-8") as file:
    for text in line_filter.filtered(
      texts,
      keep=_LINES[name].value,
      min_characters=int(_MIN_CHARACTERS.value or 1),
    ):
      size += file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
      count += 1
  return f"{name}: {count} documents, {size / 1e6:.1f} million characters"


if __name__ == "__main__":
  launch.run(main)
