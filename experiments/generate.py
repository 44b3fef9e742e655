"""Continue prompts with several models, and show their texts side by side."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("generate")
