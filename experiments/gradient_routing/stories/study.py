"""What the study computes: a part is a seed, and holds its models."""

from collections.abc import Iterator, Mapping, Sequence
import functools
import logging
import math

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from experiments.gradient_routing.stories import batches as batches_lib
from experiments.gradient_routing.stories import figures
from experiments.gradient_routing.stories import results as results_lib
from experiments.gradient_routing.stories.batches import NAMES, Loaded
from experiments.gradient_routing.stories.config import Config
from experiments.gradient_routing.stories.programs import Programs
from experiments.gradient_routing.stories.results import Losses, Part, Retrained
from experiments.shared import studies, typed
from experiments.shared.running import Study, seed_parts
from undo_jax.evaluation import cross_entropy as scoring
from undo_jax.models import expansion
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder
from undo_jax.objectives.routed import FORGET, RETAIN, UNLABELLED, Routing
from undo_jax.routing import era, masks
from undo_jax.training import population
from undo_jax.training import state as state_lib
from undo_jax.utils.types import Batch, Frozen, Params

LOGGER = logging.getLogger("undo_jax")
UNLABELLED_NAMES = {"filtering": "base", "era": "control"}
Arrays = dict[str, np.ndarray]


def make(config: ConfigDict) -> Study[Part]:
  """Return the study of a config, or raise ConfigError."""
  checked = typed.read(Config, config)
  computing = functools.partial(compute, checked, Programs(checked))
  names = studies.seed_names(checked)
  return studies.of(names, computing, results_lib, figures, given=(checked,))


def compute(
  config: Config, programs: Programs, names: Sequence[str]
) -> Iterator[tuple[str, Part]]:
  """Yield (part, its models) of the missing parts; see `run_seed`.

  Seeds run one after another: a seed is minutes of work that fills the device, and a
  finished one is not lost if a later one is stopped.
  """
  seed_of = seed_parts(config.seeds)
  for name in names:
    yield name, run_seed(config, programs, seed_of[name])


def run_seed(config: Config, programs: Programs, seed: int) -> Part:
  """Train and measure all models of a seed."""
  data = batches_lib.load(config.data, config.train, seed)
  problems = scoring.problems(data.held_out, config.evaluation.num_rows)
  key = jax.random.key(seed)
  models: Part = {}
  for method, fraction, before, params in _models(
    config, programs, data, problems, key
  ):
    name = f"{method}_{fraction:g}" if fraction else UNLABELLED_NAMES[method]
    after = _losses(programs.methods["filtering"].score(params, problems))
    before = before or models.get("base", {"after": after})["after"]
    retrained = _retrained(config, programs, data, params, problems, key)
    most = retrained[str(max(config.retrain.num_stories))]
    lowest = min(after["forget"], *most["forget"])
    models[name] = {
      "method": method,
      "labelled": fraction,
      "before": before,
      "after": after,
      "retrained": retrained,
      "unlearning": after["forget"] - before["forget"],
      "robust_unlearning": lowest - before["forget"],
    }
    LOGGER.info(
      "seed %d, %s: forget %.3f -> %.3f, retrained %.3f; retain %.3f",
      *(seed, name, before["forget"], after["forget"], lowest, after["retain"]),
    )
  return models


def _models(
  config: Config,
  programs: Programs,
  data: Loaded,
  problems: scoring.Problems,
  key: jax.Array,
) -> Iterator[tuple[str, float, Losses | None, Params]]:
  """Yield (method, fraction, losses of the model before; None: base, params)."""
  fresh = jax.jit(Decoder(programs.model).init)(key)
  base = None
  for fraction in config.labelled:
    batches, frozen = labelled(config, data, fraction)
    for method in config.methods:
      if not fraction and method not in UNLABELLED_NAMES:
        continue
      if method in programs.unlearning:
        yield method, fraction, None, programs.unlearning[method](base, batches, key)
        continue
      trained = programs.methods[method]
      if trained.routing is None:
        params = _train(programs, method, fresh, frozen, batches, key)
        base = params if base is None else base
        yield method, fraction, None, params
        continue
      params, reserved = expand(programs.model, trained.routing, fresh, key)
      params = _train(programs, method, params, frozen, batches, key)
      before = _losses(trained.score(params, problems))
      _, params = expansion.contract(trained.routing.model, params, reserved)
      yield method, fraction, before, _repaired(config, programs, data, params, key)


def labelled(config: Config, data: Loaded, fraction: float) -> tuple[Arrays, Arrays]:
  """Return the batches with "source" at a labelled fraction, and the token weights.

  The first forget stories are labelled, the same in every epoch, and a larger fraction
  labels all that a smaller one labels. A fixed fraction of the retain stories is
  labelled retain, which only SGTM uses. The weights are counted from the labels alone:
  forget stories that are not labelled count as retain stories.

  Returns:
    (batches with "source" int32 [S, B], {"retain_weight_V": float32 [V]}).
  """
  forget, retain = data.train["forget"], data.train["retain"]
  num_forget = round(fraction * len(forget))
  num_retain = round(config.sgtm.retain_labelled * len(retain))
  story = data.batches["story"]
  is_forget = np.arange(story.shape[1]) < config.train.forget_rows
  source = np.where(
    is_forget,
    np.where(story < num_forget, FORGET, UNLABELLED),
    np.where(story < num_retain, RETAIN, UNLABELLED),
  )

  def count(rows, chosen):
    size = config.model.vocab_size
    return masks.count_tokens(rows.tokens[chosen], rows.mask[chosen], size)

  weights_V = masks.token_frequency_weights(
    count(forget, slice(num_forget)),
    count(forget, slice(num_forget, None)) + count(retain, slice(None)),
  )
  batches = {name: data.batches[name] for name in ("inputs", "targets", "mask")}
  batches["source"] = source.astype(np.int32)
  return batches, {"retain_weight_V": weights_V}


def expand(
  model: ModelConfig, routing: Routing, params: Params, key: jax.Array
) -> tuple[Params, era.Expansion]:
  """Return the parameters with new units, initialized as for training from scratch."""
  _, grown, new = expansion.expand(
    model,
    params,
    jax.random.fold_in(key, 1),
    mlp_units=routing.mlp_units,
    kv_heads=routing.kv_heads,
    layers=routing.layers,
    same_logits=False,
  )
  return grown, new


def _train(
  programs: Programs,
  method: str,
  params: Params,
  frozen: Frozen,
  batches: Batch,
  key: jax.Array,
) -> Params:
  state = state_lib.create(params, programs.methods[method].optimizer)
  state, metrics = programs.methods[method].run(state, frozen, batches, key)
  loss = float(metrics["loss"][-1])
  if not math.isfinite(loss):
    raise FloatingPointError(
      f"{method}: the loss is {loss} at the end of training; lower "
      "train.learning_rate or routing.old_target"
    )
  return state.params


def _repaired(
  config: Config, programs: Programs, data: Loaded, params: Params, key: jax.Array
) -> Params:
  """Return an ablated model after a few updates on a few stories of training."""
  retain, shots = data.train["retain"], config.repair.num_stories
  end = shots + config.evaluation.num_rows
  batch = batches_lib.batch(retain, np.arange(shots))
  others = batches_lib.batch(retain, np.arange(shots, end))
  others["group"] = np.zeros(end - shots, np.int32)
  return programs.repair(params, batch, others, key)


def _retrained(
  config: Config,
  programs: Programs,
  data: Loaded,
  params: Params,
  problems: scoring.Problems,
  key: jax.Array,
) -> dict[str, Retrained]:
  """Retrain on few held-out forget stories, full batch, at all learning rates."""
  block, begin = config.retrain, config.evaluation.num_rows
  every = block.evaluate_every
  shape = (block.num_steps // every, every)
  curves: dict[str, Retrained] = {}
  for number in block.num_stories:
    indices = np.arange(begin, begin + number)
    stories = batches_lib.batch(data.held_out["forget"], indices)
    batches = {k: np.broadcast_to(x, (*shape, *x.shape)) for k, x in stories.items()}
    members = population.create(
      params, programs.retrain_optimizer, jnp.asarray(block.learning_rates)
    )
    _, scores = programs.retrain(members, None, problems, batches, key)
    forget_ExR, retain_ExR = (np.asarray(scores[name]) for name in NAMES)
    best_E = np.argmin(forget_ExR, axis=1)[:, None]
    curves[str(number)] = {
      "steps": [every * (i + 1) for i in range(shape[0])],
      "forget": np.take_along_axis(forget_ExR, best_E, 1)[:, 0].tolist(),
      "retain": np.take_along_axis(retain_ExR, best_E, 1)[:, 0].tolist(),
    }
  return curves


def _losses(scores: Mapping[str, jax.Array]) -> Losses:
  return {name: float(value) for name, value in scores.items()}
