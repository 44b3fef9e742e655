"""How a model is moved toward random initialization before it is trained."""

import dataclasses
from typing import Annotated, Literal

from undo_jax.utils import records
from undo_jax.utils.records import FieldError, record

# (path regex, layers, alpha); () are all layers.
Rules = tuple[tuple[str, tuple[int, ...], float], ...]


@record
class Noise:
  """A model moved toward random initialization; see interpolation.toward_init."""

  alpha: float  # How far, in [0, 1]; 0: not at all.
  beta: float = 0.1  # Scale of the random weights, in [0, 1]; 0: pure shrinking.
  # Other alphas by path and layer; the first rule that names an entry decides.
  rules: Annotated[Rules, records.later(())] = ()
  # Standard deviation of normal noise that is added to every weight after that.
  std: Annotated[float, records.later(0.0)] = 0.0

  def __post_init__(self):
    records.unit(self, "alpha", "beta")
    records.not_negative(self, "std")
    for _, _, alpha in self.rules:
      if not 0 <= alpha <= 1:
        raise FieldError("rules", "alphas in [0, 1]", alpha)

  @property
  def is_on(self) -> bool:
    """Whether anything is noised."""
    return any((self.alpha, self.std, *(alpha for _, _, alpha in self.rules)))


@record
class NoiseShape:
  """The weights that get a noise's alpha, if not all of them do."""

  # saliency: the share of all weights with the highest F_forget / (F_forget +
  # F_retain), of squared gradients F; random: a random share; magnitude: the smallest;
  # dampening: see training.saliency.damped, whose alphas are multiplied by the noise's;
  # largest_singular, smallest_singular: of each matrix a share of its singular
  # directions, see interpolation.along_directions; None: all.
  by: (
    Literal[
      "saliency",
      "random",
      "magnitude",
      "dampening",
      "largest_singular",
      "smallest_singular",
    ]
    | None
  ) = None
  share: float = 0.5  # Of all weights, or of each matrix's directions.
  low: float = 0.0  # The alpha of the others.
  granularity: Literal["weight", "unit"] = "weight"
  selection: float = 10.0  # Of dampening.
  dampening: float = 1.0

  def __post_init__(self):
    records.unit(self, "share", "low")
    records.not_negative(self, "selection", "dampening")
    if self.is_singular and self.granularity != "weight":
      raise FieldError("granularity", f"weight with by={self.by}", self.granularity)

  @property
  def is_singular(self) -> bool:
    """Whether singular directions get the alpha, and not entries."""
    return self.by in ("largest_singular", "smallest_singular")


@record
class NoiseAgain:
  """Noise after training has begun: of the same strength, drawn anew."""

  every: int  # Updates between.
  times: int

  def is_due(self, updates: int) -> bool:
    """Whether noise is due after the given number of updates."""
    return updates % self.every == 0 and 1 <= updates // self.every <= self.times


def _mixtures() -> dict[str, str]:
  return {"forget": "unlearn_forget", "retain": "unlearn_retain"}


@record
class Saliency(NoiseShape):
  """A shape, and where its squared gradients come from."""

  model: str = "base"  # The entry whose gradients they are.
  # Of config.mixtures, by part: forget and retain.
  mixtures: dict[str, str] = dataclasses.field(default_factory=_mixtures)
  num_batches: int = 150  # Whose squared gradients are averaged, of each part.
  batch_size: int = 16  # Rows of each.

  def __post_init__(self):
    super().__post_init__()
    records.at_least(self, "num_batches", "batch_size", smallest=1)
    if {*self.mixtures} != {"forget", "retain"}:
      raise FieldError("mixtures", "a mixture for forget and retain", self.mixtures)

  @property
  def shape(self) -> NoiseShape | None:
    """Which weights are noised; None: all."""
    names = NoiseShape.__dataclass_fields__
    shape = NoiseShape(**{name: getattr(self, name) for name in names})
    return shape if self.by else None

  @property
  def reads_gradients(self) -> bool:
    """Whether it needs the squared gradients of a model."""
    return self.by in ("saliency", "dampening")

  @property
  def power(self) -> int:
    """Of the gradients that are averaged."""
    return 2


@record
class ShapedNoise(Noise):
  """The noise of a recipe: shaped by where a capability is, and again in training."""

  saliency: Saliency = Saliency()
  again_every: int | None = None  # Updates after which it is noised again; None: never.
  again_times: int = 1  # How often.

  def __post_init__(self):
    super().__post_init__()
    records.at_least(self, "again_every", "again_times", smallest=1)

  @property
  def is_on(self) -> bool:
    """Whether anything is noised."""
    return super().is_on or bool(self.saliency.by and self.saliency.low)

  @property
  def again(self) -> NoiseAgain | None:
    """When it is noised again."""
    every = self.again_every
    return None if every is None else NoiseAgain(every=every, times=self.again_times)

  @property
  def plain(self) -> Noise:
    """The noise without its shape."""
    names = Noise.__dataclass_fields__
    return Noise(**{name: getattr(self, name) for name in names})
