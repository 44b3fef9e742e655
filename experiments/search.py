"""Search the hyper-parameters of a config's models before its tables are run."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("search")
