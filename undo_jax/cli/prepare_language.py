r"""Make the texts and the tokenizer of the task `language` from your own files.

COMMAND:

  undo-jax prepare_language --retain=help/en-US --forget=help/ko \
      --forget_lines='[가-힣]' --output=data/libreoffice

Files are .txt, .jsonl, .parquet, .html, .py, .md or .rst. Lines that repeat an earlier
line of the same language are left out, and so are lines that --retain_lines or
--forget_lines does not match. The output is what configs/language.py reads:
retain.jsonl, forget.jsonl and
tokenizer/, a byte-level BPE trained on both.
"""

from collections.abc import Sequence
import json
import pathlib

from absl import flags

from undo_jax.cli.process import Main
from undo_jax.data.documents import files as document_files
from undo_jax.data.documents import line_filter
from undo_jax.data.documents.source import Source, find
from undo_jax.data.tokenizers import training as tokenizer_training
from undo_jax.utils import files


def define() -> Main:
  """Define the flags; the main writes texts and tokenizer and prints their sizes."""
  paths, lines = {}, {}
  for name in ("retain", "forget"):
    paths[name] = flags.DEFINE_list(
      name, None, f"Files, folders, globs of the text to {name}.", required=True
    )
    lines[name] = flags.DEFINE_string(
      f"{name}_lines", None, f"Regex that a line of the text to {name} must match."
    )
  output = flags.DEFINE_string(
    "output", None, "Directory to make; must not exist.", required=True
  )
  size = flags.DEFINE_integer("vocab_size", 2048, "Number of ids, with special ones.")
  min_characters = flags.DEFINE_integer(
    "min_characters", 100, "Shorter documents are left out."
  )

  def main(argv: list[str]) -> None:
    del argv
    shortest = int(min_characters.value or 1)
    with files.new_directory(pathlib.Path(str(output.value)).expanduser()) as temporary:
      for name, path in paths.items():
        made = temporary / f"{name}.jsonl"
        count = _write(made, path.value or (), lines[name].value, shortest)
        print(f"{name}: {count}")
      trained = tokenizer_training.train(
        [str(temporary)],
        temporary / "tokenizer",
        kind="bpe",
        vocab_size=int(size.value or 0),
      )
    print(f"tokenizer: vocabulary {trained.vocab_size}")

  return main


def _write(
  path: pathlib.Path, corpus: Sequence[str], keep: str | None, min_characters: int
) -> str:
  """Write the documents of one language; return how many, in words."""
  source = Source(paths=corpus)
  texts = (record.text for record in document_files.read(find(source.paths), source))
  count = size = 0
  with path.open("w", encoding="utf-8") as file:
    for text in line_filter.filtered(texts, keep=keep, min_characters=min_characters):
      size += file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
      count += 1
  return f"{count} documents, {size / 1e6:.1f} million characters"
