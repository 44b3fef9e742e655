"""Memory and rate of preparing documents: JSON lines to packed rows.

COMMAND, three times its size in disk, minutes to an hour with the machine:

  python -m benchmarks.document_preparation --gigabytes=3

Writes JSON lines of random words, the same each time, and prepares them in fresh
processes, by bytes and by a BPE tokenizer that is trained on their beginning: all of
them on all cores, and the beginning of them by one process. Reported are the MB of text
and tokens a second, checksums and writing included, and the largest resident memory of
all processes together. What was written is removed.
"""

import json
import pathlib
import shutil
import tempfile
import time

from absl import app, flags
import numpy as np

from benchmarks import common
from undo_jax.utils import tables

_GIGABYTES = flags.DEFINE_float("gigabytes", 3.0, "Size of the corpus, 1e9 bytes.")
_ALONE = flags.DEFINE_float("gigabytes_alone", 0.3, "Of it for one process.")
_DIRECTORY = flags.DEFINE_string("directory", None, "Where to write; default: /tmp.")
_TOKENIZERS = flags.DEFINE_list("tokenizers", ["bytes", "bpe"], "What to measure.")
_LENGTH = flags.DEFINE_integer("length", 1024, "Tokens a row.")
_JSON = flags.DEFINE_string("json", None, "File for the numbers.")
# Of the process that measures.
_CORPUS = flags.DEFINE_string("corpus", None, "Internal: the files.")
_TOKENIZER = flags.DEFINE_string("tokenizer", None, "Internal: its name.")
_WORKERS = flags.DEFINE_integer("workers", None, "Internal: their number.")
_OUTPUT = flags.DEFINE_string("output", None, "Internal: directory to make.")
_REPORT = flags.DEFINE_string("report", None, "Internal: file for the answer.")

NUM_WORDS = 50_000
BLOCK_WORDS = 2**20
WORDS_PER_DOCUMENT = 400  # On average; lengths are geometric, as unlike as texts'.
PACKAGES = ["numpy", "tokenizers", "tensorflow-datasets", "array-record"]


def generate(directory: pathlib.Path, size: float, small: float) -> None:
  """Write all.jsonl and its beginning, small.jsonl, of at least these bytes."""
  rng = np.random.default_rng(0)
  letters = np.array(list("etaoinshrdlucmfwypvbgkqjxz"))
  lengths = 1 + rng.poisson(4.5, NUM_WORDS)
  words = ["".join(rng.choice(letters, n)) for n in lengths]
  # Zipf's law: the n-th word comes with a probability in proportion to 1 / n.
  shares = np.cumsum(1 / np.arange(1, NUM_WORDS + 1))
  written, in_small = 0, True
  with open(directory / "all.jsonl", "w") as file:
    while written < size:
      drawn = np.searchsorted(shares, rng.random(BLOCK_WORDS) * shares[-1])
      ends = np.cumsum(rng.geometric(1 / WORDS_PER_DOCUMENT, BLOCK_WORDS // 300))
      chosen = [words[index] for index in drawn.tolist()]
      begin, lines = 0, []
      for end in ends[ends < BLOCK_WORDS].tolist():
        lines.append(json.dumps({"text": " ".join(chosen[begin:end])}))
        begin = end
      block = "\n".join(lines) + "\n"
      file.write(block)
      written += len(block)
      if in_small:
        with open(directory / "small.jsonl", "a") as beginning:
          beginning.write(block)
        in_small = written < small


def measure() -> None:
  """Prepare the corpus and reports rate and memory; runs in a process of its own."""
  common.as_launched()
  from undo_jax.data.documents import preparation
  from undo_jax.utils import environment

  source = preparation.Source(paths=[str(_CORPUS.value)])
  start = time.perf_counter()
  with environment.PeakMemory() as memory:
    summary = preparation.prepare(
      str(_OUTPUT.value),
      sources={"words": source},
      tokenizer=str(_TOKENIZER.value),
      length=int(_LENGTH.value or 0),
      packing="packed",
      seed=0,
      num_workers=_WORKERS.value,
    )
  seconds = time.perf_counter() - start
  counts = summary["sources"]["words"]
  written = sum(
    path.stat().st_size
    for path in pathlib.Path(str(_OUTPUT.value)).rglob("*")
    if path.is_file()
  )
  answer = {
    "seconds": seconds,
    "peak": memory.bytes,
    "bytes": counts["bytes"],
    "tokens": sum(counts["tokens"].values()),
    "documents": sum(counts["documents"].values()),
    "written": written,
  }
  common.report(str(_REPORT.value), answer)


def run(directory: pathlib.Path, tokenizer: str, corpus: str, workers: int):
  """Return what `measure` reports, and remove what it wrote."""
  output = directory / "output"
  try:
    return common.run_worker(
      "benchmarks.document_preparation",
      {
        "corpus": directory / corpus,
        "tokenizer": tokenizer,
        "workers": workers,
        "output": output,
        "length": _LENGTH.value,
      },
    )
  finally:
    shutil.rmtree(output, ignore_errors=True)


def train(directory: pathlib.Path) -> str:
  """Train a BPE tokenizer of 8000 ids on the corpus's beginning; return its name."""
  from undo_jax.data.tokenizers import training as tokenizer_training

  with open(directory / "all.jsonl") as file:
    sample = file.read(10_000_000).rpartition("\n")[0]
  (directory / "sample.jsonl").write_text(sample)
  path = directory / "tokenizer"
  tokenizer_training.train(
    [str(directory / "sample.jsonl")], path, kind="bpe", vocab_size=8000
  )
  return f"huggingface:{path}"


def main(argv: list[str]) -> None:
  """Measure and print a table."""
  del argv
  if _REPORT.value is not None:
    measure()
    return
  rows, answers = [], []
  with tempfile.TemporaryDirectory(dir=_DIRECTORY.value) as root:
    directory = pathlib.Path(root)
    generate(directory, float(_GIGABYTES.value or 0) * 1e9, (_ALONE.value or 0) * 1e9)
    for kind in _TOKENIZERS.value or ():
      tokenizer = "bytes" if kind == "bytes" else train(directory)
      for corpus, workers in (("small.jsonl", 1), ("all.jsonl", common.num_cores())):
        answer = run(directory, tokenizer, corpus, workers)
        answers.append({"tokenizer": kind, "workers": workers} | answer)
        megabytes, seconds = answer["bytes"] / 1e6, answer["seconds"]
        rows.append(
          [
            kind,
            workers,
            f"{megabytes / 1e3:.2f}",
            f"{seconds:.0f}",
            f"{megabytes / seconds:.1f}",
            f"{answer['tokens'] / seconds / 1e6:.2f}",
            f"{answer['peak'] / 1e9:.2f}",
            f"{answer['written'] / 1e9:.2f}",
          ]
        )
        print(rows[-1], flush=True)
  header = [
    "tokenizer",
    "workers",
    "GB",
    "s",
    "MB/s",
    "M tokens/s",
    "peak GB",
    "GB out",
  ]
  print(tables.markdown(header, rows))
  machine = common.describe(PACKAGES)
  print(common.machine_text(machine))
  common.write_json(_JSON.value, {"machine": machine, "runs": answers})


if __name__ == "__main__":
  app.run(main)
