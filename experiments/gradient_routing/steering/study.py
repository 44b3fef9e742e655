"""What the study computes: a part is a seed, with a routed model and its control."""

from collections.abc import Callable, Iterator, Sequence
import logging
from typing import NamedTuple

import jax
import numpy as np
import optax

from experiments.gradient_routing.steering import figures, measures, objective
from experiments.gradient_routing.steering import results as results_lib
from experiments.gradient_routing.steering.config import Config
from experiments.gradient_routing.steering.results import MODELS, Part, Steered
from experiments.gradient_routing.stories import batches as batches_lib
from experiments.gradient_routing.stories import corpus
from experiments.gradient_routing.stories.batches import NAMES
from experiments.shared import studies
from experiments.shared.running import seed_parts
from undo_jax.attacks.relearning import Evaluate
from undo_jax.evaluation import cross_entropy as scoring
from undo_jax.models.decoder import Decoder
from undo_jax.models.generation import Generated, make_generate
from undo_jax.training import optimizers
from undo_jax.training import state as state_lib
from undo_jax.training.step import Step, make_step, scan_steps
from undo_jax.utils.types import Params

LOGGER = logging.getLogger("undo_jax")


def compute(config: Config, names: Sequence[str]) -> Iterator[tuple[str, Part]]:
  """Yield (part, its models) of the missing parts; see `run_seed`."""
  programs, seed_of = _build(config), seed_parts(config.seeds)
  for name in names:
    yield name, run_seed(config, programs, seed_of[name])


class Programs(NamedTuple):
  """All programs; each is compiled at its first call."""

  optimizer: optax.GradientTransformation
  run: Step  # Trains on all batches.
  score: Evaluate
  size: Callable[..., jax.Array]  # See measures.stream_size.
  generate: Callable[..., Generated]


def _build(config: Config) -> Programs:
  decoder = Decoder(config.model)
  optimizer = optimizers.make_optimizer(config.train)
  routed = objective.make(decoder.apply, config.model, config.routing)
  tokenizer = corpus.make_tokenizer(config.data.tokenizer)
  at_once = config.evaluation.rows_at_once
  return Programs(
    optimizer,
    jax.jit(scan_steps(make_step(routed, optimizer))),
    jax.jit(scoring.make_evaluate(decoder.apply, NAMES, rows_at_once=at_once)),
    jax.jit(measures.stream_size(decoder.apply, config.steering.layer)),
    make_generate(
      decoder,
      num_tokens=config.steering.num_tokens,
      temperature=1.0,
      stop_ids=(tokenizer.eos_id,),
      pad_id=tokenizer.pad_id,
    ),
  )


def run_seed(config: Config, programs: Programs, seed: int) -> Part:
  """Train a routed model and its control; return the measures of each."""
  data = batches_lib.load(config.data, config.train, seed)
  problems = scoring.problems(data.held_out, config.evaluation.num_rows)
  key = jax.random.key(seed)
  fresh = jax.jit(Decoder(config.model).init)(key)
  batches = {name: data.batches[name] for name in ("inputs", "targets", "mask")}
  size = config.model.vocab_size
  tokenizer = corpus.make_tokenizer(config.data.tokenizer)
  (token,) = tokenizer.encode(f" {config.routing.word}")
  seen_V = np.bincount(batches["targets"].reshape(-1), minlength=size) > 0
  models: Part = {}
  for name, is_routed in MODELS.items():
    chosen_V = np.zeros(size, bool)
    chosen_V[token] = is_routed
    start = state_lib.create(fresh, programs.optimizer)
    end, _ = programs.run(start, {"chosen_V": chosen_V}, batches, key)
    losses = programs.score(end.params, problems)
    shown, sign = measures.projection(config, end.params, seen_V)
    unit = float(programs.size(end.params, problems))
    models[name] = {
      "losses": {kind: float(value) for kind, value in losses.items()},
      **shown,
      "unit": unit,
      "steering": _steering(config, programs, end.params, sign * unit, key),
    }
    LOGGER.info("seed %d, %s: rank %d", seed, name, shown["rank"])
  return models


def _steering(
  config: Config, programs: Programs, params: Params, unit: float, key: jax.Array
) -> dict[str, Steered]:
  """Sample stories while strength * unit is added to the dimension after a layer."""
  block = config.steering
  tokenizer = corpus.make_tokenizer(config.data.tokenizer)
  begin = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
  prompts = np.full((block.num_samples, 1), begin, np.int32)
  is_word = corpus.topic_pattern([config.routing.word])
  is_related = corpus.topic_pattern(config.topic_words)
  of_strength: dict[str, Steered] = {}
  for strength in block.strengths:
    changed = measures.steered(
      params, block.layer, config.routing.dimension, unit * strength
    )
    samples = programs.generate(changed, prompts, key=jax.random.fold_in(key, 2))
    texts = [tokenizer.decode(row) for row in np.asarray(samples.tokens_BxT).tolist()]
    of_strength[f"{strength:g}"] = {
      "word": sum(bool(is_word.search(text)) for text in texts) / len(texts),
      "related": sum(bool(is_related.search(text)) for text in texts) / len(texts),
      "sample": texts[0],
    }
  return of_strength


make = studies.maker(
  Config, studies.seed_names, compute, results_lib, figures, assembles_config=True
)
