"""The frontier: every defense, every attack, every seed of a config, and its page.

COMMAND:

  undo-jax frontier --config=frontier:tiny --workdir=DIR

The engine is that of `undo-jax undo`, which runs one table of models under one table
of attacks for each of the config's seeds: stages that seeds or models share are run
once, what is finished is never run again, and the same command resumes a run that was
stopped. Models, attacks and seeds may be added later to the same directory. --dry_run
prints the stages, what is there already, FLOPs, time and memory.
"""

from undo_jax.cli.undo import define

__all__ = ("define",)
