"""Measure what a model repeats, knows and reveals of MUSE's texts."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("muse")
