"""Make a Hugging Face directory of a GGUF file: weights, tokenizer, chat template."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("import_gguf")
