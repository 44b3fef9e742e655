"""Evaluate a checkpoint on tasks of lm-evaluation-harness."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("harness")
