"""Expand, route, ablate on stories, beside data filtering, RMU and SGTM.

All methods see the same batches; a fraction of the stories about the topic is labelled
forget, and what is not labelled is trained on as anything else.

  base          everything, without labels
  filtering     everything but what is labelled forget
  rmu           base, then RMU against what is labelled forget
  control       new MLP units that are ablated after training, without routing
  era           labelled stories are routed to the new units: each token by how much
                more often it occurs in them than elsewhere
  era_coherent  the same with the coherence term, the loss of the ablated model
  sgtm          masks on parameters; new MLP units and heads are ablated

Ablated models are repaired by a few updates on a few retain stories. Then each model is
retrained on a few held-out forget stories at several learning rates; what counts is the
lowest loss on other such stories that any of them reaches.

  unlearning        = forget loss of the method's model - of the one before
  robust unlearning = the lowest in retraining on the most stories - of the one before

The one before is the method's own model before ablation; for filtering and rmu, base.

Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, section 4.2 and appendix;
the coherence term is in the authors' demonstration of two parameters. RMU: arXiv
2403.03218. SGTM: arXiv 2512.05648.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
import logging
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from undo_jax.attacks import relearning
from undo_jax.evaluation import cross_entropy as scoring
from undo_jax.models import expansion
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder
from undo_jax.objectives import cross_entropy, rmu, routed
from undo_jax.objectives.routed import FORGET, RETAIN, UNLABELLED
from undo_jax.routing import masks
from undo_jax.studies import story_batches
from undo_jax.studies.stories import methods as methods_lib
from undo_jax.studies.story_batches import NAMES, Data, optimizer_config
from undo_jax.training import optimizers, population
from undo_jax.training import state as state_lib
from undo_jax.training.step import make_step, scan_steps
from undo_jax.utils import checks
from undo_jax.utils.types import Params

LOGGER = logging.getLogger("undo_jax")
# Trained at each labelled fraction; at 0 the first two are base and control.
METHODS = ("filtering", "era", "era_coherent", "sgtm", "rmu")
UNLABELLED_NAMES = {"filtering": "base", "era": "control"}
MEASURES = (
  "forget_before",
  "forget_after",
  "retain_after",
  "unlearning",
  "robust_unlearning",
)
Losses = dict[str, float]


def check(config: Any) -> None:
  """Raises ConfigError at the first field of the config that cannot work."""
  model = story_batches.check(config)
  for fraction in config.labelled:
    checks.unit("labelled", fraction)
  methods = config.methods
  if not set(METHODS) >= set(methods) or methods[:1] != METHODS[:1]:
    checks.fail("methods", f"{METHODS[0]!r} and others of {METHODS[1:]}", methods)
  if not config.labelled or config.labelled[0] != 0:
    checks.fail("labelled", "fractions, the first of them 0", config.labelled)
  for name in (
    "evaluation.num_rows",
    "evaluation.rows_at_once",
    "repair.num_stories",
    "repair.num_steps",
    "rmu.num_steps",
    "retrain.evaluate_every",
  ):
    checks.at_least(config, name, 1)
  retrain, num_rows = config.retrain, config.evaluation.num_rows
  if retrain.num_steps % retrain.evaluate_every:
    checks.fail(
      "retrain.num_steps", "a multiple of retrain.evaluate_every", retrain.num_steps
    )
  checks.integers(config, "retrain.num_stories", 1)
  checks.numbers(config, "retrain.learning_rates", above=0)
  checks.at_least(config, "data.num_held_out", num_rows + max(retrain.num_stories))
  checks.at_least(config, "data.num_retain", num_rows + config.repair.num_stories)
  if config.rmu.num_steps > config.train.num_steps:
    checks.fail(
      "rmu.num_steps", f"at most {config.train.num_steps}", config.rmu.num_steps
    )
  for name in ("coherence_weight", "l1_weight"):
    weight = config.routing[name]
    if not checks.is_number(weight) or weight < 0:
      checks.fail(f"routing.{name}", "a number of at least 0", weight)
  for name in ("routing", "rmu"):
    layers = config[name].layers
    if not layers or not set(layers) <= set(range(model.num_layers)):
      checks.fail(f"{name}.layers", f"layers in [0, {model.num_layers})", layers)
  checks.unit("sgtm.retain_labelled", config.sgtm.retain_labelled)
  Programs(config)


def part_names(config: Any) -> list[str]:
  """Returns the names of the parts: each is a seed."""
  return [f"seed_{seed}" for seed in config.seeds]


def compute(
  config: Any, names: Iterable[str]
) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
  """Yields (part, its models) for parts of `part_names`; see `run_seed`.

  One seed after another: a seed is minutes of work that fills the device, and none is
  lost when a later one is stopped.
  """
  programs = Programs(config)
  for name in names:
    yield name, run_seed(config, programs, int(name.removeprefix("seed_")))


def assemble(config: Any, parts: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the results of all seeds.

  Returns:
    "seeds"; "units" of the losses; "models": for each "method", "labelled", "seeds"
    (one entry of `run_seed` a seed) and "mean" over them of MEANS.
  """
  models: dict[str, Any] = {}
  for seed, part in zip(config.seeds, parts.values(), strict=True):
    for name, found in part.items():
      model = models.setdefault(
        name, {"method": found["method"], "labelled": found["labelled"], "seeds": {}}
      )
      model["seeds"][str(seed)] = found
  for model in models.values():
    rows = [measures(found) for found in model["seeds"].values()]
    model["mean"] = {
      name: sum(row[name] for row in rows) / len(rows) for name in MEASURES
    }
  return {"seeds": list(config.seeds), "units": "nats per token", "models": models}


def measures(found: Mapping[str, Any]) -> dict[str, float]:
  """Returns a model's numbers by the names of MEASURES."""
  return {
    "forget_before": found["before"]["forget"],
    "forget_after": found["after"]["forget"],
    "retain_after": found["after"]["retain"],
    "unlearning": found["unlearning"],
    "robust_unlearning": found["robust_unlearning"],
  }


def table(results: Mapping[str, Any]) -> str:
  """Returns the means as a Markdown table, the range over seeds in brackets."""
  names = [name.replace("_", " ") for name in MEASURES]
  lines = ["| model | " + " | ".join(names) + " |", "| --- " * (len(names) + 1) + "|"]
  for name, model in results["models"].items():
    rows = [measures(found) for found in model["seeds"].values()]
    cells = []
    for measure in MEASURES:
      values = [row[measure] for row in rows]
      spread = f" [{min(values):.2f}, {max(values):.2f}]" if len(values) > 1 else ""
      cells.append(f"{model['mean'][measure]:.2f}{spread}")
    lines.append(f"| {name} | " + " | ".join(cells) + " |")
  return "\n".join(lines)


# ---- Programs: each is compiled once and serves all seeds and fractions.


class Trained(NamedTuple):
  """What trains and scores the models of a method."""

  routing: routed.Routing | None  # None: nothing is ablated.
  run: Callable[..., Any]  # A step over all batches.
  score: Callable[..., dict[str, jax.Array]]


class Programs:
  """All that is compiled, at its first call."""

  def __init__(self, config: Any):
    """Raises ConfigError if sizes, units or optimizers of the config do not fit."""
    self._config = config
    self.model = ModelConfig(**config.model)
    self.optimizer = optimizers.make_optimizer(optimizer_config(config.train))
    block, sgtm = config.routing, config.sgtm
    layers = tuple(block.layers)
    routing = self._routing(block.mlp_units, 0, layers, block.old_target)
    masked = self._routing(sgtm.mlp_units, sgtm.kv_heads)
    era, penalty = methods_lib.expand_route_ablate, {"l1_weight": block.l1_weight}
    coherent = penalty | {"coherence_weight": block.coherence_weight}
    rows = config.train.forget_rows
    self.methods = {
      "filtering": self._trained(methods_lib.filtering),
      "era": self._trained(era, routing, **penalty),
      "era_coherent": self._trained(era, routing, **coherent),
      "sgtm": self._trained(methods_lib.sgtm, masked, forget_rows=rows),
    }
    self._plain = cross_entropy.make(Decoder(self.model).apply)
    self.rmu = jax.jit(self._make_rmu())
    self.repair = jax.jit(self._make_repair())
    self.retrain_optimizer = optimizers.make_population_optimizer(
      optimizer_config(config.retrain, learning_rate=0.0)
    )
    step = make_step(self._plain, self.retrain_optimizer)
    self.retrain = jax.jit(relearning.make_program(step, self._evaluate(self.model)))

  def _routing(self, mlp_units, kv_heads, layers=None, old_target=0.0):
    whole = expansion.resize(self.model, mlp_units, kv_heads)
    return routed.Routing(whole, mlp_units, kv_heads, layers, old_target)

  def _trained(self, make, routing=None, **options: Any) -> Trained:
    model = self.model
    if routing is not None:
      model, options = routing.model, options | {"routing": routing}
    step = make_step(make(Decoder(model).apply, **options), self.optimizer)
    score = jax.jit(self._evaluate(model))
    return Trained(routing, jax.jit(scan_steps(step)), score)

  def _evaluate(self, model, names=NAMES):
    at_once = self._config.evaluation.rows_at_once
    return scoring.make_evaluate(Decoder(model).apply, names, rows_at_once=at_once)

  def _make_rmu(self):
    """Returns (params, batches [S, ...], key) -> params."""
    block, layers = self._config.rmu, tuple(self._config.rmu.layers)
    optimizer = optimizers.make_optimizer(
      optimizer_config(block, trainable=rmu.trainable(layers))
    )
    objective = methods_lib.rmu_by_label(
      Decoder(self.model).apply,
      forget_rows=self._config.train.forget_rows,
      layers=layers,
      coefficient=block.coefficient,
      retain_weight=block.retain_weight,
    )
    steps = scan_steps(make_step(objective, optimizer))

    def unlearn(params, batches, key):
      direction_D = rmu.random_direction(key, self.model.width)
      frozen = {"reference": params, "direction": direction_D}
      start = state_lib.create(params, optimizer)
      return steps(start, frozen, batches, key)[0].params

    return unlearn

  def _make_repair(self):
    """Returns (params, batch, problems, key) -> the best params on the way."""
    block = self._config.repair
    optimizer = optimizers.make_optimizer(optimizer_config(block))
    step = make_step(self._plain, optimizer)
    evaluate = self._evaluate(self.model, ("retain",))

    def repair(params, batch, problems, key):
      def update(carry, _):
        state, best, lowest = carry
        state, _ = step(state, None, batch, key)
        loss = evaluate(state.params, problems)["retain"]
        best = jax.tree.map(
          lambda new, old: jnp.where(loss < lowest, new, old), state.params, best
        )
        return (state, best, jnp.minimum(loss, lowest)), None

      start = state_lib.create(params, optimizer)
      carry = start, params, evaluate(params, problems)["retain"]
      return jax.lax.scan(update, carry, length=block.num_steps)[0][1]

    return repair


# ---- One seed.


def run_seed(config: Any, programs: Programs, seed: int) -> dict[str, dict[str, Any]]:
  """Trains and measures all models of a seed.

  Returns:
    For each model, named METHOD_FRACTION, base or control: "method"; "labelled", the
    fraction; "before" and "after", losses in nats per token by "forget" and "retain";
    "retrained", see `_retrained`; "unlearning" and "robust_unlearning".
  """
  data = story_batches.load(config, seed)
  problems = scoring.problems(data.held_out, config.evaluation.num_rows)
  key = jax.random.key(seed)
  found = {}
  for method, fraction, before, params in _models(config, programs, data, key):
    name = f"{method}_{fraction:g}" if fraction else UNLABELLED_NAMES[method]
    after = _losses(programs.methods["filtering"].score(params, problems))
    before = after if name == "base" else before or found["base"]["after"]
    retrained = _retrained(config, programs, data, params, problems, key)
    most = retrained[str(max(config.retrain.num_stories))]
    lowest = min(after["forget"], *most["forget"])
    found[name] = {
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
  return found


def _models(config, programs, data, key):
  """Yields (method, fraction, losses before or None: base's, params)."""
  fresh = jax.jit(Decoder(programs.model).init)(key)
  problems = scoring.problems(data.held_out, config.evaluation.num_rows)
  base = None
  for fraction in config.labelled:
    batches, frozen = labelled(config, data, fraction)
    for method in config.methods:
      if not fraction and method not in UNLABELLED_NAMES:
        continue
      if method == "rmu":
        first = {name: x[: config.rmu.num_steps] for name, x in batches.items()}
        yield method, fraction, None, programs.rmu(base, first, key)
        continue
      trained = programs.methods[method]
      params, reserved = fresh, None
      if trained.routing:
        params, reserved = _expand(programs.model, trained.routing, fresh, key)
      params = _train(programs, method, params, frozen, batches, key)
      if reserved is None:
        base = params if base is None else base
        yield method, fraction, None, params
        continue
      before = _losses(trained.score(params, problems))
      _, params = expansion.contract(trained.routing.model, params, reserved)
      yield method, fraction, before, _repaired(config, programs, data, params, key)


def labelled(
  config: Any, data: Data, fraction: float
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """Returns the batches with "source" at a labelled fraction, and the token weights.

  The first forget stories are labelled, in every epoch the same, and a larger fraction
  labels all that a smaller one does. Of the retain stories a fixed fraction is labelled
  retain, of which SGTM alone makes use. The weights are counted from the labels alone:
  forget stories that are not labelled count with the others.

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


def _expand(model, routing, params, key):
  """Returns the parameters with new units, as for training from scratch."""
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


def _train(programs, method, params, frozen, batches, key) -> Params:
  state = state_lib.create(params, programs.optimizer)
  state, metrics = programs.methods[method].run(state, frozen, batches, key)
  loss = float(metrics["loss"][-1])
  if not math.isfinite(loss):
    raise FloatingPointError(
      f"{method}: the loss is {loss} at the end of training; lower "
      "train.learning_rate or routing.old_target"
    )
  return state.params


def _repaired(config, programs, data, params, key) -> Params:
  """Returns an ablated model after a few updates on a few stories of training."""
  retain, shots = data.train["retain"], config.repair.num_stories
  end = shots + config.evaluation.num_rows
  batch = story_batches.batch(retain, np.arange(shots))
  others = story_batches.batch(retain, np.arange(shots, end))
  others["group"] = np.zeros(end - shots, np.int32)
  return programs.repair(params, batch, others, key)


def _retrained(config, programs, data, params, problems, key) -> dict[str, Any]:
  """Retrains on few held-out forget stories, full batch, at all learning rates.

  Returns:
    For each number of stories "steps", and at these the lowest forget loss of any
    learning rate, "forget", and the "retain" loss at that rate.
  """
  block, begin = config.retrain, config.evaluation.num_rows
  every = block.evaluate_every
  shape = (block.num_steps // every, every)
  found = {}
  for number in block.num_stories:
    indices = np.arange(begin, begin + number)
    stories = story_batches.batch(data.held_out["forget"], indices)
    batches = {k: np.broadcast_to(x, (*shape, *x.shape)) for k, x in stories.items()}
    members = population.create(
      params, programs.retrain_optimizer, jnp.asarray(block.learning_rates)
    )
    _, scores = programs.retrain(members, None, problems, batches, key)
    forget_ExR, retain_ExR = (np.asarray(scores[name]) for name in NAMES)
    best_E = np.argmin(forget_ExR, axis=1)[:, None]
    found[str(number)] = {
      "steps": [every * (i + 1) for i in range(shape[0])],
      "forget": np.take_along_axis(forget_ExR, best_E, 1)[:, 0].tolist(),
      "retain": np.take_along_axis(retain_ExR, best_E, 1)[:, 0].tolist(),
    }
  return found


def _losses(scores) -> Losses:
  return {name: float(value) for name, value in scores.items()}
