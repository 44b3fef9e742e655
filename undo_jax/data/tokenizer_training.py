"""Trains a tokenizer on the user's own text: SentencePiece or byte-level BPE.

A corpus is .txt files, each line of which is a document, and .jsonl files, each line
of which is a JSON object with the document in one field; empty lines are no documents.
Files are read line by line. The same files give the same bytes, with the same versions
of the libraries: they are read in the order of their paths, no line is drawn at random
and all of them count.

The special ids are Gemma's, pad 0, eos 1, bos 2; digits stand alone; every byte can be
written, so that any text is given back as it was (but for U+2581 in SentencePiece,
its sign for a space).
"""

from collections.abc import Iterator, Sequence
import glob
import io
import json
import logging
import pathlib
import re
from typing import NamedTuple

import sentencepiece
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from undo_jax import files
from undo_jax.types import ConfigError

LOGGER = logging.getLogger("undo_jax")
KINDS = ("sentencepiece", "bpe")
SPECIAL = {"pad": "<pad>", "eos": "<eos>", "bos": "<bos>"}  # Ids 0, 1, 2.
SMALLEST = {"sentencepiece": 4 + 256, "bpe": 3 + 256}  # Special tokens and bytes.
# The result depends on how many parts sums are made of, but not on the machine.
_NUM_THREADS = 16


class Trained(NamedTuple):
  """What a tokenizer was trained on, and its size."""

  documents: int
  num_bytes: int  # Of the documents' text in UTF-8.
  vocab_size: int


def train(
  patterns: Sequence[str],
  output: pathlib.Path,
  *,
  kind: str,
  vocab_size: int,
  text_field: str = "text",
) -> Trained:
  """Trains a tokenizer and writes its directory, whole or not at all.

  Args:
    patterns: paths or globs (** for any depth) of .txt and .jsonl files.
    output: the directory to make: tokenizer.model for sentencepiece (a unigram model,
      which keeps the lines in memory), tokenizer.json and tokenizer_config.json for
      bpe.
    kind: one of `KINDS`.
    vocab_size: the number of ids, special ones included.
    text_field: the field of a JSON line that holds the document.

  Returns:
    The counts of documents, bytes and ids.

  Raises:
    ConfigError: if an argument, a file or a line is not as expected, or the corpus is
      too small for the vocabulary.
  """
  if kind not in KINDS:
    raise ConfigError(f"--kind: expected one of {', '.join(KINDS)}, got {kind!r}")
  if vocab_size < SMALLEST[kind]:
    raise ConfigError(
      f"--vocab_size: expected at least {SMALLEST[kind]} (the special tokens and a "
      f"token for each byte), got {vocab_size}; raise it"
    )
  corpus = Corpus(find(patterns), text_field=text_field)
  LOGGER.info("training %s on %d files", kind, len(corpus.files))
  with files.new_directory(output) as directory:
    write = _write_sentencepiece if kind == "sentencepiece" else _write_bpe
    write(corpus, directory, vocab_size)
  return Trained(corpus.num_documents, corpus.num_bytes, vocab_size)


def find(patterns: Sequence[str]) -> list[pathlib.Path]:
  """Returns the files of a corpus, each once, in the order of their paths.

  Args:
    patterns: paths or globs (** for any depth).

  Raises:
    ConfigError: if a pattern matches no file, or a file is neither .txt nor .jsonl.
  """
  found: set[pathlib.Path] = set()
  for pattern in patterns:
    names = glob.glob(str(pathlib.Path(pattern).expanduser()), recursive=True)
    matching = {path for path in map(pathlib.Path, names) if path.is_file()}
    if not matching:
      raise ConfigError(
        f"--corpus: expected files, but none matches {pattern!r}; give a path or a "
        "quoted glob of .txt or .jsonl files"
      )
    found |= matching
  for path in sorted(found):
    if path.suffix not in (".txt", ".jsonl"):
      raise ConfigError(
        f"--corpus: expected .txt or .jsonl files, got {path}; convert it or narrow "
        "the glob"
      )
  return sorted(found)


class Corpus:
  """The documents of files, and counts of those that have been read."""

  def __init__(self, paths: Sequence[pathlib.Path], *, text_field: str):
    self.files = list(paths)
    self.num_documents = 0
    self.num_bytes = 0
    self.error: ConfigError | None = None
    self._text_field = text_field

  def __iter__(self) -> Iterator[str]:
    """Yields the documents; an error is kept too, for readers that hide it."""
    try:
      for path in self.files:
        with open(path, "rb") as lines:
          for number, line in enumerate(lines, start=1):
            text = self._document(line, path, number)
            if text:
              yield text
    except OSError as error:
      self.error = ConfigError(
        f"--corpus: expected files that can be read, got {error.filename} "
        f"({error.strerror}); mend its permissions"
      )
      raise self.error from None
    except ConfigError as error:
      self.error = error
      raise

  def _document(self, line: bytes, path: pathlib.Path, number: int) -> str:
    """Returns the document of a line, counted; an empty one is not."""
    try:
      text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
      raise ConfigError(
        f"--corpus: expected UTF-8, but {path}, line {number}, has the byte "
        f"0x{error.object[error.start]:02x} at position {error.start} ({error.reason});"
        " convert the file to UTF-8"
      ) from None
    if path.suffix == ".jsonl" and text.strip():
      text = self._field(text, path, number)
    try:
      size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
      raise ConfigError(
        f"--corpus: expected text, but {path}, line {number}, has half of a surrogate "
        "pair (\\ud800 to \\udfff); remove it"
      ) from None
    if text.strip():
      self.num_documents += 1
      self.num_bytes += size
      return text
    return ""

  def _field(self, line: str, path: pathlib.Path, number: int) -> str:
    """Returns the text of a line of JSON."""
    expected = f"a JSON object with text in {self._text_field!r}"
    try:
      value = json.loads(line)
    except ValueError as error:
      raise ConfigError(
        f"--corpus: expected {expected} in {path}, line {number}, got no JSON ({error})"
        "; mend the line"
      ) from None
    if isinstance(value, dict) and isinstance(value.get(self._text_field), str):
      return value[self._text_field]
    got = f"the fields {list(value)}" if isinstance(value, dict) else "no object"
    if isinstance(value, dict) and self._text_field in value:
      got = f"{type(value[self._text_field]).__name__} there"
    raise ConfigError(
      f"--corpus: expected {expected} in {path}, line {number}, got {got}; name the "
      "field by --text_field or mend the line"
    )


def _write_sentencepiece(corpus: Corpus, directory: pathlib.Path, vocab_size: int):
  """Writes tokenizer.model, a unigram model that gives any text back."""
  model = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.Train(
      sentence_iterator=_lines(corpus),
      model_writer=model,
      model_type="unigram",
      vocab_size=vocab_size,
      pad_id=0,
      eos_id=1,
      bos_id=2,
      unk_id=3,
      pad_piece=SPECIAL["pad"],
      eos_piece=SPECIAL["eos"],
      bos_piece=SPECIAL["bos"],
      byte_fallback=True,
      split_digits=True,
      normalization_rule_name="identity",
      add_dummy_prefix=False,
      remove_extra_whitespaces=False,
      allow_whitespace_only_pieces=True,
      max_sentence_length=2**30,  # Bytes; longer lines would be left out.
      input_sentence_size=0,  # All of them.
      shuffle_input_sentence=False,
      num_threads=_NUM_THREADS,
      minloglevel=2,  # Errors only.
    )
  except (RuntimeError, ConfigError) as error:
    _check_read(corpus)
    raise _untrainable(str(error), vocab_size) from None
  _check_read(corpus)
  (directory / "tokenizer.model").write_bytes(model.getvalue())


def _lines(corpus: Corpus) -> Iterator[str]:
  """Yields the documents without characters that make the library skip a line."""
  for document in corpus:
    yield from (part for part in re.split("[\n\0\u2585]", document) if part)


def _untrainable(reason: str, vocab_size: int) -> ConfigError:
  """Returns the library's error as one of ours."""
  largest = re.search(r"too high .*<= (\d+)", reason)
  if largest:
    return _too_large(vocab_size, int(largest[1]))
  smallest = re.search(r"required_chars\. \d+ vs (\d+)", reason)
  if smallest:
    return ConfigError(
      f"--vocab_size: expected at least {smallest[1]}, the special tokens, bytes and "
      f"characters of this corpus, got {vocab_size}; raise it"
    )
  return ConfigError(
    "--corpus: expected text that sentencepiece can be trained on, but it says: "
    f"{' '.join(reason.split())}; give more text"
  )


def _write_bpe(corpus: Corpus, directory: pathlib.Path, vocab_size: int):
  """Writes tokenizer.json, byte-level BPE, and the names of its special tokens."""
  tokenizer = tokenizers.Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Digits(individual_digits=True),
      pre_tokenizers.ByteLevel(add_prefix_space=False),
    ]
  )
  tokenizer.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=vocab_size,
    special_tokens=list(SPECIAL.values()),
    initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    show_progress=False,
  )
  tokenizer.train_from_iterator(iter(corpus), trainer)
  _check_read(corpus)
  if tokenizer.get_vocab_size() < vocab_size:
    raise _too_large(vocab_size, tokenizer.get_vocab_size())
  files.write_text(directory / "tokenizer.json", tokenizer.to_str())
  naming: dict[str, str | bool] = {f"{k}_token": token for k, token in SPECIAL.items()}
  naming["clean_up_tokenization_spaces"] = False
  naming["tokenizer_class"] = "PreTrainedTokenizerFast"
  files.write_json(directory / "tokenizer_config.json", naming)


def _check_read(corpus: Corpus):
  """Raises what stopped the reading, if anything did, or if there was nothing."""
  if corpus.error:
    raise corpus.error
  if not corpus.num_documents:
    raise ConfigError(
      f"--corpus: expected documents, but {', '.join(map(str, corpus.files[:3]))} hold "
      "only empty lines; give text"
    )


def _too_large(vocab_size: int, largest: int) -> ConfigError:
  return ConfigError(
    f"--vocab_size: expected at most {largest}, all that this corpus gives, got "
    f"{vocab_size}; lower it or give more text"
  )
