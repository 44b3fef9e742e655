"""The project's errors, in a file that processes without JAX can import."""


class ConfigError(ValueError):
  """A wrong configuration: what was expected, what it was, and how to fix it."""


class RunFailed(Exception):  # noqa: N818
  """The error that ended a run in another process: one line and an exit status."""

  def __init__(self, line: str, status: int):
    super().__init__(line)
    self.status = status
