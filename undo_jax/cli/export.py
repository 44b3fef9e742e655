"""Export a model: weights, tokenizer and model card, as transformers reads them.

COMMAND:

  undo-jax export --checkpoint=WORKDIR/stages/NAME --output=DIR

The checkpoint is a trained stage's directory; an attack's, where --learning_rate
chooses the member; or a Hugging Face directory, where --adapter merges a LoRA of PEFT.
Adapters of an attack are merged, or with --peft written in PEFT's format. An output
that ends in .gguf is one file for llama.cpp, of a Llama (extra `gguf`).
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
  rate = flags.DEFINE_float("learning_rate", None, "Which member of an attack.")
  adapter = flags.DEFINE_string("adapter", None, "A directory of PEFT to merge.")
  peft = flags.DEFINE_bool("peft", False, "Write the adapters alone.")
  tokenizer = flags.DEFINE_string(
    "tokenizer", None, "As config.data.tokenizer; default: that of the run."
  )
  dtype = flags.DEFINE_enum(
    "dtype", None, DTYPES, "Type of the weights; default: as stored."
  )

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
