"""How every command starts and ends: flags, help, processes, logging, exit status.

Exit status: 0 done; 1 training diverged, 2 a wrong config or flag, or a disk error,
each with one line that says why; 75 (EX_TEMPFAIL) stopped by SIGTERM with everything
saved; start it again to go on.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import gc
import importlib
import logging
import sys
import textwrap
from typing import NoReturn

from absl import app, flags
from absl import logging as absl_logging

from undo_jax.distributed import preemption
from undo_jax.utils import allocator, compilation_cache, disks, extras
from undo_jax.utils.errors import ConfigError, RunFailed

LOGGER = logging.getLogger("undo_jax")
# What a command does once the flags are read; it gets what is no flag, as absl's mains.
Main = Callable[[list[str]], None]


def run_command(name: str) -> None:
  """Run a command of undo_jax.cli: its flags, then its main."""
  with one_line():
    module = importlib.import_module(f"undo_jax.cli.{name}")
    if not gc.isenabled():  # See cli.run.
      gc.freeze()
      gc.enable()
    main = module.define()
  run(main, page=module.__doc__ or "")


def run(main: Main, *, page: str) -> None:
  """Run a main by its flags, which are defined already; `page` is its help."""

  def guarded(argv: list[str]) -> None:
    with one_line():
      _show_progress()
      if allocator.keep_freed_memory():
        allocator.return_after_compiling()
      compilation_cache.use()
      _meet()
      preemption.listen()
      main(argv)

  def parse(argv: Sequence[str]) -> list[str]:
    if {"-h", "-help", "--help", "--helpshort"} & set(argv[1:]):
      print(_help(page))
      sys.exit(0)
    return _parse(argv)

  app.run(guarded, flags_parser=parse)


def define_distributed() -> None:
  """Define the flags that make a process one of several."""
  flags.DEFINE_bool(
    "distributed",
    False,
    "Run as one of several processes, of which the cluster's environment tells (Cloud "
    "TPU, Slurm, Open MPI, Kubernetes); or else the next flags, any of which implies "
    "it.",
  )
  flags.DEFINE_string("coordinator_address", None, "HOST:PORT of the first process.")
  flags.DEFINE_integer("num_processes", None, "How many there are.")
  flags.DEFINE_integer("process_id", None, "Which this one is, from 0.")


def _meet() -> None:
  """Make this process one of several, if it has the flags and they say so."""
  if "distributed" not in flags.FLAGS:
    return
  names = ("coordinator_address", "num_processes", "process_id")
  where = [flags.FLAGS[name].value for name in names]
  if not flags.FLAGS["distributed"].value and where == [None, None, None]:
    return
  from undo_jax.distributed import processes  # Here, since it needs Orbax.

  processes.initialize(*where)
  if not processes.is_first():
    LOGGER.setLevel(logging.WARNING)


def _show_progress() -> None:
  """Show our own log lines, and of the libraries only the errors."""
  absl_logging.set_verbosity(absl_logging.ERROR)
  absl_logging.get_absl_logger().addFilter(_is_other_than_refusal)
  handler = logging.StreamHandler(sys.stderr)
  handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
  LOGGER.handlers = [handler]
  LOGGER.setLevel(logging.INFO)
  LOGGER.propagate = False


def _is_other_than_refusal(record: logging.LogRecord) -> bool:
  """Whether a library's error is not one that ends the process by one line anyway.

  Each of Orbax's threads logs a traceback of what the disk has refused.
  """
  error = record.exc_info[1] if record.exc_info else None
  return error is None or disks.explain(error) is None


@contextlib.contextmanager
def one_line() -> Iterator[None]:
  """End the process with one line on errors whose cause is known."""
  try:
    yield
  except ConfigError as error:
    _exit(str(error))
  except FloatingPointError as error:
    _exit(str(error), status=1)
  except RunFailed as error:
    _exit(str(error), status=error.status)
  except preemption.Preempted as error:
    LOGGER.info("%s; the same command goes on from there", error)
    sys.exit(preemption.EXIT_STATUS)
  except Exception as error:
    is_module = isinstance(error, ModuleNotFoundError)
    explained = extras.explain(error) if is_module else disks.explain(error)
    if explained is None:
      raise
    _exit(str(explained))


def _parse(argv: Sequence[str]) -> list[str]:
  try:
    return flags.FLAGS(argv)
  # What ml_collections raises on overrides that do not fit.
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
    # absl puts the flag, which the message names already, before a ConfigError.
    cause = error.__context__
    _exit(str(cause if isinstance(cause, ConfigError) else error))


def _exit(message: str, *, status: int = 2) -> NoReturn:
  """End by one line; what a file has put into it moves no cursor and hides nothing."""
  line = " ".join(message.split())
  shown = (c if c.isprintable() else ascii(c)[1:-1] for c in line)
  print("error:", "".join(shown), file=sys.stderr)
  sys.exit(status)


def _help(page: str) -> str:
  """Return a command's docstring and its own flags, without those of libraries."""
  defined = flags.FLAGS.flags_by_module_dict().items()
  own = [
    flag for module, of in defined if module.startswith("undo_jax.") for flag in of
  ]
  return "\n".join([page.strip(), "", *map(_line, own)])


def _line(flag: flags.Flag) -> str:
  """Return a flag's lines on a page of help."""
  name = f"  --{'[no]' if flag.boolean else ''}{flag.name}".ljust(25)
  default = "" if flag.default is None else f" Default: {flag.default}."
  text = " ".join(f"{flag.help or ''}{default}".split())
  return textwrap.fill(
    text, 88, initial_indent=f"{name} ", subsequent_indent=" " * (len(name) + 1)
  )
