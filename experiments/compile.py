"""Compile every stage of a config for TPUs or GPUs that this machine lacks."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("compile")
