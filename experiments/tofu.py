"""Measure how well a model forgot TOFU's authors, and what it still knows."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("tofu")
