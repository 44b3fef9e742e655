"""Errors of disks and of the machine's limits: one line instead of a traceback."""

from collections.abc import Iterator
import errno
import os
import re

# How to fix each. Errors that a fault of ours could raise are not among them.
_FIXES = {
  errno.ENOSPC: "free some of it",
  errno.EDQUOT: "free some of it, or ask for more",
  errno.EFBIG: "raise the limit on a file's size, ulimit -f",
  errno.EMFILE: "raise the limit on open files, ulimit -n",
  errno.ENFILE: "end something that holds many files open",
  errno.ENAMETOOLONG: "give a shorter path",
  errno.EROFS: "give a path that can be written",
  errno.EACCES: "give a path that may be read and written",
  errno.EPERM: "give a path that may be read and written",
  errno.EIO: "look after the disk, or give a path on another one",
  errno.ESTALE: "look after the shared disk",
}
# As TensorStore says it, in the text of a ValueError.
_CODE = re.compile(r"os_error_code='(\d+)'")
_QUOTED = re.compile(r'"(/[^"]*)"')


def explain(error: BaseException) -> str | None:
  """Return the line for an error of the machine; None for any other error."""
  for cause in _causes(error):
    code, name = _refused(cause)
    if code in _FIXES:
      where = f"{name}: " if name else ""
      return (
        f"{where}{os.strerror(code)}; {_FIXES[code]}, and give the same command again: "
        "what is saved is not lost"
      )
  return None


def _refused(error: BaseException) -> tuple[int, str]:
  """Return an error's code and path, where it says them."""
  if isinstance(error, OSError):
    name = error.filename
    return error.errno or 0, "" if name is None else os.fsdecode(str(name))
  code, quoted = _CODE.search(str(error)), _QUOTED.search(str(error))
  return int(code[1]) if code else 0, quoted[1] if quoted else ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
  """Yield an error with its causes and the errors that it groups."""
  while error is not None:
    yield error
    for inner in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
      yield from _causes(inner)
    error = error.__cause__ or error.__context__
