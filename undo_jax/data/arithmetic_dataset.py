"""The problems of the arithmetic task as a TFDS dataset, by what reads them."""

from collections.abc import Iterable, Iterator, Mapping
import dataclasses
import os
from typing import Any

import tensorflow_datasets as tfds

from undo_jax.data import arithmetic, local_builder
from undo_jax.utils.types import ConfigError

_SIZES = ("num_equations", "num_word_problems", "num_evaluation")
_SHARES = ("attacked_share", "validation_share")

Examples = Iterator[tuple[int, Mapping[str, str]]]


@dataclasses.dataclass(eq=False, kw_only=True)
class ArithmeticConfig(tfds.core.BuilderConfig):
  """What the dataset holds; the name is derived from the other fields.

  Attributes:
    name: The name of the dataset's subdirectory.
    seed: Of the training problems; a non-negative integer.
    evaluation_seed: Of the evaluation problems.
    num_equations: Training equations of each domain (retain, forget).
    num_word_problems: Training word problems of each domain.
    num_evaluation: Evaluation problems of each part, operation and kind; 0 leaves these
      splits out, since TFDS cannot write an empty one.
    attacked_share: Of the facts to be forgotten, what an attacker may learn.
    validation_share: Of all facts, what stop rules read; both together below 1.
  """

  name: str = dataclasses.field(init=False, default="")
  seed: int
  evaluation_seed: int
  num_equations: int
  num_word_problems: int
  num_evaluation: int
  attacked_share: float
  validation_share: float

  def __post_init__(self) -> None:
    fields = ("seed", "evaluation_seed", *_SIZES)
    values = {field: getattr(self, field) for field in fields}
    arithmetic.check_whole(**values)
    arithmetic.check_division(self.division)
    values |= {field: getattr(self, field) for field in _SHARES}
    if not self.num_equations + self.num_word_problems:
      raise ConfigError(
        "At least one of num_equations and num_word_problems must be positive, but "
        "both are 0; raise one of them, so that there is something to train on."
      )
    self.name = "-".join(f"{field}_{value}" for field, value in values.items())

  @property
  def division(self) -> arithmetic.Division:
    """Which facts are in which part."""
    return arithmetic.Division(
      attacked=self.attacked_share, validation=self.validation_share
    )


class ArithmeticDataset(local_builder.LocalBuilder):
  """Writes the problems of an `ArithmeticConfig` as a TFDS dataset."""

  VERSION = tfds.core.Version("2.0.0")

  def _info(self) -> tfds.core.DatasetInfo:
    features: dict[str, Any] = {
      name: tfds.features.Text() for name in ("prompt", "answer", "suffix", "fact")
    }
    features["operation"] = tfds.features.ClassLabel(names=arithmetic.OPERATIONS)
    features["kind"] = tfds.features.ClassLabel(names=arithmetic.KINDS)
    return local_builder.Info(
      builder=self,
      features=tfds.features.FeaturesDict(features),
      disable_shuffling=True,  # The streams are shuffled already.
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Examples]:
    del dl_manager  # There is nothing to download.
    config = self.builder_config
    assert isinstance(config, ArithmeticConfig)
    streams: dict[str, Iterable[arithmetic.Problem]] = {
      f"{domain}_train": arithmetic.problems(
        config.seed,
        operations=operations,
        num_equations=config.num_equations,
        num_word_problems=config.num_word_problems,
        split="train",
      )
      for domain, operations in (
        ("retain", arithmetic.RETAIN),
        ("forget", arithmetic.FORGET),
      )
    }
    if config.attacked_share:
      streams["attack_train"] = arithmetic.problems(
        config.seed,
        operations=arithmetic.FORGET,
        num_equations=config.num_equations,
        num_word_problems=config.num_word_problems,
        split="train",
        attacked=config.division,
      )
    for part in arithmetic.PARTS if config.num_evaluation else ():
      problems = arithmetic.evaluation_problems(
        config.evaluation_seed,
        num_per_task=config.num_evaluation,
        kinds=arithmetic.KINDS,
        division=config.division,
        part=part,
      )
      if problems:
        streams[part] = problems
    return {split: self._generate_examples(each) for split, each in streams.items()}

  def _generate_examples(self, stream: Iterable[arithmetic.Problem]) -> Examples:
    for index, problem in enumerate(stream):
      yield index, problem._asdict()


def build(
  directory: str | os.PathLike[str],
  *,
  seed: int,
  evaluation_seed: int,
  num_equations: int,
  num_word_problems: int,
  num_evaluation: int,
  attacked_share: float,
  validation_share: float,
) -> ArithmeticDataset:
  """Write the dataset under a directory, unless it is there already.

  TFDS writes into an "incomplete" directory and renames it at the end. A killed run
  can leave that one behind; it does no harm and may be deleted. Of two processes that
  build the same dataset at once, the slower fails and succeeds when run again.

  Args:
    directory: Where datasets are kept; every configuration has its subdirectory.
    seed: As in `ArithmeticConfig`, like the fields that follow.
    evaluation_seed: Of the evaluation problems.
    num_equations: See there.
    num_word_problems: See there.
    num_evaluation: See there.
    attacked_share: See there.
    validation_share: See there.

  Returns:
    The builder of the finished dataset.
  """
  config = ArithmeticConfig(
    seed=seed,
    evaluation_seed=evaluation_seed,
    num_equations=num_equations,
    num_word_problems=num_word_problems,
    num_evaluation=num_evaluation,
    attacked_share=attacked_share,
    validation_share=validation_share,
  )
  with local_builder.intact(directory):
    builder = ArithmeticDataset(config=config, data_dir=directory)
  local_builder.prepare(builder)
  return builder


def read(builder: ArithmeticDataset, split: str) -> list[arithmetic.Problem]:
  """Read a split of a finished dataset, in the order of its stream."""
  arithmetic.check_known("split", builder.info.splits, split)
  return [
    arithmetic.Problem(
      *(row[field].decode() for field in ("prompt", "answer", "suffix")),
      operation=arithmetic.OPERATIONS[row["operation"]],
      kind=arithmetic.KINDS[row["kind"]],
      fact=row["fact"].decode(),
    )
    for row in local_builder.records(builder, split)
  ]
