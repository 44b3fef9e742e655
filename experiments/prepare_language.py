"""Make the texts and the tokenizer of the task `language` from your own files."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("prepare_language")
