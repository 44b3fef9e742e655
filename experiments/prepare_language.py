"""Makes the texts and the tokenizer of the language setting from your own files."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("prepare_language")
