"""Open the report of a finished run in the browser."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("open")
