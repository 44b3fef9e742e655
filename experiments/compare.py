"""Several runs on one page: more seeds of their models, other models beside them."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("compare")
