"""Files of users with changed bytes: the libraries' values, or one error of ours.

More than the few examples of every run of the tests:

  make fuzz EXAMPLES=2000
"""

import datetime
import functools
import io
import json
import os
import pathlib
import shutil
import tempfile

import gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from pyarrow import parquet
import pytest
import safetensors.numpy
import sentencepiece
import tokenizers as library

from tests import mutations
from tests.models import huggingface_references as references
from tests.models import made_up_gguf
from undo_jax.checkpoints import exporting, importing
from undo_jax.data import questions, tokenizers
from undo_jax.data.documents import files as documents
from undo_jax.data.documents import html_text
from undo_jax.data.documents.source import Source
from undo_jax.data.tokenizers import export as tokenizer_export
from undo_jax.evaluation import continuations
from undo_jax.models import huggingface, peft
from undo_jax.models.checkpoint_files import INDEX
from undo_jax.utils.errors import ConfigError

TEXT = "12 + 3 = 15."
# Drawn anew where more of them are asked for, the same ones in every run of the tests.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 0))
LONGEST = datetime.timedelta(seconds=10)
LARGEST = 2 * 10**9  # Bytes, beside what the process holds already.
STATUS, PEAK = pathlib.Path("/proc/self/status"), pathlib.Path("/proc/self/clear_refs")


def changes(data: bytes, *, is_json: bool = False, examples: int = 30):
  """Give a test the bytes of a file with changes, as `data`."""
  drawn = mutations.changed_bytes(data)
  if is_json:
    drawn = st.one_of(drawn, mutations.changed_json(data))

  def decorate(test):
    limited = settings(
      max_examples=EXAMPLES or examples,
      deadline=LONGEST,
      derandomize=not EXAMPLES,
      database=None,
      suppress_health_check=list(HealthCheck),
    )
    return limited(given(data=drawn)(test))

  return decorate


def read(make):
  """Return what is read, or None: it was refused as it should be."""
  try:
    return make()
  except ConfigError as error:
    assert str(error)
    return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("mutated")


@pytest.fixture(autouse=True)
def memory_is_bounded():
  """No example of a test takes more than LARGEST, where the kernel tells the peak."""
  if not PEAK.exists():
    yield
    return
  PEAK.write_text("5")  # The peak begins anew.
  before = memory("VmRSS")
  yield
  assert memory("VmHWM") - before < LARGEST


def memory(field):
  """Return a number of bytes that the kernel tells of this process."""
  (line,) = (x for x in STATUS.read_text().splitlines() if x.startswith(f"{field}:"))
  return 1024 * int(line.split()[1])


# MARK: models

ROOT = references.ROOT / "qwen2_tied"
WEIGHTS = (ROOT / "model.safetensors").read_bytes()
CONFIG = (ROOT / "config.json").read_bytes()
TENSORS = safetensors.numpy.load(WEIGHTS)
INDEXED = json.dumps({"weight_map": dict.fromkeys(TENSORS, "a.safetensors")}).encode()
# Most of the file is weights, whose changes are like one another.
HEADER = 8 + int.from_bytes(WEIGHTS[:8], "little")


def assert_same_tensors(config, params, expected):
  for name, make in huggingface.tensors(config, params):
    np.testing.assert_array_equal(make(), expected[name], err_msg=name)


@changes(WEIGHTS[: HEADER + 64], examples=20)
def test_weights(folder, data):
  data += WEIGHTS[HEADER + 64 :]
  (folder / "config.json").write_bytes(CONFIG)
  (folder / "model.safetensors").write_bytes(data)
  loaded = read(lambda: huggingface.load(folder))
  (folder / "model.safetensors").unlink()
  if loaded is not None:
    assert_same_tensors(*loaded, safetensors.numpy.load(data))


@changes(INDEXED, is_json=True, examples=10)
def test_an_index(folder, data):
  (folder / "config.json").write_bytes(CONFIG)
  (folder / "a.safetensors").write_bytes(WEIGHTS)
  (folder / INDEX).write_bytes(data)
  loaded = read(lambda: huggingface.load(folder))
  if loaded is not None:
    assert_same_tensors(*loaded, TENSORS)


@changes(CONFIG, is_json=True, examples=60)
def test_a_config_of_a_model(folder, data):
  (folder / "config.json").write_bytes(data)
  (folder / "model.safetensors").write_bytes(WEIGHTS)
  loaded = read(lambda: huggingface.load(folder))
  (folder / "model.safetensors").unlink()
  if loaded is not None:
    config, params = loaded
    said = json.loads(data)
    assert config.norm_epsilon == (said.get("rms_norm_eps") or 1e-6)
    assert config.num_layers == said["num_hidden_layers"]
    assert_same_tensors(config, params, TENSORS)


ADAPTERS = {
  f"base_model.model.model.layers.{layer}.mlp.up_proj.{factor}.weight": np.ones(shape)
  for layer in range(references.SIZES["num_hidden_layers"])
  for factor, shape in (("lora_A", (2, 16)), ("lora_B", (24, 2)))
}
ADAPTER = safetensors.numpy.save({k: np.float32(v) for k, v in ADAPTERS.items()})
ADAPTER_CONFIG = json.dumps(
  {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["up_proj"],
    "bias": "none",
    "use_rslora": False,
  }
).encode()
MODEL = huggingface.read_config(ROOT)


def read_adapter(folder, weights, settings):
  (folder / peft.TENSOR_FILE).write_bytes(weights)
  (folder / peft.CONFIG_FILE).write_bytes(settings)
  return read(lambda: peft.load(folder, MODEL))


@changes(ADAPTER)
def test_an_adapter(folder, data):
  adapter = read_adapter(folder, data, ADAPTER_CONFIG)
  if adapter is not None:
    expected = safetensors.numpy.load(data)
    pair = adapter.adapters["layers"]["mlp"]["up"]["kernel"]
    for factor, name in (("a", "lora_A"), ("b", "lora_B")):
      theirs = [v.T for k, v in sorted(expected.items()) if f".{name}." in k]
      np.testing.assert_array_equal(pair[factor], np.stack(theirs))


@changes(ADAPTER_CONFIG, is_json=True)
def test_a_config_of_an_adapter(folder, data):
  adapter = read_adapter(folder, ADAPTER, data)
  if adapter is not None:
    said = json.loads(data)
    assert (adapter.rank, adapter.alpha) == (said["r"], said["lora_alpha"])
    kernel = adapter.adapters["layers"]["mlp"]["up"]["kernel"]["a"]
    np.testing.assert_array_equal(kernel, jnp.ones((3, 16, 2)))


GENERATION = json.dumps(
  {"bos_token_id": 2, "eos_token_id": [1, 7], "pad_token_id": 0, "temperature": 0.6}
).encode()


@changes(GENERATION, is_json=True, examples=10)
def test_a_config_of_generation(folder, data):
  model, out = folder / "generating", folder / "exported"
  if not model.exists():
    shutil.copytree(ROOT, model)
  (model / "generation_config.json").write_bytes(data)
  exported = read(lambda: exporting.export(model, out) or out)
  if exported is not None:
    said = json.loads(data)
    assert json.loads((out / "generation_config.json").read_bytes()) == said
    shutil.rmtree(out)
    ends = read(lambda: continuations.eos_ids(said, json.loads(CONFIG), model))
    of_both = json.loads(CONFIG) | said
    assert ends is None or list(ends) in (
      of_both["eos_token_id"],
      [of_both["eos_token_id"]],
      [],
    )


@functools.cache
def gguf_file():
  """Return a file and how many of its bytes are no values of tensors."""
  with tempfile.TemporaryDirectory() as directory:
    data = made_up_gguf.write(pathlib.Path(directory) / "a.gguf").read_bytes()
    return data, len(data) - sum(x.nbytes for x in made_up_gguf.weights().values())


@changes(gguf_file()[0][: gguf_file()[1]], examples=20)
def test_a_gguf_file(folder, data):
  path, out = folder / "a.gguf", folder / "imported"
  path.write_bytes(data + gguf_file()[0][gguf_file()[1] :])
  importing_ = functools.partial(importing.import_gguf, path, out, dtype="float32")
  imported = read(lambda: importing_() or out)
  if imported is not None:
    tensors = safetensors.numpy.load_file(out / "model.safetensors")
    values = {x.name: x for x in gguf.GGUFReader(path).tensors}
    embedding = values["token_embd.weight"]
    theirs = gguf.dequantize(embedding.data, embedding.tensor_type)
    np.testing.assert_array_equal(tensors["model.embed_tokens.weight"], theirs)
    assert len(tensors) == len(values)
    shutil.rmtree(out)


# MARK: tokenizers


@functools.cache
def pieces():
  """Return a small SentencePiece model."""
  written = io.BytesIO()
  sentencepiece.SentencePieceTrainer.Train(
    sentence_iterator=iter([TEXT, "3 + 4 = 7, 12."] * 20),
    model_writer=written,
    vocab_size=30,
    hard_vocab_limit=False,
    minloglevel=2,
  )
  return written.getvalue()


@pytest.fixture(scope="module")
def tokenizer(folder):
  tokenizer_export.write("characters:arithmetic", folder)
  return folder


def characters(name):
  """Return a file of the tokenizer of characters, of which nothing is random."""
  with tempfile.TemporaryDirectory() as directory:
    tokenizer_export.write("characters:arithmetic", pathlib.Path(directory))
    return (pathlib.Path(directory) / name).read_bytes()


def encoded(folder):
  """Return ids, or None where the documents' reader names the text in an error."""
  made = tokenizers.make(f"huggingface:{folder}")
  try:
    return made.encode(TEXT)
  except ValueError:
    return None


@changes(characters("tokenizer.json"), is_json=True, examples=60)
def test_a_tokenizer(tokenizer, data):
  (tokenizer / "tokenizer.json").write_bytes(data)
  ids = read(lambda: encoded(tokenizer))
  if ids is not None:
    upstream = library.Tokenizer.from_buffer(data)
    assert ids == upstream.encode(TEXT, add_special_tokens=False).ids


@changes(characters("tokenizer_config.json"), is_json=True)
def test_a_config_of_a_tokenizer(tokenizer, data):
  (tokenizer / "tokenizer.json").write_bytes(characters("tokenizer.json"))
  (tokenizer / "tokenizer_config.json").write_bytes(data)
  ids = read(lambda: encoded(tokenizer))
  assert ids is None or ids == tokenizers.make("characters:arithmetic").encode(TEXT)


@changes(pieces(), examples=60)
def test_a_sentencepiece_model(folder, data):
  (folder / "tokenizer.model").write_bytes(data)

  def ids():
    made = tokenizers.make(f"sentencepiece:{folder}")
    return made.encode(TEXT), made.eos_id, made.decode(made.encode(TEXT))

  encoded_text = read(ids)
  if encoded_text is not None:
    upstream = sentencepiece.SentencePieceProcessor()
    upstream.LoadFromSerializedProto(data)
    theirs = upstream.encode(TEXT)
    assert encoded_text == (theirs, upstream.eos_id(), upstream.decode(theirs))


# MARK: documents

ROWS = [
  {"text": "One line.", "other": 1},
  {"text": 'A "quoted"\n한국어 \u202e text.', "other": None},
  {"text": "", "other": [1, {"a": 2}]},
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def texts(path):
  source = Source(paths=(str(path),), skip_empty=True)
  return read(lambda: [record.text for record in documents.read([path], source)])


@changes(LINES, examples=60)
def test_lines_of_json(folder, data):
  path = folder / "a.jsonl"
  path.write_bytes(data)
  contents = texts(path)
  if contents is not None:
    lines = data.decode("utf-8-sig").split("\n")
    rows = [json.loads(line) for line in lines if line.strip()]
    expected = [(row["text"] or "").replace("\r\n", "\n") for row in rows]
    assert contents == expected


def table(data):
  buffer = io.BytesIO()
  parquet.write_table(pa.table(data), buffer)
  return buffer.getvalue()


@changes(table({"text": [row["text"] for row in ROWS], "n": [1, 2, 3]}), examples=60)
def test_a_parquet_file(folder, data):
  path = folder / "a.parquet"
  path.write_bytes(data)
  contents = texts(path)
  if contents is not None:
    expected = parquet.read_table(path, columns=["text"])["text"].to_pylist()
    assert contents == [(text or "").replace("\r\n", "\n") for text in expected]


TEXTS = pa.array([row["text"] for row in ROWS])
COLUMNS = {
  "dictionary": TEXTS.dictionary_encode(),
  "view": TEXTS.cast(pa.string_view()),
  "repeated": [[text] for text in TEXTS.to_pylist()],
  "nested": [{"text": text} for text in TEXTS.to_pylist()],
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_parquet_file_of_other_columns(folder, kind):
  @changes(table({"text": COLUMNS[kind], "n": [1, 2, 3]}), examples=15)
  def check(data):
    path = folder / "b.parquet"
    path.write_bytes(data)
    contents = texts(path)
    if contents is not None:
      column = parquet.read_table(path, columns=["text"])["text"]
      expected = column.cast(pa.string()).to_pylist()
      assert contents == [(text or "").replace("\r\n", "\n") for text in expected]

  check()


PAGE = b"""<!DOCTYPE html><html><head><title>T</title></head><body><main><h1 id="a">Head
</h1><![if IE]><p>One <b>two</b><![endif]--><table><tr><td>1<td>2</table><pre> a
 b</pre><![CDATA[ x ]]><p hidden>no</p>&amp;&#44032;<script>if (1<2) {}</script></main>
<svg><path d="x"/></svg><ul><li>one<li>two</ul></body></html>"""


@changes(PAGE, examples=100)
def test_a_page(folder, data):
  path = folder / "a.html"
  path.write_bytes(data)
  contents = texts(path)
  if contents is not None:
    page = data.decode("utf-8-sig")
    assert contents == [html_text.extract(page)]
    assert not set(contents[0]) & {"\v", "\f"}
    assert all(line.strip() for line in contents[0].split("\n") if contents[0])


QUESTIONS = [
  {"question": "Why?", "choices": ["a", "b", "c", "d"], "answer": 2, "subject": "x"},
  {"question": "When?", "choices": ["1", "2", "3", "4"], "answer": 0, "subject": "y"},
]


@changes(json.dumps(QUESTIONS).encode(), is_json=True, examples=60)
def test_questions(folder, data):
  path = folder / "q.json"
  path.write_bytes(data)
  loaded = read(lambda: questions.read([str(path)]))
  if loaded is not None:
    expected = [
      (q["question"], tuple(q["choices"]), q["answer"]) for q in json.loads(data)
    ]
    assert [each[:3] for each in loaded] == expected


@changes(table({k: [q[k] for q in QUESTIONS] for k in QUESTIONS[0]}))
def test_questions_in_parquet(folder, data):
  path = folder / "q.parquet"
  path.write_bytes(data)
  loaded = read(lambda: questions.read([str(path)]))
  if loaded is not None:
    rows = parquet.read_table(path).to_pylist()
    expected = [(q["question"], tuple(q["choices"]), q["answer"]) for q in rows]
    assert [each[:3] for each in loaded] == expected
