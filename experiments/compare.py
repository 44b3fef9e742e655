"""Several runs on one page: other seeds of their models, and other models beside them."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("compare")
