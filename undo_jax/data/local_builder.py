"""The TFDS builder of data that this project makes: there is nothing to download."""

import sys

import tensorflow_datasets as tfds


class LocalBuilder(tfds.core.GeneratorBasedBuilder):
  """A builder that writes array_record files and does not speak of downloads."""

  def __init__(self, **kwargs):
    super().__init__(file_format="array_record", **kwargs)

  def _log_download_bytes(self):
    """Says nothing: the size is not known before."""

  def _log_download_done(self):
    """Says nothing; whoever gives the examples tells how far it is."""


def prepare(builder: LocalBuilder) -> None:
  """Writes the dataset, unless it is there; bars of progress are for terminals."""
  if not sys.stderr.isatty():
    tfds.disable_progress_bar()
  builder.download_and_prepare()
