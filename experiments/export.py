"""Export a model: weights, tokenizer and model card, as transformers reads them."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("export")
