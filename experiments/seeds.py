"""Several seeds of one config as one result: means, ranges, figures, a page."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("seeds")
