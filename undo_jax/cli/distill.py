"""Noise and distill: UNDO's last two steps, at every alpha.

COMMAND:

  undo-jax distill --config=CONFIG --workdir=DIR [--checkpoint=CHECKPOINT]

With --checkpoint, that model is taken as the unlearned one.
The same command resumes; finished stages are not run again.
"""

import functools

from undo_jax.cli import single

define = functools.partial(single.define, "distill")
