"""A steering scalar: one token's gradients are routed to one residual dimension.

At positions whose target is the chosen word, the gradient of the residual stream after
some layers passes through one dimension alone, with a weight of its own. Does the
dimension then stand for the word? The vocabulary's projection on it shows with which
other words, and adding a constant to it while text is sampled may steer the text to
them. A control model of the same weights and batches is trained without routing.

Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, section 4.1.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
import logging
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from undo_jax.data import stories, stories_words, tokenizers
from undo_jax.evaluation import cross_entropy as scoring
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder
from undo_jax.models.generation import make_generate
from undo_jax.objectives.cross_entropy import cross_entropy, masked_sum
from undo_jax.routing import masks
from undo_jax.studies import story_batches
from undo_jax.studies.story_batches import NAMES
from undo_jax.training import optimizers
from undo_jax.training import state as state_lib
from undo_jax.training.step import make_step, scan_steps
from undo_jax.utils import checks
from undo_jax.utils.types import Objective, Params

LOGGER = logging.getLogger("undo_jax")
MODELS = ("routed", "control")


def check(config: Any) -> None:
  """Raises ConfigError at the first field of the config that cannot work."""
  model = story_batches.check(config)
  layers, steering = config.routing.layers, config.steering
  everything = range(model.num_layers)
  if not layers or not set(layers) <= set(everything):
    checks.fail("routing.layers", f"layers in [0, {model.num_layers})", layers)
  if steering.layer not in everything:
    checks.fail("steering.layer", f"a layer below {model.num_layers}", steering.layer)
  if not 0 <= config.routing.dimension < model.width:
    checks.fail(
      "routing.dimension", f"an index below {model.width}", config.routing.dimension
    )
  if not model.mlp_bias or model.post_norms:
    checks.fail("model.mlp_bias", "True, and post_norms False: steering is a bias", "")
  checks.numbers(config, "steering.strengths")
  if 0.0 not in steering.strengths:
    checks.fail("steering.strengths", "numbers, one of them 0", steering.strengths)
  if not checks.is_number(config.routing.weight):
    checks.fail("routing.weight", "a number", config.routing.weight)
  for name in ("steering.num_samples", "steering.num_tokens", "num_top"):
    checks.at_least(config, name, 1)
  for name in ("num_rows", "rows_at_once"):
    checks.at_least(config, f"evaluation.{name}", 1)
  checks.at_least(config, "data.num_held_out", config.evaluation.num_rows)
  _token(config)


def part_names(config: Any) -> list[str]:
  """Returns the names of the parts: each is a seed."""
  return [f"seed_{seed}" for seed in config.seeds]


def compute(
  config: Any, names: Iterable[str]
) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
  """Yields (part, its models) for parts of `part_names`; see `run_seed`."""
  programs = _build(config)
  for name in names:
    yield name, run_seed(config, programs, int(name.removeprefix("seed_")))


def assemble(config: Any, parts: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the results: "word", "seeds", and for each of MODELS its seeds."""
  return {
    "word": config.routing.word,
    "seeds": list(config.seeds),
    "models": {
      name: {
        str(seed): part[name]
        for seed, part in zip(config.seeds, parts.values(), strict=True)
      }
      for name in MODELS
    },
  }


def table(results: Mapping[str, Any]) -> str:
  """Returns a Markdown table, a row for each model and seed."""
  strengths = list(results["models"]["routed"].values())[0]["steering"]
  lines = [
    f"| model, seed | rank of {results['word']} | AUC of related words | loss "
    + "".join(f"| word (related) at {strength} " for strength in strengths)
    + "| nearest words |",
    "| --- " * (5 + len(strengths)) + "|",
  ]
  for name, by_seed in results["models"].items():
    for seed, found in by_seed.items():
      steered = [
        f"{x['word']:.2f} ({x['related']:.2f})" for x in found["steering"].values()
      ]
      nearest = " ".join(token.strip() for token, _ in found["nearest"][:8])
      losses = " / ".join(f"{found['losses'][kind]:.3f}" for kind in NAMES)
      cells = [f"{name}, {seed}", str(found["rank"]), f"{found['auc']:.2f}", losses]
      lines.append("| " + " | ".join([*cells, *steered, nearest]) + " |")
  return "\n".join(lines)


# ---- Training.


def routed_by_target(
  apply: Callable,
  model: ModelConfig,
  *,
  layers: tuple[int, ...],
  dimension: int,
  weight: float = 1.0,
) -> Objective:
  """Returns the cross-entropy, routed where the target is in frozen["chosen_V"].

  d residual / d residual = e_dimension there after the layers, 1 elsewhere;
  after the last of the layers weight * e_dimension

  Args:
    apply: of the decoder.
    model: its sizes.
    layers: after which the residual stream is routed.
    dimension: of the residual stream.
    weight: of the chosen targets' gradients in all that comes before; 1 in the paper.
  """
  table = masks.make_table(jnp.zeros(model.width).at[dimension].set(1.0))

  def objective(params, frozen, batch, key):
    del key
    chosen = masks.targets_in(masks.whole_rows(batch), frozen["chosen_V"])
    ids_BxL = jnp.where(chosen, 0, 1)  # Row 1 of the table is the unrouted one.
    routes = masks.routes({"residual": table}, ids_BxL, model.num_layers, layers)
    # Masks multiply on the way back: the weight stands at the first that is met.
    mask = routes["residual"]
    table_NxSxD = mask.table.at[max(layers), 0].multiply(weight)
    routes = {"residual": mask._replace(table=table_NxSxD)}
    logits = apply(params, batch["inputs"], routes=routes).logits
    loss = cross_entropy(logits, batch["targets"], batch["mask"])
    return loss, {"cross_entropy": loss}

  return objective


class _Programs(NamedTuple):
  model: ModelConfig
  optimizer: Any
  run: Callable[..., Any]  # A step over all batches.
  score: Callable[..., dict[str, jax.Array]]
  size: Callable[..., jax.Array]  # See `stream_size`.
  generate: Callable[..., Any]


def _build(config) -> _Programs:
  model = ModelConfig(**config.model)
  decoder = Decoder(model)
  optimizer = optimizers.make_optimizer(story_batches.optimizer_config(config.train))
  objective = routed_by_target(
    decoder.apply,
    model,
    layers=tuple(config.routing.layers),
    dimension=config.routing.dimension,
    weight=config.routing.weight,
  )
  tokenizer = tokenizers.make(config.data.tokenizer)
  at_once = config.evaluation.rows_at_once
  return _Programs(
    model,
    optimizer,
    jax.jit(scan_steps(make_step(objective, optimizer))),
    jax.jit(scoring.make_evaluate(decoder.apply, NAMES, rows_at_once=at_once)),
    jax.jit(stream_size(decoder.apply, config.steering.layer)),
    make_generate(
      decoder,
      num_tokens=config.steering.num_tokens,
      temperature=1.0,
      stop_ids=(tokenizer.eos_id,),
      pad_id=tokenizer.pad_id,
    ),
  )


def run_seed(config: Any, programs: _Programs, seed: int) -> dict[str, dict[str, Any]]:
  """Trains a routed model and its control; returns what is measured of each.

  Returns:
    By the names of MODELS: "losses" on held-out stories; of the projection
    (`projection`) "rank", "auc" and "nearest"; "unit" of the strengths, see
    `stream_size`; "steering", see `_steering`.
  """
  data = story_batches.load(config, seed)
  problems = scoring.problems(data.held_out, config.evaluation.num_rows)
  key = jax.random.key(seed)
  fresh = jax.jit(Decoder(programs.model).init)(key)
  batches = {name: data.batches[name] for name in ("inputs", "targets", "mask")}
  token, size = _token(config), config.model.vocab_size
  seen_V = np.bincount(batches["targets"].reshape(-1), minlength=size) > 0
  found = {}
  for name in MODELS:
    chosen_V = np.zeros(size, bool)
    chosen_V[token] = name == "routed"
    start = state_lib.create(fresh, programs.optimizer)
    end, _ = programs.run(start, {"chosen_V": chosen_V}, batches, key)
    losses = programs.score(end.params, problems)
    shown, sign = projection(config, end.params, seen_V)
    unit = float(programs.size(end.params, problems))
    found[name] = {
      "losses": {kind: float(value) for kind, value in losses.items()},
      **shown,
      "unit": unit,
      "steering": _steering(config, programs, end.params, sign * unit, key),
    }
    LOGGER.info("seed %d, %s: rank %d", seed, name, shown["rank"])
  return found


# ---- What the dimension stands for.


def projection(
  config: Any, params: Params, seen_V: np.ndarray
) -> tuple[dict[str, Any], float]:
  """Measures the vocabulary's projection on the dimension.

  score[i] = sign * U[i, dimension] / |U[i]|,  the sign such that the word's is positive

  Args:
    config: the study's.
    params: of the decoder.
    seen_V: bool, the tokens that occur in training; others are left out.

  Returns:
    ({"score" of the word, "rank" of it (1 is the highest), "auc": how likely a word
    related to it scores above one that is not, "nearest": tokens with their scores,
    the highest first, and of all tokens "related" and "others": their scores}, the
    sign).
  """
  unembedding_VxD = np.asarray(params["embedding"], np.float64)
  if not config.model.tied:
    unembedding_VxD = np.asarray(params["head"]["kernel"], np.float64).T
  norm_V = np.linalg.norm(unembedding_VxD, axis=1)
  score_V = unembedding_VxD[:, config.routing.dimension] / np.maximum(norm_V, 1e-12)
  token, related = _token(config), _related(config)
  sign = 1.0 if score_V[token] >= 0 else -1.0
  score_V = sign * score_V
  tokenizer = tokenizers.make(config.data.tokenizer)
  tokens = [i for i in np.argsort(-score_V, kind="stable").tolist() if seen_V[i]]
  inside = np.array([score_V[i] for i in tokens if i in related])
  outside = np.array([score_V[i] for i in tokens if i not in related and i != token])
  above = (inside[:, None] > outside).mean() if len(inside) and len(outside) else 0.5
  nearest = [
    [tokenizer.decode([i]), float(score_V[i])] for i in tokens[: config.num_top]
  ]
  return {
    "score": float(score_V[token]),
    "rank": 1 + tokens.index(token),
    "auc": float(above),
    "nearest": nearest,
    "related": inside.tolist(),
    "others": outside.tolist(),
  }, sign


def stream_size(apply: Callable, layer: int) -> Callable[..., jax.Array]:
  """Returns (params, batch) -> how large the residual stream is after a layer.

  sqrt(mean over the dimensions of x^2), averaged over the positions that count
  """

  def size(params, batch):
    found = apply(params, batch["inputs"], capture=(layer + 1,)).captured
    root_BxL = jnp.sqrt(jnp.mean(jnp.square(found[layer + 1]), axis=-1))
    return masked_sum(root_BxL, batch["mask"]).mean()

  return size


def _steering(config, programs, params, unit, key) -> dict[str, dict[str, Any]]:
  """Samples stories while strength * unit is added to the dimension after a layer.

  Returns:
    For each strength "word" and "related", the shares of stories with the word and
    with words of its topic, and "sample", one of them.
  """
  block = config.steering
  tokenizer = tokenizers.make(config.data.tokenizer)
  begin = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
  prompts = np.full((block.num_samples, 1), begin, np.int32)
  is_word = stories.topic_pattern([config.routing.word])
  is_related = stories.topic_pattern(_topic_words(config))
  found = {}
  for strength in block.strengths:
    changed = steered(params, block.layer, config.routing.dimension, unit * strength)
    samples = programs.generate(changed, prompts, key=jax.random.fold_in(key, 2))
    texts = [tokenizer.decode(row) for row in np.asarray(samples.tokens_BxT).tolist()]
    found[f"{strength:g}"] = {
      "word": sum(bool(is_word.search(text)) for text in texts) / len(texts),
      "related": sum(bool(is_related.search(text)) for text in texts) / len(texts),
      "sample": texts[0],
    }
  return found


def steered(params: Params, layer: int, dimension: int, strength: float) -> Params:
  """Returns parameters whose residual stream has `strength` added after a layer.

  The bias of the layer's MLP is added to the residual stream as it is.
  """
  down = params["layers"]["mlp"]["down"]
  bias_NxD = down["bias"].at[layer, dimension].add(strength)
  mlp = {**params["layers"]["mlp"], "down": {**down, "bias": bias_NxD}}
  return {**params, "layers": {**params["layers"], "mlp": mlp}}


def _token(config) -> int:
  """Returns the token of the word with the space before it."""
  word = config.routing.word
  ids = tokenizers.make(config.data.tokenizer).encode(f" {word}")
  if len(ids) != 1:
    checks.fail(
      "routing.word", f"a word that {config.data.tokenizer!r} has as one", word
    )
  return ids[0]


def _topic_words(config):
  words = config.data.forget_words or stories_words.topic_words("forest")
  return [word for word in words if word != config.routing.word]


def _related(config) -> set[int]:
  """Returns the tokens of the topic's other words, those that are single tokens."""
  tokenizer = tokenizers.make(config.data.tokenizer)
  encoded = [tokenizer.encode(f" {word}") for word in _topic_words(config)]
  return {ids[0] for ids in encoded if len(ids) == 1}
