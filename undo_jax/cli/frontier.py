"""Run every defense, attack and seed of a config, and report the frontier.

COMMAND:

  undo-jax frontier --config=frontier:tiny --workdir=DIR

It works as `undo-jax undo`: every model of the config is put under every attack, for
each of the config's seeds. Stages that seeds or models share are run once, a finished
stage is never run again, and the same command resumes a run that was stopped. Models,
attacks and seeds may be added later to the same directory. --dry_run prints the
stages, what is finished already, FLOPs, time and memory.
"""

from undo_jax.cli.undo import define

__all__ = ("define",)
