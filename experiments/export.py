"""Hand a model to the ecosystem: weights, tokenizer and model card for transformers.

COMMAND:

  python -m experiments.export --checkpoint=WORKDIR/stages/NAME --output=DIR

The checkpoint is a trained stage's directory; an attack's, with --learning_rate for
the member that is wanted; or Hugging Face's, with --adapter to merge PEFT's LoRA.
Adapters of an attack are merged, or written as PEFT reads them with --peft.
"""

import logging
import pathlib

from absl import flags

from experiments import launch
from undo_jax.checkpoints import exporting
from undo_jax.models.config import DTYPES

LOGGER = logging.getLogger("undo_jax")
_CHECKPOINT = flags.DEFINE_string(
  "checkpoint", None, "What to export; see above.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "A new directory.", required=True)
_LEARNING_RATE = flags.DEFINE_float(
  "learning_rate", None, "Of the attack's member to export."
)
_ADAPTER = flags.DEFINE_string("adapter", None, "PEFT's directory, to be merged.")
_PEFT = flags.DEFINE_bool("peft", False, "Write the adapters alone.")
_TOKENIZER = flags.DEFINE_string(
  "tokenizer", None, "As config.data.tokenizer; default: the run's."
)
_DTYPE = flags.DEFINE_enum("dtype", None, DTYPES, "Of the weights; default: theirs.")


def main(argv: list[str]) -> None:
  """Writes the directory."""
  del argv
  checkpoint = pathlib.Path(str(_CHECKPOINT.value)).resolve()
  output = pathlib.Path(str(_OUTPUT.value)).resolve()
  rate, adapter = _LEARNING_RATE.value, _ADAPTER.value
  if _PEFT.value:
    exporting.export_adapter(checkpoint, output, learning_rate=rate)
  else:
    exporting.export(
      checkpoint,
      output,
      learning_rate=rate,
      adapter=None if adapter is None else pathlib.Path(adapter),
      tokenizer=_TOKENIZER.value,
      dtype=_DTYPE.value,
    )
  LOGGER.info("exported to %s", _OUTPUT.value)


if __name__ == "__main__":
  launch.run(main)
