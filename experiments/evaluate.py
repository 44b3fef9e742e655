"""Score a model on the retain and forget tasks."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("evaluate")
