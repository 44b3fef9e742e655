"""Documents are those that json, pyarrow and the bytes say; errors name places."""

import json
import random

import pyarrow as pa
from pyarrow import parquet
import pytest

from undo_jax.data.documents import files as document_files
from undo_jax.data.documents.source import Source, find
from undo_jax.utils.errors import ConfigError

TEXTS = [
  "plain",
  "한국어 문서",
  'quotes " and \\ and \t',
  "two\nlines",
  "😀 é",
  "x " * 900,
]


def read(path, **options):
  source = Source(paths=[str(path)], **options)
  return list(document_files.read(find(source.paths), source))


def texts(path, **options):
  return [record.text for record in read(path, **options)]


@pytest.fixture
def small_chunks(monkeypatch):
  """Chunk of a few bytes, so that files are cut everywhere."""
  monkeypatch.setattr(document_files, "CHUNK_BYTES", 5)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("chunk_bytes", [1, 7, 64, 2**20])
def test_lines_of_text(tmp_path, monkeypatch, end, mark, chunk_bytes):
  monkeypatch.setattr(document_files, "CHUNK_BYTES", chunk_bytes)
  lines = ["first line", "", "한국어", "  ", "with\u2028separator\x0bin it", " last "]
  (tmp_path / "a.txt").write_bytes(mark + end.join(lines).encode())
  kept = [(n, line) for n, line in enumerate(lines, start=1) if line.strip()]
  records = read(tmp_path / "a.txt")
  assert [(record.number, record.text) for record in records] == kept
  assert [record.place for record in records] == [
    f"{tmp_path / 'a.txt'}, line {n}" for n, _ in kept
  ]


def test_a_file_may_be_one_document(tmp_path, small_chunks):
  (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n\r\ntwo\r\n")
  (tmp_path / "b.txt").write_bytes("셋\n".encode())
  (tmp_path / "c.jsonl").write_text('{"text": "four"}\n{"text": "five"}')
  (tmp_path / "d.txt").write_text("six")
  records = read(tmp_path, lines=False)
  assert [record.text for record in records] == [
    "one\n\ntwo",
    "셋",
    "four",
    "five",
    "six",
  ]
  assert [record.file for record in records] == [0, 1, 2, 2, 3]
  assert [record.number for record in records] == [0, 0, 1, 2, 0]
  assert records[0].place == str(tmp_path / "a.txt")


@pytest.mark.parametrize("ascii", [True, False])
def test_json_lines_as_json_reads_them(tmp_path, small_chunks, ascii):
  lines = [json.dumps({"n": 1, "text": text}, ensure_ascii=ascii) for text in TEXTS]
  (tmp_path / "a.jsonl").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
  assert texts(tmp_path / "a.jsonl") == [json.loads(line)["text"] for line in lines]


def test_code_is_one_document_a_file(tmp_path):
  for name in ("a.py", "b.md", "c.rst"):
    (tmp_path / name).write_text(f"{name} =\n  1\n")
  actual = texts(tmp_path / "*")
  assert actual == [f"{name} =\n  1" for name in ("a.py", "b.md", "c.rst")]


@pytest.mark.parametrize("rows_per_group", [3, 1000])
def test_parquet_as_pyarrow_reads_it(tmp_path, small_chunks, rows_per_group):
  rng = random.Random(0)
  column = [f"{rng.choice(TEXTS)} {n}" for n in range(400)]
  table = pa.table({"n": range(400), "text": column})
  parquet.write_table(table, tmp_path / "a.parquet", row_group_size=rows_per_group)
  records = read(tmp_path / "a.parquet")
  expected = parquet.read_table(tmp_path / "a.parquet")["text"].to_pylist()
  assert [record.text for record in records] == expected == column
  assert [record.number for record in records] == list(range(1, 401))
  assert records[6].place.endswith("a.parquet, row 7")


def test_null_is_a_document_without_text(tmp_path):
  table = pa.table({"text": ["a", None, ""]})
  parquet.write_table(table, tmp_path / "a.parquet")
  (tmp_path / "b.jsonl").write_text('{"text": "a"}\n{"text": null}\n{"text": ""}')
  assert texts(tmp_path / "a.parquet") == texts(tmp_path / "b.jsonl") == ["a", "", ""]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_questions_are_the_prompts_of_answers(tmp_path, kind):
  pairs = [("Why?\r\nTell.", "So."), ("어디?", "여기"), ("", "nothing asked")]
  fields = {"question_field": "q", "answer_field": "a"}
  rows = [{"q": q, "a": a} for q, a in pairs]
  if kind == "jsonl":
    (tmp_path / "f.jsonl").write_text("\n".join(map(json.dumps, rows)))
  else:
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "f.parquet")
  read_pairs = [(record.prompt, record.text) for record in read(tmp_path, **fields)]
  assert read_pairs == [
    ("Why?\nTell.\nAnswer: ", "So."),
    ("어디?\nAnswer: ", "여기"),
    ("\nAnswer: ", ""),
  ]


def test_pages_of_html_become_text(tmp_path):
  (tmp_path / "b.htm").write_text("<nav>no</nav><p>yes")
  (tmp_path / "a.html").write_bytes("\ufeff<title>x</title><p>한국어".encode())
  assert texts(tmp_path) == ["한국어", "yes"]


WRONG = [
  (
    "a.txt",
    b"good\nbad \xff\n",
    r"UTF-8, but .*a.txt, line 2, has the byte 0xff at p.* 4",
  ),
  ("a.html", b"<p>\n<p>\xe9", r"UTF-8, but .*a.html, line 2, has the byte 0xe9"),
  ("a.jsonl", b'{"text": "a"}\n{"body": 1}', r"a.jsonl, line 2, got the fields \['bod"),
  ("a.jsonl", b'{"text": "a"}\n\n{"text": 7}', "a.jsonl, line 3, got int there; name"),
  ("a.jsonl", b"[1]", "a.jsonl, line 1, got no object"),
  ("a.jsonl", b'\n{"text": ', r"a.jsonl, line 2, got no JSON \("),
  ("a.jsonl", b"[" * 10**5, r"a.jsonl, line 1, got no JSON \("),
  ("a.jsonl", b'{"text": "\\ud800"}', "a.jsonl, line 1, has half of a surrogate"),
  ("a.txt", b"", "a.txt is empty"),
  ("a.parquet", b"PAR1 no such thing", "a.parquet cannot be read as one"),
  (
    "a.csv",
    b"text",
    "expected .txt, .jsonl, .parquet, .html, .py, .md or .rst files, got .*a.csv",
  ),
]


@pytest.mark.parametrize("name, content, message", WRONG)
def test_what_is_wrong_is_named_with_its_line(
  tmp_path, small_chunks, name, content, message
):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(ConfigError, match=message) as error:
    read(tmp_path / name)
  assert "\n" not in str(error.value)


def test_columns_that_are_missing_or_no_text_are_named(tmp_path):
  parquet.write_table(pa.table({"body": ["a"], "n": [1]}), tmp_path / "a.parquet")
  with pytest.raises(
    ConfigError, match=r"'text' in .*a.parquet, row 1, got .*\['body'"
  ):
    read(tmp_path)
  with pytest.raises(ConfigError, match="'n' of .*a.parquet, row 1, got int64"):
    read(tmp_path, text_field="n")


@pytest.mark.parametrize("kind", ["dictionary", "view"])
def test_text_in_any_of_arrows_types(tmp_path, kind, small_chunks):
  column = pa.array(["a", None, "한\r\nb", "a"])
  column = column.dictionary_encode() if kind == "dictionary" else column
  column = column.cast(pa.string_view()) if kind == "view" else column
  parquet.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
  assert parquet.read_schema(tmp_path / "a.parquet").types == [column.type]
  assert texts(tmp_path / "a.parquet", skip_empty=True) == ["a", "", "한\nb", "a"]


def test_a_column_that_is_there_twice_is_named(tmp_path):
  columns = [pa.array(["a"]), pa.array(["b"])]
  twice = pa.Table.from_arrays(columns, names=["text", "text"])
  parquet.write_table(twice, tmp_path / "a.parquet")
  with pytest.raises(ConfigError, match="one column 'text' in .*a.parquet.* got 2"):
    texts(tmp_path / "a.parquet")


def test_bytes_of_parquet_that_are_no_text_are_named(tmp_path):
  broken = pa.array([b"fine", b"ab\xffc"], pa.binary()).cast(pa.string(), safe=False)
  assert broken.type == pa.string()
  parquet.write_table(pa.table({"text": broken}), tmp_path / "a.parquet")
  with pytest.raises(
    ConfigError, match=r"a.parquet, row 2, column 'text'.* 0xff at .* 2"
  ):
    read(tmp_path)


def test_documents_beyond_the_largest_are_named(tmp_path, monkeypatch, small_chunks):
  monkeypatch.setattr(document_files, "LARGEST_DOCUMENT_BYTES", 100)
  (tmp_path / "a.txt").write_text("short\n" + "x" * 90 + "\n" + "y" * 200)
  with pytest.raises(ConfigError, match="a.txt, line 3 is larger"):
    read(tmp_path)
  with pytest.raises(ConfigError, match="a.txt is larger"):
    read(tmp_path, lines=False)


def test_questions_are_not_asked_of_text(tmp_path):
  (tmp_path / "a.txt").write_text("x")
  with pytest.raises(ConfigError, match="parquet files with q and a, got .*a.txt"):
    read(tmp_path, question_field="q", answer_field="a")


def test_pieces_are_cut_before_white_space(monkeypatch):
  monkeypatch.setattr(document_files, "PIECE_CHARACTERS", 10)
  text = "four five six\nseven " + "x" * 25 + " ending"
  pieces = list(document_files.pieces(text))
  assert "".join(pieces) == text
  assert pieces == [
    "four five",
    " six",
    "\nseven",
    " " + "x" * 9,
    "x" * 10,
    "x" * 6,
    " ending",
  ]
  assert list(document_files.pieces("")) == [""]
