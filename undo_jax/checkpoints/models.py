"""A checkpoint as a model that can be asked: its tokenizer, and what ends its texts."""

import dataclasses
import pathlib

from undo_jax.checkpoints import exporting, sources
from undo_jax.evaluation import continuations
from undo_jax.models.config import ModelConfig
from undo_jax.utils.types import ConfigError, JsonObject, Params


@dataclasses.dataclass(frozen=True)
class Model:
  """What a checkpoint holds."""

  directory: pathlib.Path
  config: ModelConfig
  params: Params
  tokenizer: str | None  # The run's, or that beside the weights; None: there is none.
  settings: JsonObject  # The config.json it came from, or empty.
  generation: JsonObject  # The generation_config.json beside that, or empty.

  @property
  def stops(self) -> tuple[int, ...]:
    """The ids that end a text; a damaged file that says so raises ConfigError."""
    return continuations.eos_ids(self.generation, self.settings, self.directory)

  def tokenizer_or(self, given: str | None) -> str:
    """Return the name of a given tokenizer, or else that of the checkpoint's own.

    Raises:
      ConfigError: if there is neither.
    """
    name = given or self.tokenizer
    if name is None:
      raise ConfigError(
        f"--tokenizer: expected a name, since {self.directory} has no tokenizer.json, "
        "got none; give it as data.tokenizer"
      )
    return name


def find(path: str) -> pathlib.Path:
  """Return the directory of a checkpoint, a stage's by its name; see sources.find."""
  return pathlib.Path(sources.find(pathlib.Path(path).expanduser().resolve()))


def read(
  path: str, *, learning_rate: float | None = None, dtype: str | None = None
) -> Model:
  """Read a checkpoint.

  Args:
    path: of a stage's directory or of Hugging Face's.
    learning_rate: which member of an attack; None: the checkpoint is no attack.
    dtype: of compute; None: the checkpoint's own.

  Raises:
    ConfigError: if there is no model, or no such member.
  """
  directory = find(path)
  made = exporting.read(directory, learning_rate=learning_rate)
  name = made.tokenizer
  if name is None and (directory / "tokenizer.json").is_file():
    name = f"{continuations.HUGGINGFACE}{directory}"
  config = dataclasses.replace(made.config, dtype=dtype or made.config.dtype)
  return Model(directory, config, made.params, name, made.settings, made.generation)
