"""Pretrain the base and the data-filtering model.

COMMAND:

  undo-jax pretrain --config=CONFIG --workdir=DIR [--checkpoint=CHECKPOINT]

With --checkpoint, both continue training that model.
The same command resumes; finished stages are not run again.
"""

import functools

from undo_jax.cli import single

define = functools.partial(single.define, "pretrain")
