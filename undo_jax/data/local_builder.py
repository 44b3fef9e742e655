"""The TFDS builder of data that this project makes: there is nothing to download."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import os
import sys
from typing import Any

import tensorflow_datasets as tfds

from undo_jax.utils.errors import ConfigError


class Info(tfds.core.DatasetInfo):
  """The dataset's description, which asks no network."""

  def initialize_from_bucket(self) -> None:
    """Do nothing.

    TFDS would look the dataset up in a bucket on the network, and leave a temporary
    directory behind each time.
    """


class LocalBuilder(tfds.core.GeneratorBasedBuilder):
  """A builder that writes array_record files and logs nothing about downloads."""

  def __init__(self, **kwargs):
    super().__init__(file_format="array_record", **kwargs)

  def _log_download_bytes(self):
    """Say nothing: the size is not known before."""

  def _log_download_done(self):
    """Log nothing; the source of the examples reports progress."""


def prepare(builder: LocalBuilder) -> None:
  """Write the dataset, unless it is there; bars of progress are for terminals."""
  if not sys.stderr.isatty():
    tfds.disable_progress_bar()
  builder.download_and_prepare()


def records(builder: LocalBuilder, split: str) -> Sequence[Mapping[str, Any]]:
  """Read all records of a split of a finished dataset.

  Raises:
    ConfigError: if its files are damaged.
  """
  untyped: Any = builder  # TFDS's decorators hide the method's parameters.
  with intact(builder.data_path):
    source = untyped.as_data_source(split=split)
    values = source.__getitems__(range(len(source)))  # At once: twice as fast.
    # What a record lacks, TFDS gives as None.
    if any(value is None for record in values for value in record.values()):
      raise EOFError("records are missing")
    return values


@contextlib.contextmanager
def intact(directory: str | os.PathLike[str]) -> Iterator[None]:
  """Report any error inside as damaged files, since the dataset is the project's own.

  Raises:
    ConfigError: in place of the readers' many kinds of errors.
  """
  try:
    yield
  except Exception as error:  # Of any kind: TFDS trusts what it reads.
    message = " ".join(str(error).split()) or type(error).__name__
    raise ConfigError(
      f"{directory} holds a damaged dataset ({message:.120}); delete the directory of "
      "its stage to make it again"
    ) from error
