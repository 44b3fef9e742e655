"""Texts that models go on with from the same prompts, side by side."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("generate")
