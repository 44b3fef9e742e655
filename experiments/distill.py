"""Noise and distill: UNDO's last two steps, at every alpha."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("distill")
