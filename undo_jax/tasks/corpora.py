"""Splits of the user's documents: what tasks with such splits share.

A corpus is a block of the config's data with the fields of preparation.Source, named
as its split. Its rows have `sequence_length` tokens, or the number in the block
`lengths`, if the data have one.
"""

from collections.abc import Collection, Iterable, Mapping
import itertools
import pathlib

from undo_jax.data import rows
from undo_jax.data.documents import preparation
from undo_jax.tasks.task import Data
from undo_jax.training.writers import Preparation
from undo_jax.utils import checks, streams
from undo_jax.utils.types import ConfigError, JsonObject, Rows

DIRECTORY = "corpora"
HELD_OUT = ("validation", "test")  # For stop rules and searches; for what is reported.


def length(data: Data, name: str) -> int:
  """Return L, the tokens of a row of a corpus."""
  return (data.get("lengths") or {}).get(name) or data["sequence_length"]


def source(data: Data, name: str) -> preparation.Source:
  """Return a corpus of the config's data.

  Raises:
    ConfigError: if a field cannot work; names it.
  """
  try:
    return preparation.Source(**dict(data[name].items()))
  except ConfigError as error:
    raise ConfigError(f"config.data.{name}.{error}") from None


def check(data: Data, names: Iterable[str], *, held_out: Collection[str] = ()) -> None:
  """Raise ConfigError unless each corpus exists, is readable and as expected.

  Those of `held_out` need documents for validation and for the test.
  """
  for name in names:
    if not data[name]["paths"]:
      checks.fail(f"data.{name}.paths", "paths of documents", data[name]["paths"])
    corpus = source(data, name)
    for split in HELD_OUT if name in held_out else ():
      if split not in corpus.splits:
        expected = "a share of the documents above 0, to be scored on"
        checks.fail(f"data.{name}.{split}_fraction", expected, 0)
    try:
      preparation.check(corpus)
    except ConfigError as error:
      raise ConfigError(f"config.data.{name}: {error}") from None


def content(data: Data, names: Iterable[str]) -> JsonObject:
  """Return the checksums of each corpus's files."""
  return {name: preparation.fingerprint(source(data, name)) for name in names}


def prepare(
  data: Data,
  names: Iterable[str],
  seeds: Mapping[str, int],
  directory: pathlib.Path,
  title: str,
) -> JsonObject:
  """Tokenize and pack the corpora; return what preparation.prepare says of each."""
  progress = Preparation(f"{title}: tokenizing")
  by_length: dict[int, list[str]] = {}
  for name in names:
    by_length.setdefault(length(data, name), []).append(name)
  prepared: JsonObject = {}
  for size, own in by_length.items():
    summary = preparation.prepare(
      directory / _subdirectory(data, size),
      sources={name: source(data, name) for name in own},
      tokenizer=data["tokenizer"],
      length=size,
      packing=data["packing"],
      seed=streams.integer(seeds["data"], "data"),
      progress=progress,
    )
    prepared |= summary["sources"]
  progress.close()
  return prepared


def _subdirectory(data: Data, size: int) -> str:
  """Return where corpora whose rows have `size` tokens are."""
  return DIRECTORY if size == data["sequence_length"] else f"{DIRECTORY}_{size}"


def check_held_out(data: Data, directory: pathlib.Path, names: Iterable[str]) -> None:
  """Raise ConfigError if training, validation and test of corpora share a text."""
  splits = ("train", *HELD_OUT)
  for name in names:
    of_corpus = [f"{name}_{split}" for split in splits]
    check_disjoint(data, directory, itertools.combinations(of_corpus, 2))


def check_disjoint(
  data: Data, directory: pathlib.Path, pairs: Iterable[tuple[str, str]]
) -> None:
  """Compare the texts of prepared splits, "NAME_train" or "NAME_test", say.

  Args:
    data: the config's.
    directory: of the data stage.
    pairs: of splits that must have no text in common.

  Raises:
    ConfigError: if two have; names the first files and lines.
  """
  for first, second in pairs:
    both = [content_hashes(data, directory, split) for split in (first, second)]
    overlap = preparation.overlap(*both)
    if overlap.count:
      raise ConfigError(
        f"the splits {first} and {second} share {overlap.count} documents, where none "
        f"was expected ({_places(overlap)}); remove them from one of the two"
      )


def check_lacks(
  data: Data,
  directory: pathlib.Path,
  splits: Iterable[str],
  texts: Mapping[str, str],
) -> None:
  """Look for texts of the evaluation among the documents of prepared splits.

  Args:
    data: the config's.
    directory: of the data stage.
    splits: "NAME_train", "NAME_validation" or "NAME_test".
    texts: the texts, each with what an error calls its place.

  Raises:
    ConfigError: if a split has one as a document; names the first of them.
  """
  evaluated = preparation.hashes(texts)
  for split in splits:
    overlap = preparation.overlap(content_hashes(data, directory, split), evaluated)
    if overlap.count:
      raise ConfigError(
        f"the split {split} holds {overlap.count} texts of the evaluation, where none "
        f"was expected ({_places(overlap)}); remove them from the corpus"
      )


def content_hashes(
  data: Data, directory: pathlib.Path, split: str
) -> preparation.Hashes:
  """Return the hashes of the documents of a prepared split, "NAME_test", say."""
  size = length(data, split.rpartition("_")[0])
  return preparation.content_hashes(directory / _subdirectory(data, size), split)


def _places(overlap: preparation.Overlap) -> str:
  return "; ".join(" and ".join(pair) for pair in overlap.examples)


def read(data: Data, directory: pathlib.Path, name: str, split: str) -> Rows:
  """Return random access to a corpus's rows of "train", "validation" or "test"."""
  size = length(data, name)
  return rows.source(
    directory / _subdirectory(data, size), length=size, split=f"{name}_{split}"
  )
