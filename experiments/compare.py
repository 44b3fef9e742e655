"""Join several runs in one report: more seeds of the same models, or other models."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("compare")
