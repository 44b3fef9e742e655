"""Hand a model to the ecosystem: weights, tokenizer and model card for transformers.

COMMAND:

  undo-jax export --checkpoint=WORKDIR/stages/NAME --output=DIR

The checkpoint is a trained stage's directory; an attack's, with --learning_rate for
the member that is wanted; or Hugging Face's, with --adapter to merge PEFT's LoRA.
Adapters of an attack are merged, or written as PEFT reads them with --peft. An output
that ends in .gguf is one file as llama.cpp reads it, of a Llama (extra `gguf`).
"""

import importlib
import logging
import pathlib

from absl import flags

from undo_jax.checkpoints import exporting
from undo_jax.cli.process import Main
from undo_jax.models.config import DTYPES
from undo_jax.utils.errors import ConfigError

LOGGER = logging.getLogger("undo_jax")


def define() -> Main:
  """Define the flags; the main writes the directory."""
  checkpoint = flags.DEFINE_string(
    "checkpoint", None, "What to export; see above.", required=True
  )
  output = flags.DEFINE_string(
    "output", None, "A new directory, or a new file FILE.gguf.", required=True
  )
  rate = flags.DEFINE_float("learning_rate", None, "Of the attack's member to export.")
  adapter = flags.DEFINE_string("adapter", None, "PEFT's directory, to be merged.")
  peft = flags.DEFINE_bool("peft", False, "Write the adapters alone.")
  tokenizer = flags.DEFINE_string(
    "tokenizer", None, "As config.data.tokenizer; default: the run's."
  )
  dtype = flags.DEFINE_enum("dtype", None, DTYPES, "Of the weights; default: theirs.")

  modules = flags.DEFINE_multi_string(
    "module", [], "A module of your own that the attack's config.json names."
  )

  def main(argv: list[str]) -> None:
    del argv
    for name in modules.value:
      try:
        importlib.import_module(name)
      except ImportError as error:
        raise ConfigError(f"--module={name} cannot be imported: {error}") from None
    source, target = (
      pathlib.Path(str(path.value)).resolve() for path in (checkpoint, output)
    )
    if peft.value:
      exporting.export_adapter(source, target, learning_rate=rate.value)
    else:
      is_file = target.suffix == ".gguf"
      export = exporting.export_gguf if is_file else exporting.export
      export(
        source,
        target,
        learning_rate=rate.value,
        adapter=None if adapter.value is None else pathlib.Path(adapter.value),
        tokenizer=tokenizer.value,
        dtype=dtype.value,
      )
    LOGGER.info("exported to %s", output.value)

  return main
