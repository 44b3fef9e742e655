"""Run UNDO end to end: pretrain, unlearn, noise, distill, attack, report."""

from undo_jax import cli

if __name__ == "__main__":
  cli.run("undo")
