"""Where a stage reports: writers of its metrics, and a progress line for the reader."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import importlib.util
import json
import logging
import pathlib
import sys
import time
from typing import Protocol

import tqdm

from undo_jax.data.documents.division import Status
from undo_jax.training import trackers
from undo_jax.utils import extras, files
from undo_jax.utils.registry import Registry
from undo_jax.utils.types import ConfigError, JsonObject

LOGGER = logging.getLogger("undo_jax")


class Writer(Protocol):
  """Takes the rows of a stage."""

  def write(self, step: int, kind: str, **values: object) -> None:
    """Take a row; values are numbers or strings."""
    ...

  def close(self) -> None:
    """End."""
    ...


class NoWriter:
  """Writes nothing: of several processes the first one writes."""

  def write(self, step: int, kind: str, **values: object) -> None:
    """Write nothing."""

  def close(self) -> None:
    """Do nothing."""


class JsonlWriter:
  """One JSON object a line: {"step", "kind", ...}, flushed at each write."""

  def __init__(self, path: pathlib.Path, *, resume_step: int):
    """Open the file; drop rows after the checkpoint that training resumes from.

    Args:
      path: the file, made with its folder.
      resume_step: updates done; the evaluation at this step is taken again.
    """
    kept = [row for row in read_jsonl(path) if _precedes(row, resume_step)]
    files.write_text(path, "".join(json.dumps(row) + "\n" for row in kept))
    self._file = open(path, "a", encoding="utf-8")

  def write(self, step: int, kind: str, **values: object) -> None:
    """Append a row; values are numbers or strings."""
    row = {"step": step, "kind": kind, **values}
    self._file.write(json.dumps(row) + "\n")
    self._file.flush()

  def close(self) -> None:
    """Close the file."""
    self._file.close()


def _open_jsonl(mirror: files.Mirror, resume_step: int) -> Writer:
  mirror.fetch("metrics.jsonl")
  return JsonlWriter(mirror.local / "metrics.jsonl", resume_step=resume_step)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WriterKind:
  """How a writer of a stage is opened: the record of a writer.

  A writer that fails but is not needed is logged once and left out; it ends no run.
  """

  # (mirror of the stage's directory, updates done) -> writer; what it writes under
  # mirror.local gets to the stage's directory.
  open: Callable[[files.Mirror, int], Writer]
  is_needed: bool = False  # Its errors end the run.
  library: str | None = None  # What it imports, where that is an extra.


REGISTRY: Registry[WriterKind] = Registry(
  "writer",
  WriterKind,
  {
    "jsonl": WriterKind(open=_open_jsonl, is_needed=True),
    "mlflow": WriterKind(open=trackers.MLflow, library="mlflow"),
    "tensorboard": WriterKind(open=trackers.TensorBoard),
    "trackio": WriterKind(open=trackers.Trackio, library="trackio"),
    "wandb": WriterKind(open=trackers.WeightsAndBiases, library="wandb"),
  },
)


def check(name: str) -> None:
  """Raise ConfigError where there is no such writer, or its library is missing."""
  library = REGISTRY.get(name).library
  if library and importlib.util.find_spec(library) is None:
    raise extras.needed(library, ImportError(f"the writer {name!r} needs {library}"))


class StageWriter:
  """Gives the rows of a stage to several writers."""

  def __init__(
    self,
    mirror: files.Mirror,
    names: Sequence[str],
    *,
    resume_step: int,
    may_write: Callable[[], bool] = lambda: True,
  ):
    """Open the writers.

    Args:
      mirror: of the stage's directory.
      names: of REGISTRY, or MODULE:NAME.
      resume_step: updates done.
      may_write: asked at each row; where it says no, the row is left out.

    Raises:
      ConfigError: if there is no such writer.
    """
    self._mirror, self._may_write = mirror, may_write
    self._kinds = {name: REGISTRY.get(name) for name in names}
    self._writers: dict[str, Writer] = {}
    for name, kind in self._kinds.items():
      with self._dropped(name):
        self._writers[name] = kind.open(mirror, resume_step)

  def write(self, step: int, kind: str, **values: object) -> None:
    """Give a row to all."""
    if not self._may_write():
      return
    for name, writer in list(self._writers.items()):
      with self._dropped(name):
        writer.write(step, kind, **values)
    self._mirror.sync()

  def close(self) -> None:
    """Close all."""
    for name, writer in list(self._writers.items()):
      with self._dropped(name):
        writer.close()
    if self._may_write():
      self._mirror.sync(now=True)

  @contextlib.contextmanager
  def _dropped(self, name: str) -> Iterator[None]:
    """Log what a writer raises, and leave that writer out from then on."""
    try:
      yield
    except Exception as error:
      if self._kinds[name].is_needed:
        raise
      self._writers.pop(name, None)
      LOGGER.warning(
        "the writer %r failed and is left out from here on: %s: %s",
        name,
        type(error).__name__,
        error,
      )


def read_jsonl(path: files.Path) -> list[JsonObject]:
  """Read the rows of a file; a last line cut off by a kill is left out.

  Raises:
    ConfigError: if another line is no row any more.
  """
  if not path.exists():
    return []
  *lines, last = path.read_bytes().split(b"\n")
  rows = [_row(line) for line in lines]
  if last:  # It has no end.
    rows.append(_row(last))
    rows = rows if rows[-1] is not None else rows[:-1]
  for number, row in enumerate(rows, start=1):
    if row is None:
      raise ConfigError(
        f"{path}, line {number} is damaged, expected a row with step and kind; bring "
        "the file back from a copy, or delete the stage's directory and start again"
      )
  return [row for row in rows if row is not None]


def _row(line: bytes) -> JsonObject | None:
  """Return a row, None if a line is none."""
  try:
    row = json.loads(line)
  except (ValueError, RecursionError):
    return None
  is_row = isinstance(row, dict) and isinstance(row.get("kind"), str)
  return row if is_row and type(row.get("step")) is int else None


def _precedes(row, step):
  return row["step"] < step or (row["step"] == step and row["kind"] != "evaluation")


class Progress:
  """The stage that runs, its rate and the time left.

  A bar on a terminal; otherwise a log line every ten seconds. Of several processes the
  first one shows it.
  """

  SECONDS = 10.0

  def __init__(self, title: str, *, total: int, initial: int, unit: str = "update"):
    terminal = sys.stderr.isatty() and LOGGER.isEnabledFor(logging.INFO)
    self._title = title
    self._last = time.monotonic()
    self._lines = not terminal
    self._bar = tqdm.tqdm(
      total=total,
      initial=initial,
      desc=title,
      unit=f" {unit}s",
      disable=not terminal,
      dynamic_ncols=True,
      leave=False,
    )
    self._start, self._initial, self._total = time.monotonic(), initial, total
    self._unit, self._done, self._note = unit, initial, ""
    LOGGER.info("%s: %d of %d %ss", title, initial, total, unit)

  def note(self, text: str) -> None:
    """Set the text at the end of the line."""
    self._note = text
    self._bar.set_postfix_str(text, refresh=False)

  def update(self, amount: int) -> None:
    """Count `amount` more units done."""
    self._done += amount
    self._bar.update(amount)
    if self._lines and time.monotonic() - self._last >= self.SECONDS:
      self._last = time.monotonic()
      LOGGER.info("%s: %s  %s", self._title, self._meter(), self._note)

  def close(self) -> None:
    """Take the bar away and log the stage's time and rate."""
    self._bar.close()
    LOGGER.info("%s: %s  %s", self._title, self._meter(), self._note)

  def _meter(self):
    seconds = max(time.monotonic() - self._start, 1e-9)
    rate = (self._done - self._initial) / seconds
    left = (self._total - self._done) / rate if rate else float("inf")
    left = tqdm.tqdm.format_interval(left) if rate else "?"
    return f"{self._done}/{self._total} {self._unit}s, {rate:.1f}/s, {left} left"


class Preparation:
  """The progress of documents.prepare: its rates, source by source.

  Pass an instance as `progress`, and `close` it.

  Attributes:
    last: the last status; None if there was nothing to do.
  """

  def __init__(self, title: str):
    self._title = title
    self.last: Status | None = None
    self._progress: Progress | None = None
    self._start = 0.0

  def __call__(self, status: Status) -> None:
    """Show how far a source is."""
    last = self.last
    if self._progress is None or last is None or last.source != status.source:
      self.close()
      self._start = time.monotonic()
      self._progress = Progress(
        f"{self._title}: {status.source}",
        total=_megabytes(status.total_bytes),
        initial=0,
        unit="megabyte",
      )
      last = status._replace(file_bytes=0)
    seconds = max(time.monotonic() - self._start, 1e-9)
    self._progress.note(
      f"{status.documents} documents, {status.documents / seconds:.0f}/s; "
      f"{status.tokens} tokens, {status.tokens / seconds:.0f}/s"
    )
    done = _megabytes(status.file_bytes) - _megabytes(last.file_bytes)
    self._progress.update(done)
    self.last = status

  def close(self) -> None:
    """End the line of the last source."""
    if self._progress is not None:
      self._progress.close()
    self._progress = None


def _megabytes(num_bytes: int) -> int:
  return round(num_bytes / 1e6)
