"""Models that a run is given: a stage's directory of ours, or Hugging Face's."""

from collections.abc import Iterator
import dataclasses
import hashlib
import re

import jax

from undo_jax.models import huggingface
from undo_jax.models.config import ModelConfig
from undo_jax.plan import stages
from undo_jax.plan.stages import AblateStage, GivenStage, Stage, TrainStage
from undo_jax.training.checkpointing import load_params
from undo_jax.utils import files
from undo_jax.utils.types import ConfigError, Params

# What the run decides, whatever the checkpoint was made with.
HOW = ("dtype", "remat", "scan_unroll", "logits_chunk", "attention")


@dataclasses.dataclass(frozen=True)
class Source:
  """A directory that holds a model."""

  path: files.Path
  is_stage: bool  # Ours, or else Hugging Face's.
  model: ModelConfig
  fingerprint: str  # 12 hex digits of the hash of the weights' and config's bytes.


def find(path: files.Path) -> files.Path:
  """Return a stage's directory by its name: WORKDIR/stages/base finds base-<hash>.

  A path that exists is itself.

  Raises:
    ConfigError: if the path does not exist and no or several stages have that name.
  """
  if path.exists():
    return path
  candidates = sorted(
    other
    for other in path.parent.glob(f"{path.name}-*")
    if re.fullmatch(re.escape(path.name) + "-[0-9a-f]{12}", other.name)
  )
  if len(candidates) == 1:
    return candidates[0]
  names = ", ".join(other.name for other in candidates)
  raise ConfigError(
    "--checkpoint must be a directory (a stage's, or Hugging Face's), got "
    + (f"{path}, which may be any of {names}" if candidates else f"{path}")
  )


def open_source(path: files.Path, how: ModelConfig | None = None) -> Source:
  """Read what a directory holds, without its weights' values.

  Args:
    path: WORKDIR/stages/<name>-<identity> (see `find`), or a directory with
      config.json and safetensors.
    how: the run's decoder, whose HOW fields the model takes over; None: it keeps its
      own.

  Raises:
    ConfigError: if it is neither, is not finished, or holds no single model.
  """
  path = find(path)
  is_stage = _is_stage(path)
  if not is_stage and files.is_remote(path):
    raise ConfigError(
      f"--checkpoint: expected a stage of a run or a directory of this machine, got "
      f"{path}; copy it here"
    )
  if is_stage:
    content = files.read_record(path / "config.json")
    stage = stages.from_json(content, path=str(path / "config.json"))
    if isinstance(stage, GivenStage):  # It holds scores alone.
      return _open_given(path, stage, content["path"], how)
    model = _stage_model(path, stage)
  else:
    model = huggingface.read_config(path)
  if how is not None:
    changes = {name: getattr(how, name) for name in HOW}
    model = dataclasses.replace(model, **changes)
  return Source(path, is_stage, model, _fingerprint(path, is_stage))


def load(source: Source, abstract: Params) -> Params:
  """Read the weights into float32 arrays with the shardings of `abstract`."""
  if source.is_stage:
    return load_params(source.path / "checkpoints", abstract)
  shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
  _, params = huggingface.load(
    source.path, dtype="float32", shardings=lambda config, shapes: shardings
  )
  return params


def _is_stage(path: files.Path) -> bool:
  return (path / "checkpoints").is_dir() or (path / "done.json").is_file()


def _open_given(
  path: files.Path, stage: GivenStage, checkpoint: str, how: ModelConfig | None
) -> Source:
  source = open_source(files.path(checkpoint), how)
  if source.fingerprint != stage.fingerprint:
    raise ConfigError(
      f"{source.path} is not the model that {path} was given: its content has "
      "changed; give the original"
    )
  return source


def _stage_model(path: files.Path, stage: Stage) -> ModelConfig:
  if not isinstance(stage, TrainStage | AblateStage):
    raise ConfigError(
      f"{path} is a stage of kind {stage.KIND!r}, which holds no single model; "
      "give that of a trained model"
    )
  if not (path / "done.json").is_file():
    raise ConfigError(
      f"the stage {path} is not finished: it has no done.json; run its command again "
      "to finish it"
    )
  return stage.model


def _fingerprint(path: files.Path, is_stage: bool) -> str:
  digest = hashlib.sha256()
  for file in _contents(path, is_stage):
    digest.update(file.relative_to(path).as_posix().encode())
    own = hashlib.sha256()
    with file.open("rb") as opened:
      while block := opened.read(2**20):
        own.update(block)
    digest.update(own.digest())
  return digest.hexdigest()[:12]


def _contents(path: files.Path, is_stage: bool) -> Iterator[files.Path]:
  yield path / "config.json"
  if is_stage:
    yield from files.tree(path / "checkpoints")
  else:
    yield from sorted(path.glob("*.safetensors"))
