"""Attack: relearn the forget data at every learning rate.

COMMAND:

  undo-jax relearn --config=CONFIG --workdir=DIR [--checkpoint=CHECKPOINT]

With --checkpoint, that model is attacked; else every model of the config.
The same command resumes; finished stages are not run again.
"""

import functools

from undo_jax.cli import single

define = functools.partial(single.define, "relearn")
