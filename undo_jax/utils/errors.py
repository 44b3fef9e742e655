"""The one error of ours, in a file of its own: processes without JAX raise it too."""


class ConfigError(ValueError):
  """A wrong configuration: what was expected, what came, and how to mend it."""
