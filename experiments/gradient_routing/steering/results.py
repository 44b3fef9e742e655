"""The results of the study: results.json and its table."""

from collections.abc import Mapping
from typing import TypedDict

from experiments.gradient_routing.steering.config import Config
from experiments.gradient_routing.stories.batches import NAMES
from undo_jax.utils import tables

MODELS = {"routed": True, "control": False}  # Whether the word is routed.


class Projection(TypedDict):
  """The vocabulary's projection on the dimension; see measures.projection."""

  score: float  # The word's.
  rank: int  # The word's; 1 is the highest.
  auc: float  # Probability that a related word scores above an unrelated one.
  nearest: list[tuple[str, float]]  # Tokens and scores, the highest first.
  related: list[float]  # Scores of all related tokens.
  others: list[float]  # Scores of all other tokens.


class Steered(TypedDict):
  """Stories sampled at a strength."""

  word: float  # Share of the stories that have the word.
  related: float  # Share that have other words of its topic.
  sample: str  # One of the stories.


class Measured(Projection):
  """The results for a model of one seed."""

  losses: dict[str, float]  # On held-out stories of each kind.
  unit: float  # Unit of the strengths, see measures.stream_size.
  steering: dict[str, Steered]  # By strength.


Part = dict[str, Measured]  # The models of a seed, by the names of MODELS.


class Results(TypedDict):
  """The content of results.json."""

  word: str
  seeds: list[int]
  models: dict[str, dict[str, Measured]]  # By the names of MODELS, then by seed.


def assemble(config: Config, parts: Mapping[str, Part]) -> Results:
  """Return the results of all seeds."""
  of_seed = dict(zip(map(str, config.seeds), parts.values(), strict=True))
  return {
    "word": config.routing.word,
    "seeds": list(config.seeds),
    "models": {
      name: {seed: part[name] for seed, part in of_seed.items()} for name in MODELS
    },
  }


def table(results: Results) -> str:
  """Return a Markdown table, a row for each model and seed."""
  strengths = next(iter(results["models"]["routed"].values()))["steering"]
  header = [
    "model, seed",
    f"rank of {results['word']}",
    "AUC of related words",
    "loss",
    *(f"word (related) at {strength}" for strength in strengths),
    "nearest words",
  ]
  rows = [
    _row(f"{name}, {seed}", measured)
    for name, of_seed in results["models"].items()
    for seed, measured in of_seed.items()
  ]
  return tables.markdown(header, rows)


def _row(name: str, measured: Measured) -> list[str]:
  return [
    name,
    str(measured["rank"]),
    f"{measured['auc']:.2f}",
    " / ".join(f"{measured['losses'][kind]:.3f}" for kind in NAMES),
    *(f"{x['word']:.2f} ({x['related']:.2f})" for x in measured["steering"].values()),
    " ".join(token.strip() for token, _ in measured["nearest"][:8]),
  ]
