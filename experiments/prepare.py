"""Train a tokenizer on your own text files."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("prepare")
