"""UNDO alone: noise the unlearned model at every alpha and distill it back in.

COMMAND:

  undo-jax distill --config=CONFIG --workdir=DIR [--checkpoint=CHECKPOINT]

With --checkpoint, that model is the unlearned one, whoever made it.
The same command resumes; finished stages are not run again.
"""

import functools

from undo_jax.cli import single

define = functools.partial(single.define, "distill")
