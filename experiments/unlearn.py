"""Unlearn: the models of the config whose phase is unlearn."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("unlearn")
