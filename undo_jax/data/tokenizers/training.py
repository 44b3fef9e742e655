"""Trains a tokenizer on the user's own text: SentencePiece or byte-level BPE.

A corpus is files of text, JSON lines, Parquet or HTML, see document_files; each line of
a .txt file is a document, and empty ones do not count. Files are read as streams. The
same files give the same bytes, with the same versions of the libraries: they are read
in the order of their paths, no document is drawn at random and all of them count.

The special ids are Gemma's, pad 0, eos 1, bos 2; digits stand alone; every byte can be
written, so that any text is given back as it was (but for U+2581 in SentencePiece,
its sign for a space).
"""

from collections.abc import Iterator, Sequence
import contextlib
import io
import logging
import pathlib
import re
from typing import NamedTuple

import sentencepiece
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from undo_jax.data.documents import files as document_files
from undo_jax.data.documents.source import Source, find
from undo_jax.utils import files
from undo_jax.utils.errors import ConfigError

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
  """Train a tokenizer and writes its directory, whole or not at all.

  Args:
    patterns: files, folders and globs, see document_source.find.
    output: the directory to make: tokenizer.model for sentencepiece (a unigram model,
      which keeps the lines in memory), tokenizer.json and tokenizer_config.json for
      bpe.
    kind: one of `KINDS`.
    vocab_size: the number of ids, special ones included.
    text_field: the field of a JSON line, or column, that holds the document.

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
  corpus = Corpus(patterns, text_field=text_field)
  LOGGER.info("training %s on %d files", kind, len(corpus.files))
  with files.new_directory(output) as directory:
    write = _write_sentencepiece if kind == "sentencepiece" else _write_bpe
    write(corpus, directory, vocab_size)
  return Trained(corpus.num_documents, corpus.num_bytes, vocab_size)


class Corpus:
  """The documents of files, and counts of those that have been read."""

  def __init__(self, patterns: Sequence[str], *, text_field: str):
    """Find the files, of which none may be missing or of an unknown format."""
    self._source = Source(paths=patterns, text_field=text_field)
    with _named():
      self.files = sorted(find(patterns))
    self.num_documents = 0
    self.num_bytes = 0
    self.error: ConfigError | None = None

  def __iter__(self) -> Iterator[str]:
    """Yield the documents; an error is kept too, for readers that hide it."""
    try:
      with _named():
        for record in document_files.read(self.files, self._source):
          if record.text.strip():
            self.num_documents += 1
            self.num_bytes += len(record.text.encode("utf-8"))
            yield record.text
    except ConfigError as error:
      self.error = error
      raise


@contextlib.contextmanager
def _named() -> Iterator[None]:
  """Put the flag's name before an error."""
  try:
    yield
  except ConfigError as error:
    raise ConfigError(f"--corpus: {error}") from None


def _write_sentencepiece(corpus: Corpus, directory: pathlib.Path, vocab_size: int):
  """Write tokenizer.model, a unigram model that gives any text back."""
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
  """Yield the documents without characters that make the library skip a line."""
  for document in corpus:
    yield from (part for part in re.split("[\n\0\u2585]", document) if part)


def _untrainable(reason: str, vocab_size: int) -> ConfigError:
  """Return the library's error as one of ours."""
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
  """Write tokenizer.json, byte-level BPE, and the names of its special tokens."""
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
  bos = SPECIAL["bos"]
  # Documents begin with BOS in training; so do texts of whoever asks for it.
  tokenizer.post_processor = processors.TemplateProcessing(
    single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
  )
  files.write_text(directory / "tokenizer.json", tokenizer.to_str())
  naming: dict[str, str | bool] = {f"{k}_token": token for k, token in SPECIAL.items()}
  naming["add_bos_token"] = True
  naming["clean_up_tokenization_spaces"] = False
  naming["tokenizer_class"] = "PreTrainedTokenizerFast"
  files.write_json(directory / "tokenizer_config.json", naming)


def _check_read(corpus: Corpus):
  """Raise what stopped the reading, if anything did, or if there was nothing."""
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
