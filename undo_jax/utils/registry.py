"""Records by name: the project's from a table, a user's from a module.

The file of a method, attack, task, ... ends in its record. So does a user's own file,
which a config names as `my_methods.npo:METHOD`.
"""

from collections.abc import Iterator, Mapping
import importlib
import sys
from typing import Generic, NoReturn, TypeVar

from undo_jax.utils.errors import ConfigError

T = TypeVar("T")


class Registry(Generic[T]):
  """Records of one kind by name; iteration gives the project's names, in order."""

  def __init__(self, kind: str, record: type[T], known: Mapping[str, T]):
    """Take ours.

    Args:
      kind: what errors call a record.
      record: the class of the records.
      known: ours by name.
    """
    self._kind, self._record, self._known = kind, record, dict(known)

  def get(self, name: str) -> T:
    """Return the record of that name, or the one that "MODULE:NAME" says.

    Args:
      name: one of ours, or a module that Python finds and a name in it.

    Raises:
      ConfigError: if there is no such record, the module cannot be imported, or what
        it holds under that name is of another class.
    """
    if name in self._known:
      return self._known[name]
    module, _, attribute = str(name).partition(":")
    if not module or not attribute or module.startswith("."):
      self._fail(name)
    try:
      record = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
      self._fail(name, f" ({error})")
    if not isinstance(record, self._record):
      of = type(record).__name__
      self._fail(name, f" (a {self._record.__name__}, and that is of type {of})")
    return record

  def recorded(self, name: str) -> T | None:
    """Return the record that a file of a run or a model names, if it is known.

    Nothing is imported because a file says so: of others' records known are those
    whose modules this process has imported already.

    Raises:
      ConfigError: as `get`, of a module that has been imported.
    """
    is_known = name in self._known or str(name).partition(":")[0] in sys.modules
    return self.get(name) if is_known else None

  def _fail(self, name: str, why: str = "") -> NoReturn:
    raise ConfigError(
      f"expected as {self._kind} one of {', '.join(self)} or MODULE:NAME{why}, got "
      f"{name!r}"
    )

  def __iter__(self) -> Iterator[str]:
    return iter(self._known)
