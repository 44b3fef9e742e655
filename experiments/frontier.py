"""The frontier: every defense, every attack, every seed of a config, and its page."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("frontier")
