"""Make a Hugging Face directory of a GGUF file: weights, tokenizer, chat template.

COMMAND:

  undo-jax import_gguf --file=MODEL.gguf --output=DIR

Llama-family models (Llama, SmolLM, Mistral, TinyLlama) are read, quantized or not.
--checkpoint and config.models.NAME.checkpoint take the output, together with
config.data.tokenizer=huggingface:DIR.
"""

import logging
import pathlib

from absl import flags

from undo_jax.cli.process import Main
from undo_jax.models.config import DTYPES

LOGGER = logging.getLogger("undo_jax")


def define() -> Main:
  """Define the flags; the main writes the directory."""
  file = flags.DEFINE_string("file", None, "A GGUF file.", required=True)
  output = flags.DEFINE_string("output", None, "A new directory.", required=True)
  dtype = flags.DEFINE_enum("dtype", "float32", DTYPES, "Type of weights.")

  def main(argv: list[str]) -> None:
    del argv
    from undo_jax.checkpoints import importing  # Here, since it needs gguf.

    source, target = (
      pathlib.Path(str(path.value)).expanduser().resolve() for path in (file, output)
    )
    importing.import_gguf(source, target, dtype=str(dtype.value))
    LOGGER.info("imported to %s", target)

  return main
