"""Hand a model to the ecosystem: weights, tokenizer and model card for transformers."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("export")
