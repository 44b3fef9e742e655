"""The page of a finished run, in the browser of this machine."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("open")
