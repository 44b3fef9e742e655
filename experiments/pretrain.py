"""Pretrain the base and the data-filtering model."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("pretrain")
