"""Our errors, in a file of their own: processes without JAX raise them too."""


class ConfigError(ValueError):
  """A wrong configuration: what was expected, what it was, and how to fix it."""


class RunFailed(Exception):  # noqa: N818
  """What ended a run in another process, in one line, and its exit status."""

  def __init__(self, line: str, status: int):
    super().__init__(line)
    self.status = status
