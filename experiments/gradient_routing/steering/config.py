"""The config, which checks itself; configs/gradient_routing describes its fields."""

import dataclasses

from experiments.gradient_routing.stories import corpus, words
from experiments.gradient_routing.stories.config import Shared
from undo_jax.utils import checks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Routing:
  """The word whose gradients are routed, and where to."""

  word: str
  layers: tuple[int, ...]
  dimension: int
  weight: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steering:
  """What is added to the dimension while stories are sampled."""

  layer: int
  strengths: tuple[float, ...]
  num_samples: int
  num_tokens: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Shared):
  """The whole study."""

  num_top: int
  routing: Routing
  steering: Steering

  def __post_init__(self):
    super().__post_init__()
    model, routing, steering = self.model, self.routing, self.steering
    some = routing.layers
    if not some or min(some) < 0 or max(some) >= model.num_layers:
      expected = f"layers in [0, {model.num_layers})"
      checks.fail("routing.layers", expected, routing.layers)
    if not 0 <= steering.layer < model.num_layers:
      checks.fail("steering.layer", f"a layer below {model.num_layers}", steering.layer)
    if not 0 <= routing.dimension < model.width:
      expected = f"an index below {model.width}"
      checks.fail("routing.dimension", expected, routing.dimension)
    if not model.mlp_bias or model.post_norms:
      checks.fail(
        "model.mlp_bias", "True, and post_norms False: steering is a bias", ""
      )
    checks.numbers(self, "steering.strengths")
    if 0.0 not in steering.strengths:
      checks.fail("steering.strengths", "numbers, one of them 0", steering.strengths)
    if not checks.is_number(routing.weight):
      checks.fail("routing.weight", "a number", routing.weight)
    for name in ("steering.num_samples", "steering.num_tokens", "num_top"):
      checks.at_least(self, name, 1)
    tokenizer = corpus.make_tokenizer(self.data.tokenizer)
    if len(tokenizer.encode(f" {routing.word}")) != 1:
      expected = f"a word that {self.data.tokenizer!r} has as one"
      checks.fail("routing.word", expected, routing.word)

  @property
  def topic_words(self) -> list[str]:
    """The other words of the word's topic."""
    topic = self.data.forget_words or words.topic_words("forest")
    return [word for word in topic if word != self.routing.word]
