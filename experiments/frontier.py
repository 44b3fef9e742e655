"""Run every defense, attack and seed of a config, and report the frontier."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("frontier")
