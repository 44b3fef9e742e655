"""Unlearn: the models of the config whose phase is unlearn.

COMMAND:

  undo-jax unlearn --config=CONFIG --workdir=DIR [--checkpoint=CHECKPOINT]

With --checkpoint, that model is unlearned in place of the base.
The same command resumes; finished stages are not run again.
"""

import functools

from undo_jax.cli import single

define = functools.partial(single.define, "unlearn")
