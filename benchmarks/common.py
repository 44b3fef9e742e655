"""What the benchmarks share: fresh processes, allocators, quiet checks, tables."""

from collections.abc import Mapping, Sequence
import ctypes.util
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import app

ROOT = pathlib.Path(__file__).resolve().parent.parent
ALLOCATORS = ("default", "tcmalloc", "mallopt")
DISTURBED = 0.1  # Cores used by others above which a time is not to be trusted.
_TCMALLOC = "libtcmalloc_minimal.so.4"
_LIBRARY_DIRECTORIES = ("/usr/lib/{machine}-linux-gnu", "/usr/lib64", "/usr/local/lib")


class Stopwatch:
  """Times a block, and how much of the machine others used meanwhile.

  `seconds` is the wall time; `others` the cores that processes other than this
  one and its children kept busy on average (0.0: the machine was ours).
  """

  def __enter__(self):
    self._busy, self._own = _busy_seconds(), _own_seconds()
    self._start = time.perf_counter()
    return self

  def __exit__(self, *error):
    self.seconds = time.perf_counter() - self._start
    others = (_busy_seconds() - self._busy) - (_own_seconds() - self._own)
    self.others = max(0.0, others / self.seconds)


def _busy_seconds():
  """Return the seconds that all cores together were busy since boot."""
  import psutil

  times = psutil.cpu_times()
  idle = times.idle + getattr(times, "iowait", 0.0)
  # Linux counts a guest's time in user and nice already.
  guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
  return sum(times) - guest - idle


def _own_seconds():
  times = os.times()
  return times.user + times.system + times.children_user + times.children_system


def require(*packages: str) -> None:
  """Exit with one clear line if a package of the extra `bench` is missing."""
  missing = [name for name in packages if version(name) is None]
  if missing:
    sys.exit(
      f"error: this benchmark needs {', '.join(missing)}; "
      'install the extra: pip install -e ".[bench]"'
    )


def version(package: str) -> str | None:
  """Return the installed version of a package, or None."""
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None


def num_cores() -> int:
  """Return the number of cores that this process may use."""
  return (
    len(os.sched_getaffinity(0))
    if hasattr(os, "sched_getaffinity")
    else (os.cpu_count() or 1)
  )


def find_tcmalloc() -> str | None:
  """Return what LD_PRELOAD needs to load tcmalloc, or None if it is not there."""
  library = ctypes.util.find_library("tcmalloc_minimal")
  if library:
    return library
  for directory in _LIBRARY_DIRECTORIES:
    path = pathlib.Path(directory.format(machine=platform.machine())) / _TCMALLOC
    if path.exists():
      return str(path)
  return None


def available_allocators(chosen: Sequence[str]) -> list[str]:
  """Return the chosen allocators that this machine has; say which it lacks."""
  available = list(chosen)
  if "tcmalloc" in available and find_tcmalloc() is None:
    print(
      f"tcmalloc is not installed ({_TCMALLOC}; Debian: libtcmalloc-minimal4): "
      "its comparison is left out",
      file=sys.stderr,
    )
    available.remove("tcmalloc")
  return available


def use_cpu() -> None:
  """Keep JAX in this process and in the workers to the CPU."""
  import jax

  jax.config.update("jax_platforms", "cpu")
  os.environ["JAX_PLATFORMS"] = "cpu"


def as_launched() -> None:
  """Set this process's allocator as the library's launcher does.

  For the start of a process, which starts anew; see `allocator.use_huge_pages`.
  """
  from undo_jax.utils import allocator

  allocator.use_huge_pages()
  allocator.keep_freed_memory()


def draw_tokens(vocab_size: int, shape: tuple[int, ...], seed: int) -> Any:
  """Return token ids, int32, the same for every side."""
  import numpy as np

  return np.random.default_rng(seed).integers(0, vocab_size, shape, dtype=np.int32)


def batch_of(tokens: Any) -> dict[str, Any]:
  """Return rows [..., L + 1] as a batch of which every target counts."""
  import numpy as np

  targets = tokens[..., 1:]
  return {
    "inputs": tokens[..., :-1],
    "targets": targets,
    "mask": np.ones(targets.shape, np.float32),
  }


def checkpoint_directory(path: str | None) -> pathlib.Path:
  """Return the directory of the flag `checkpoint`.

  Raises:
    UsageError: if it holds no checkpoint of Hugging Face's format.
  """
  if not path or not (pathlib.Path(path) / "config.json").is_file():
    raise app.UsageError(
      f"--checkpoint: expected a Hugging Face directory with config.json, got {path}"
    )
  return pathlib.Path(path)


def run_worker(
  module: str, arguments: Mapping[str, Any], *, allocator: str = "default"
) -> dict[str, Any]:
  """Run a module's worker in a fresh process and return what it reports.

  Args:
    module: name of the module; it gets the arguments as flags, and the flag
      `report`, the file where it puts its answer by `report`.
    arguments: flags by name.
    allocator: tcmalloc is preloaded here; mallopt is up to the worker.

  Raises:
    RuntimeError: if the process fails, with the end of its error output.
  """
  with tempfile.TemporaryDirectory() as directory:
    path = pathlib.Path(directory) / "report.json"
    flags = [f"--{name}={value}" for name, value in arguments.items()]
    done = subprocess.run(
      [sys.executable, "-m", module, *flags, f"--report={path}"],
      cwd=ROOT,
      env=_environment(allocator),
      capture_output=True,
      text=True,
    )
    if done.returncode:
      raise RuntimeError(
        f"{module} {' '.join(flags)} failed with status {done.returncode}:\n"
        f"{done.stderr[-4000:]}"
      )
    return json.loads(path.read_text())


def run_undisturbed(
  module: str,
  arguments: Mapping[str, Any],
  *,
  allocator: str = "default",
  patience: float = 0.0,
) -> dict[str, Any]:
  """Run a worker, and again while others disturb it; see `run_worker`.

  Args:
    module: see `run_worker`, and there for the arguments and the allocator.
    arguments: flags by name.
    allocator: see there.
    patience: seconds, over all attempts, to wait for an idle machine and to run
      again where others used more than `DISTURBED` cores meanwhile, as the answer's
      `others` tells; then the last answer is taken as it is.
  """
  end = time.monotonic() + patience
  while True:
    _wait_for_idle(end)
    answer = run_worker(module, arguments, allocator=allocator)
    if answer["others"] <= DISTURBED or time.monotonic() >= end:
      return answer


def _wait_for_idle(end):
  """Wait until the machine is idle for two seconds, but not longer than `end`."""
  import psutil

  idle_seconds = 0
  while idle_seconds < 2 and time.monotonic() < end:
    busy_cores = psutil.cpu_percent(interval=1.0) / 100 * num_cores()
    idle_seconds = idle_seconds + 1 if busy_cores <= DISTURBED else 0


def report(path: str, answer: Mapping[str, Any]) -> None:
  """Hand a worker's answer to its parent."""
  pathlib.Path(path).write_text(json.dumps(answer))


def _environment(allocator):
  """Return this process's environment without what would blur a comparison."""
  unwanted = ("GLIBC_", "MALLOC_", "LD_PRELOAD", "JAX_COMPILATION_CACHE_", "XLA_FLAGS")
  environment = {
    name: value for name, value in os.environ.items() if not name.startswith(unwanted)
  }
  paths = [str(ROOT), environment.get("PYTHONPATH", "")]
  environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
  environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
  if allocator == "tcmalloc":
    environment["LD_PRELOAD"] = find_tcmalloc() or ""
  return environment


def describe(packages: Sequence[str]) -> dict[str, Any]:
  """Return machine, versions, commit, command and date."""
  return {
    "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    "cpu": _cpu_name(),
    "cores": num_cores(),
    "memory_gib": _memory_gib(),
    "platform": platform.platform(),
    "python": platform.python_version(),
    "versions": {name: version(name) for name in packages},
    "commit": _commit(),
    "command": " ".join(["python", *sys.orig_argv[1:]]),
  }


def _cpu_name():
  fields = {}
  try:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
      name, _, value = line.partition(":")
      fields.setdefault(name.strip(), value.strip())
  except OSError:  # Not Linux.
    return platform.processor() or platform.machine()
  name = fields.get("model name", platform.machine())
  if {"cpu family", "model"} <= set(fields):
    name += f" (family {fields['cpu family']}, model {fields['model']})"
  return name


def _memory_gib():
  import psutil

  return round(psutil.virtual_memory().total / 2**30, 1)


def _commit():
  """Return the commit, marked where the measured code differs from it."""
  commit = _git("rev-parse", "--short=12", "HEAD")
  changed = _git("status", "--porcelain", "undo_jax", "configs")
  return f"{commit} with uncommitted changes" if changed else commit


def _git(*arguments):
  try:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
  except OSError:  # No git here.
    return None
  return done.stdout.strip() or None


def spread(values: Sequence[float], digits: int = 2) -> str:
  """Return "median (min..max)"."""
  median, low, high = statistics.median(values), min(values), max(values)
  return f"{median:.{digits}f} ({low:.{digits}f}..{high:.{digits}f})"


def machine_text(machine: Mapping[str, Any]) -> str:
  """Return what `describe` found as Markdown lines."""
  versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
  return "\n".join(
    [
      f"- Machine: {machine['cpu']}, {machine['cores']} cores, "
      f"{machine['memory_gib']} GiB, {machine['platform']}",
      f"- Versions: Python {machine['python']}, {versions}",
      f"- Commit: {machine['commit']}, {machine['date']}",
      f"- Command: `{machine['command']}`",
    ]
  )


def write_json(path: str | None, content: Mapping[str, Any]) -> None:
  """Write the content to the path, if there is one."""
  if path:
    pathlib.Path(path).write_text(json.dumps(content, indent=2) + "\n")
