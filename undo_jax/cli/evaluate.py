"""Score a model on the retain and forget tasks.

COMMAND:

  undo-jax evaluate --config=CONFIG --workdir=DIR [--checkpoint=CHECKPOINT]

Without --checkpoint, every model of the config is scored, and trained first if it is
not yet; --models names some of them.
The same command resumes; finished stages are not run again.
"""

import functools

from undo_jax.cli import single

define = functools.partial(single.define, "evaluate")
