"""Documents out of files: text, code, JSON lines, Parquet and HTML, as a stream.

One process cuts files into chunks in order (`chunks`); any process makes the documents
of a chunk (`records`). Errors name file and line, or file and row in Parquet; both
count from 1.
"""

from collections.abc import Iterator, Sequence
import json
import pathlib
from typing import Any, NamedTuple

from undo_jax.data.documents import html_text
from undo_jax.data.documents.source import FORMATS, Source
from undo_jax.utils.errors import ConfigError

CHUNK_BYTES = 2**20
# A document is held in memory whole, several times over while it is encoded.
LARGEST_DOCUMENT_BYTES = 2**25
# Longer texts are worked on in pieces, since libraries hold much for each word.
PIECE_CHARACTERS = 2**20
_BOM = b"\xef\xbb\xbf"
_ROWS = 64  # Rows of Parquet that are read at once.


class Chunk(NamedTuple):
  """A part of the documents' bytes, as it is sent to another process.

  Attributes:
    kind: "lines" or "jsonl" (data: whole lines), "parquet" (data: for each row its
      fields) or "files" (data: nothing; each path is a document).
    paths: the files it comes from, one but for "files".
    file: the index of the first of them among all files.
    first: the number of the first line or row.
    data: see kind.
    file_bytes: how many bytes of files it stands for.
  """

  kind: str
  paths: tuple[pathlib.Path, ...]
  file: int
  first: int
  data: Any
  file_bytes: int


class Record(NamedTuple):
  """A document: where it is, the text that is not scored and the text that is."""

  file: int
  number: int  # Of its line or row; 0: it is the whole file.
  place: str
  prompt: str
  text: str


def place(path: pathlib.Path, number: int) -> str:
  """Return a document's file and line or row, as errors name them."""
  if not number:
    return str(path)
  return f"{path}, {'row' if path.suffix == '.parquet' else 'line'} {number}"


# MARK: chunks


def chunks(paths: Sequence[pathlib.Path], source: Source) -> Iterator[Chunk]:
  """Yield the chunks of files in order, each of about `CHUNK_BYTES`.

  Args:
    paths: the files, see document_source.find.
    source: how they are read.

  Raises:
    ConfigError: if a file cannot be read, is empty, or lacks a field.
  """
  _check_formats(paths, source)
  whole: list[pathlib.Path] = []
  begin = size = 0
  for index, path in enumerate(paths):
    if is_whole(path, source):
      begin = begin if whole else index
      whole.append(path)
      size += _check_size(path, is_whole=True)
    if whole and (size >= CHUNK_BYTES or not is_whole(path, source)):
      yield Chunk("files", tuple(whole), begin, 0, None, size)
      whole, size = [], 0
    if not is_whole(path, source):
      yield from _cut(path, index, source)
  if whole:
    yield Chunk("files", tuple(whole), begin, 0, None, size)


def is_whole(path: pathlib.Path, source: Source) -> bool:
  """Whether a file is one document."""
  kind = FORMATS[path.suffix]
  return kind in ("html", "file") or (kind == "text" and not source.lines)


def _cut(path: pathlib.Path, index: int, source: Source) -> Iterator[Chunk]:
  """Yield the chunks of one file of many documents."""
  _check_size(path, is_whole=False)
  if FORMATS[path.suffix] == "parquet":
    yield from _parquet_chunks(path, index, source)
    return
  kind = {"text": "lines", "jsonl": "jsonl"}[FORMATS[path.suffix]]
  first = 1
  try:
    with open(path, "rb") as file:
      while data := file.read(CHUNK_BYTES):
        if not data.endswith(b"\n"):
          rest = file.readline(LARGEST_DOCUMENT_BYTES)
          data += rest
          if len(rest) == LARGEST_DOCUMENT_BYTES and not rest.endswith(b"\n"):
            raise _too_large(place(path, first + data.count(b"\n")))
        yield Chunk(kind, (path,), index, first, data, len(data))
        first += data.count(b"\n")
  except OSError as error:
    raise unreadable(path, error) from None


def _parquet_chunks(path: pathlib.Path, index: int, source: Source) -> Iterator[Chunk]:
  """Yield the rows of the columns that are wanted, as bytes: None where null."""
  import pyarrow as pa  # Of no use for other formats, and it takes memory.
  from pyarrow import parquet

  try:
    # Without a buffer a whole group of rows, of any size, would be in memory.
    with parquet.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
      _check_columns(path, file.schema_arrow, source)
      bytes_per_row = path.stat().st_size / max(1, file.metadata.num_rows)
      rows: list[tuple[bytes | None, ...]] = []
      first, size = 1, 0
      for batch in file.iter_batches(batch_size=_ROWS, columns=list(source.fields)):
        columns = [
          _text_of(batch.column(name)).cast(pa.large_binary()).to_pylist()
          for name in source.fields
        ]
        rows += zip(*columns, strict=True)
        size += batch.nbytes
        if size >= CHUNK_BYTES:
          file_bytes = int(len(rows) * bytes_per_row)
          yield Chunk("parquet", (path,), index, first, rows, file_bytes)
          first, rows, size = first + len(rows), [], 0
      if rows:
        file_bytes = int(len(rows) * bytes_per_row)
        yield Chunk("parquet", (path,), index, first, rows, file_bytes)
  except (OSError, pa.ArrowException) as error:
    raise ConfigError(
      f"expected a Parquet file, but {path} cannot be read as one "
      f"({' '.join(str(error).split())}); write it again"
    ) from None


def _check_formats(paths, source):
  """Raise a ConfigError if questions and answers are asked of files without fields."""
  for path in paths:
    if len(source.fields) > 1 and FORMATS[path.suffix] in ("text", "html", "file"):
      raise ConfigError(
        f"expected .jsonl or .parquet files with {' and '.join(source.fields)}, got "
        f"{path}; narrow the paths or set no question_field"
      )


def _check_columns(path, schema, source):
  """Raise a ConfigError unless the fields are columns of text."""
  import pyarrow as pa

  for name in source.fields:
    if name not in schema.names:
      raise ConfigError(
        f"expected the column {name!r} in {path}, row 1, got the columns "
        f"{schema.names}; name another field or mend the file"
      )
    if schema.names.count(name) > 1:
      raise ConfigError(
        f"expected one column {name!r} in {path}, row 1, got "
        f"{schema.names.count(name)} of this name; rename the others"
      )
    kind = schema.field(name).type
    if not _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind):
      raise ConfigError(
        f"expected text in the column {name!r} of {path}, row 1, got {kind}; name "
        "another field or convert it"
      )


def _is_text(kind: Any) -> bool:
  import pyarrow as pa

  is_view = pa.types.is_string_view(kind)
  return is_view or pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _text_of(column: Any) -> Any:
  """Return a column's texts one by one: of views, and of numbers in a dictionary."""
  import pyarrow as pa

  is_plain = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
  return column if is_plain else column.cast(pa.large_string())


def _check_size(path: pathlib.Path, *, is_whole: bool) -> int:
  """Return a file's size in bytes; refuse 0, and too much for one document."""
  try:
    size = path.stat().st_size
  except OSError as error:
    raise unreadable(path, error) from None
  if not size:
    raise ConfigError(f"expected documents, but {path} is empty; remove it")
  if is_whole and size > LARGEST_DOCUMENT_BYTES:
    raise _too_large(str(path))
  return size


# MARK: records


def records(chunk: Chunk, source: Source) -> Iterator[Record]:
  r"""Yield the documents of a chunk, those without text among them.

  Line ends may be \n or \r\n; within documents they become \n. A byte order mark at
  the beginning of a file does not count, nor do line ends at a document's end.

  Raises:
    ConfigError: if something is not as expected, with its place.
  """
  if chunk.kind == "files":
    return _files(chunk)
  if chunk.kind == "parquet":
    return _rows(chunk, source)
  return _jsonl(chunk, source) if chunk.kind == "jsonl" else _text_lines(chunk)


def has_text(record: Record, source: Source) -> bool:
  """Whether a document has text; one without is left out where that is usual.

  Raises:
    ConfigError: if it has none, is no page of HTML, and skip_empty is not set.
  """
  if record.text and not record.text.isspace():
    return True
  if source.skip_empty or (
    not record.number and record.place.endswith((".html", ".htm"))
  ):
    return False
  raise ConfigError(
    f"expected text, but {record.place} has none; remove it or set skip_empty"
  )


def _files(chunk: Chunk) -> Iterator[Record]:
  for index, path in enumerate(chunk.paths, start=chunk.file):
    try:
      data = path.read_bytes()
    except OSError as error:
      raise unreadable(path, error) from None
    text = _decode(data, path, 1)
    if FORMATS[path.suffix] == "html":
      text = _html(text, path)
    else:
      text = text.replace("\r\n", "\n").rstrip("\n")
    yield Record(index, 0, str(path), "", text)


def _html(page: str, path: pathlib.Path) -> str:
  try:
    return html_text.extract(page)
  except Exception as error:  # Of any kind: the page is anybody's.
    raise ConfigError(
      f"expected HTML, but {path} cannot be read as such ({error!r}); remove it"
    ) from error


def _lines(chunk: Chunk) -> Iterator[tuple[int, str]]:
  """Yield the lines that are not blank, with their numbers."""
  text = _decode(chunk.data, chunk.paths[0], chunk.first)
  for number, line in enumerate(text.split("\n"), start=chunk.first):
    line = line.removesuffix("\r")
    if line and not line.isspace():
      yield number, line


def _text_lines(chunk: Chunk) -> Iterator[Record]:
  for number, line in _lines(chunk):
    yield Record(chunk.file, number, place(chunk.paths[0], number), "", line)


def _jsonl(chunk: Chunk, source: Source) -> Iterator[Record]:
  for number, line in _lines(chunk):
    where = place(chunk.paths[0], number)
    try:
      value = json.loads(line)
    except (ValueError, RecursionError) as error:
      raise ConfigError(
        f"expected {_expected(source)} in {where}, got no JSON ({error}); mend the line"
      ) from None
    texts = [_field(value, name, where, source) for name in source.fields]
    yield _record(chunk.file, number, where, texts)


def _field(value: object, name: str, where: str, source: Source) -> str:
  """Return a field's text; "" for null."""
  if isinstance(value, dict) and name in value:
    if isinstance(value[name], str):
      return _whole_characters(value[name], where)
    if value[name] is None:
      return ""
    got = f"{type(value[name]).__name__} there"
  else:
    got = f"the fields {list(value)}" if isinstance(value, dict) else "no object"
  raise ConfigError(
    f"expected {_expected(source)} in {where}, got {got}; name the field by "
    f"{_option(name, source)} or mend the line"
  )


def _whole_characters(text: str, where: str) -> str:
  """Return a text of JSON, which can name halves of characters."""
  try:
    text.encode()
  except UnicodeEncodeError:
    raise ConfigError(
      f"expected text, but {where}, has half of a surrogate pair (\\ud800 to \\udfff); "
      "remove it"
    ) from None
  return text


def _rows(chunk: Chunk, source: Source) -> Iterator[Record]:
  path = chunk.paths[0]
  for number, row in enumerate(chunk.data, start=chunk.first):
    where = place(path, number)
    texts = []
    for name, data in zip(source.fields, row, strict=True):
      try:
        texts.append((data or b"").decode())
      except UnicodeDecodeError as error:
        byte = f"0x{error.object[error.start]:02x}"
        raise ConfigError(
          f"expected UTF-8, but {where}, column {name!r}, has the byte {byte} at "
          f"position {error.start} ({error.reason}); write the file again"
        ) from None
    yield _record(chunk.file, number, where, texts)


def _record(file: int, number: int, where: str, texts: Sequence[str]) -> Record:
  """Return the record of a text, or of a question and its answer."""
  if any("\r\n" in text for text in texts):
    texts = [text.replace("\r\n", "\n") for text in texts]
  if len(texts) == 1:
    return Record(file, number, where, "", texts[0])
  question, answer = texts
  if not question.strip():  # Half a pair is as good as none.
    answer = ""
  return Record(file, number, where, f"{question}\nAnswer: ", answer)


def _expected(source: Source) -> str:
  return f"a JSON object with text in {' and '.join(map(repr, source.fields))}"


def _option(name: str, source: Source) -> str:
  if len(source.fields) == 1:
    return "text_field"
  return "question_field" if name == source.question_field else "answer_field"


def _decode(data: bytes, path: pathlib.Path, first: int) -> str:
  """Return the text of a file's bytes from line `first` on."""
  if first == 1 and data.startswith(_BOM):
    data = data[len(_BOM) :]
  try:
    return data.decode()
  except UnicodeDecodeError as error:
    line = first + data.count(b"\n", 0, error.start)
    position = error.start - (data.rfind(b"\n", 0, error.start) + 1)
    raise ConfigError(
      f"expected UTF-8, but {path}, line {line}, has the byte "
      f"0x{data[error.start]:02x} at position {position} ({error.reason}); convert the "
      "file to UTF-8"
    ) from None


def _too_large(where: str) -> ConfigError:
  return ConfigError(
    f"expected documents of at most {LARGEST_DOCUMENT_BYTES >> 20} MiB, but {where} is "
    "larger; cut it into several, or read .txt files by lines"
  )


def unreadable(path: pathlib.Path, error: OSError) -> ConfigError:
  """Return the error of a file that cannot be read."""
  return ConfigError(
    f"expected files that can be read, got {error.filename or path} "
    f"({error.strerror}); mend its permissions"
  )


def read(paths: Sequence[pathlib.Path], source: Source) -> Iterator[Record]:
  """Yield the documents of files in order; see `chunks` and `records`."""
  for chunk in chunks(paths, source):
    yield from records(chunk, source)


def pieces(text: str) -> Iterator[str]:
  """Yield a text in parts of at most `PIECE_CHARACTERS`, cut before white space."""
  begin = 0
  while len(text) - begin > PIECE_CHARACTERS:
    end = begin + PIECE_CHARACTERS
    space = max(text.rfind(" ", begin, end), text.rfind("\n", begin, end))
    end = space if space > begin else end
    yield text[begin:end]
    begin = end
  yield text[begin:] if begin else text
