"""UNDO alone: noise the unlearned model at every alpha and distill it back in."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("distill")
