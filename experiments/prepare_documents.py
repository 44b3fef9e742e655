"""Prepare your own documents: local files to packed rows, on all cores."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("prepare_documents")
