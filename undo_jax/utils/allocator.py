"""How glibc's malloc treats freed memory: settings of the host.

XLA's CPU client allocates its temporaries anew at each execution. By default glibc
returns blocks of 128 KiB and more to the kernel, and the page faults that follow cost
up to a third of a small step. Blocks kept in the heap cause no faults, but the large
temporaries of a real model then leave holes into which the next ones do not fit, and
gigabytes are wasted. Huge pages are the compromise: a large block may go back to the
kernel, because taking it again costs a fault every two mebibytes, not every four
kibibytes.
"""

import ctypes
import functools
import os
import pathlib
import platform
import sys

# Parameters of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
# Blocks from here on go back to the kernel, whose pages are huge or small.
_LARGE_BYTES = {True: 1 << 28, False: 1 << 30}
# JAX's event, and from how many seconds on the compiler leaves much.
_COMPILED, _MIN_SECONDS = "/jax/core/compile/backend_compile_duration", 0.05
_HUGE_PAGES = "glibc.malloc.hugetlb=1"
_KERNELS_HUGE_PAGES = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def use_huge_pages() -> None:
  """Start this program again with huge pages for malloc, if it has not got them.

  glibc (2.35 or newer) reads the choice, GLIBC_TUNABLES, when a program starts and
  never again; the process stays the same one. Does nothing for another C library, where
  the kernel has no huge pages to give, where the user has chosen otherwise
  (GLIBC_TUNABLES, MALLOC_ variables, LD_PRELOAD) or where the program was read from
  standard input. Call it in the first line of a program, since the program starts over.
  """
  chosen = [x for x in os.environ if x.startswith(("GLIBC_", "MALLOC_", "LD_PRELOAD"))]
  if chosen or sys.argv[0] in ("", "-") or not has_huge_pages():
    return
  sys.stdout.flush()
  os.environ["GLIBC_TUNABLES"] = _HUGE_PAGES
  os.execv(sys.executable, sys.orig_argv)  # noqa: S606  This program once more.


def has_huge_pages() -> bool:
  """Tell whether glibc can ask for huge pages and the kernel answers."""
  library, version = platform.libc_ver()
  if library != "glibc" or tuple(map(int, version.split("."))) < (2, 35):
    return False
  try:
    return "[never]" not in _KERNELS_HUGE_PAGES.read_text()
  except OSError:
    return False


def keep_freed_memory() -> bool:
  """Tell glibc to keep freed memory for the next allocation, except large blocks.

  Does nothing for another C library or where the user has set glibc's MALLOC_
  variables.

  Returns:
    Whether the settings were made.
  """
  if any(name.startswith("MALLOC_") for name in os.environ):
    return False
  if platform.libc_ver()[0] != "glibc":
    return False
  are_huge = _HUGE_PAGES in os.environ.get("GLIBC_TUNABLES", "")
  mallopt = ctypes.CDLL(None).mallopt
  settings = (
    (_M_MMAP_THRESHOLD, _LARGE_BYTES[are_huge]),
    (_M_TRIM_THRESHOLD, 2**31 - 1),
    (_M_ARENA_MAX, 1),
  )
  return all(mallopt(name, value) == 1 for name, value in settings)


@functools.cache  # One listener a process, however many commands it runs.
def return_after_compiling() -> None:
  """From now on return freed memory to the kernel after each compilation.

  XLA's compiler frees more than a small model takes, 0.2 GB for a program of a few
  layers; kept, it would only serve the next compilation.
  """
  import jax  # Here, since use_huge_pages comes before everything.

  def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
    del kwargs
    if event == _COMPILED and duration_secs > _MIN_SECONDS:
      return_freed_memory()

  jax.monitoring.register_event_duration_secs_listener(listen)


def return_freed_memory() -> None:
  """Return freed memory to the kernel, in glibc by malloc_trim.

  For the start of a stage: memory that was used before it may leave gigabytes of holes
  into which its own blocks do not fit.
  """
  if platform.libc_ver()[0] == "glibc":
    ctypes.CDLL(None).malloc_trim(0)
