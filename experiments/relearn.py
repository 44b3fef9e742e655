"""Attack: relearn the forget data at every learning rate."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("relearn")
