"""The optimizer of every stage: routing, clip, update rule, schedule, freezing."""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from undo_jax.routing.transforms import route_sources
from undo_jax.training import endings
from undo_jax.utils import records, trees
from undo_jax.utils.records import FieldError
from undo_jax.utils.registry import Registry
from undo_jax.utils.types import Params


@dataclasses.dataclass(frozen=True)
class UpdateRule:
  """How gradients become updates: the record of an optimizer."""

  # (learning rate, a number or a schedule; decoupled weight decay) -> transformation.
  make: Callable[..., optax.GradientTransformation]
  # Sharding rules of what its state holds beside trees like the parameters.
  state_rules: tuple[tuple[str, tuple], ...] = ()


def _matrices(params: Params) -> Params:
  """Say of each parameter which axes make a matrix: of the stacked kernels alone."""
  axes = optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=2)
  return jax.tree.map(lambda leaf: axes if leaf.ndim == 3 else None, params)


ADAMW = UpdateRule(
  make=lambda rate, decay: optax.adamw(rate, weight_decay=decay),
)
# Stacked matrices [N, in, out] by orthogonalized momentum; all else by Adam, with
# Nesterov's momentum as well.
MUON = UpdateRule(
  make=lambda rate, decay: optax.contrib.muon(
    rate,
    weight_decay=decay,
    adam_weight_decay=decay,
    muon_weight_dimension_numbers=_matrices,
  ),
  state_rules=(("ns_coeffs", ()),),  # Of the polynomial that orthogonalizes.
)


def _momentum(*, nesterov: bool) -> UpdateRule:
  """Return stochastic gradient descent with momentum .9."""

  def make(rate, decay):
    return optax.chain(
      optax.trace(decay=0.9, nesterov=nesterov),
      optax.add_decayed_weights(decay),
      optax.scale_by_learning_rate(rate),
    )

  return UpdateRule(make=make)


DESCENT = UpdateRule(
  make=lambda rate, decay: optax.chain(
    optax.add_decayed_weights(decay), optax.scale_by_learning_rate(rate)
  )
)
LION = UpdateRule(make=lambda rate, decay: optax.lion(rate, weight_decay=decay))
RULES: Registry[UpdateRule] = Registry(
  "optimizer",
  UpdateRule,
  {
    "adamw": ADAMW,
    "descent": DESCENT,
    "lion": LION,
    "muon": MUON,
    "nesterov": _momentum(nesterov=True),
    "sgd": _momentum(nesterov=False),
  },
)


@records.record
class OptimizerConfig:
  """An update rule with a warm-up and a decay, and what it may change."""

  name: str = "adamw"  # Of RULES, or MODULE:NAME.
  learning_rate: float  # Peak, per update; > 0.
  num_steps: int  # Updates until the decay's end; with a stop rule, at most.
  final_learning_rate: float | None = None  # Value at the end; None: constant.
  warmup_steps: int = 0  # Linear from 0: with warm-up, update 1 changes nothing.
  weight_decay: float = 0.0  # Decoupled, on all parameters; >= 0.
  # Global gradient norm above which it is scaled down; None: never.
  clip_norm: float | None = 1.0
  # Pairs of a path regex and layers, () for all of them; empty: everything.
  trainable: tuple[tuple[str, tuple[int, ...]], ...] = ()
  # The last updates, in which alone the rate decays; None: a cosine over all of them.
  decay_steps: Annotated[int | None, records.later(None)] = None
  decay: Annotated[Literal["linear", "1-sqrt"], records.later("linear")] = "linear"
  # The decay begins as soon as the stop rule is satisfied, and training ends with it.
  decay_on_recovery: Annotated[bool, records.later(False)] = False
  # The last update ends at the mean of the weights after updates `average_begin`,
  # `average_begin` + `average_every`, ...; None: at those of the last update.
  average_begin: Annotated[int | None, records.later(None)] = None
  average_every: Annotated[int, records.later(1)] = 1
  # The last update ends so many times as far from where training began as it would, on
  # the same line; below 0: on the other side.
  displacement: Annotated[float, records.later(1.0)] = 1.0
  # First updates at rate 0: moments are gathered, and no weight moves. The schedule
  # begins after them.
  still_steps: Annotated[int, records.later(0)] = 0

  def __post_init__(self):
    records.at_least(self, "num_steps", smallest=1)
    records.not_negative(self, "learning_rate", "weight_decay", "warmup_steps")
    records.not_negative(self, "still_steps")
    records.above(self, "clip_norm")
    if self.warmup_steps > self.num_steps:
      expected = f"at most num_steps={self.num_steps}"
      raise FieldError("warmup_steps", expected, self.warmup_steps)
    if self.still_steps and self.still_steps + self.warmup_steps >= self.num_steps:
      expected = f"less than num_steps={self.num_steps} less warmup_steps"
      raise FieldError("still_steps", expected, self.still_steps)
    final = self.final_learning_rate
    if final is not None and not 0 <= final <= self.learning_rate:
      expected = f"None or a number in [0, {self.learning_rate}]"
      raise FieldError("final_learning_rate", expected, final)
    records.at_least(self, "average_begin", "average_every", smallest=1)
    if self.average_begin is not None and self.average_begin > self.num_steps:
      expected = f"at most num_steps={self.num_steps}"
      raise FieldError("average_begin", expected, self.average_begin)
    records.at_least(self, "decay_steps", smallest=1)
    if self.decay_on_recovery and self.decay_steps is None:
      raise FieldError("decay_steps", "an integer, with decay_on_recovery", None)
    if self.decay_steps is not None:
      if final is None:
        raise FieldError("final_learning_rate", "a number, with decay_steps", None)
      if self.decay_steps + self.warmup_steps > self.num_steps:
        expected = f"at most num_steps={self.num_steps} less warmup_steps"
        raise FieldError("decay_steps", expected, self.decay_steps)

  @property
  def state_rules(self) -> tuple:
    """The sharding rules that the update rule's state needs."""
    return RULES.get(self.name).state_rules

  @property
  def rules(self) -> tuple:
    """The rules of trees.mask_from_rules for what is trained; empty: everything."""
    return trainable_rules(self.trainable)


def schedule(config: OptimizerConfig) -> optax.Schedule:
  """Return the learning rate as a function of the updates done before.

  s < W: lr * s / W;  else  lr_end + (lr - lr_end) * (1 + cos(pi * p)) / 2 with
  p = (s - W) / (T - W), held at lr_end for s > T.

  With D decay_steps the rate is held at lr until s = T - D, and then, with
  q = (s - (T - D)) / D, lr_end + (lr - lr_end) * (1 - q)  (linear)  or
  lr_end + (lr - lr_end) * (1 - sqrt(q))  (1-sqrt). With decay_on_recovery it is the
  rate before that decay, which may begin earlier: then T is its beginning plus D.

  With K still_steps it is 0 while s < K, and then all this of s - K and T - K.

  Reference: UNDO, arXiv 2506.06278, appendix on hyper-parameters. Warm-up, stable,
  decay: Hu et al., arXiv 2404.06395; 1 - sqrt: Haegele et al., arXiv 2405.18392.
  """
  if config.still_steps:
    left = config.num_steps - config.still_steps
    moving = dataclasses.replace(config, still_steps=0, num_steps=left)
    still = optax.constant_schedule(0.0)
    return optax.join_schedules([still, schedule(moving)], [config.still_steps])
  final = config.final_learning_rate
  if config.decay_steps is not None:
    held = dataclasses.replace(
      config, decay_steps=None, final_learning_rate=None, decay_on_recovery=False
    )
    if config.decay_on_recovery:  # The rest is in the state, see _DecayFromState.
      return schedule(held)
    begin = config.num_steps - config.decay_steps
    return optax.join_schedules([schedule(held), _decay(config)], [begin])
  if final is None or config.num_steps == config.warmup_steps:
    return optax.warmup_constant_schedule(
      0.0 if config.warmup_steps else config.learning_rate,
      config.learning_rate,
      config.warmup_steps,
    )
  return optax.warmup_cosine_decay_schedule(
    0.0 if config.warmup_steps else config.learning_rate,
    config.learning_rate,
    config.warmup_steps,
    config.num_steps,
    final,
  )


def _decay(config: OptimizerConfig) -> optax.Schedule:
  """Return the rate as a function of the updates since the decay began."""
  first, last, steps = (
    config.learning_rate,
    config.final_learning_rate or 0.0,
    config.decay_steps or 1,
  )

  def rate(count):
    q = jnp.clip(count / steps, 0.0, 1.0)
    left = 1.0 - (jnp.sqrt(q) if config.decay == "1-sqrt" else q)
    return last + (first - last) * left

  return rate


class _DecayFromState(NamedTuple):
  """The state of a decay whose beginning is not known beforehand."""

  updates: jax.Array  # Done so far.
  decay_begin: jax.Array  # Updates before the decay; at first as late as it may be.


def _decay_from_state(config: OptimizerConfig) -> optax.GradientTransformation:
  """Scale updates by the rate's share of its peak since state.decay_begin."""
  latest = config.num_steps - (config.decay_steps or 0)
  share = _decay(
    dataclasses.replace(
      config,
      learning_rate=1.0,
      final_learning_rate=(config.final_learning_rate or 0.0) / config.learning_rate,
    )
  )

  def init(params):
    del params
    return _DecayFromState(jnp.zeros([], jnp.int32), jnp.asarray(latest, jnp.int32))

  def update(updates, state, params=None):
    del params
    factor = share(state.updates - state.decay_begin)
    updates = jax.tree.map(lambda u: (factor * u).astype(u.dtype), updates)
    return updates, state._replace(updates=state.updates + 1)

  return optax.GradientTransformation(init, update)


def decay_begin(opt_state: Any) -> int | None:
  """Return the update at which a decay begins that a stop rule may start earlier.

  None: the optimizer has no such decay.
  """
  begin = optax.tree.get(opt_state, "decay_begin", None)
  return None if begin is None else int(begin)


def begin_decay(opt_state: Any, step: int) -> Any:
  """Return an optimizer's state whose decay begins after `step` updates."""
  before = optax.tree.get(opt_state, "decay_begin")
  begin = jax.device_put(jnp.asarray(step, before.dtype), before.sharding)
  return optax.tree.set(opt_state, decay_begin=begin)


def make_optimizer(
  config: OptimizerConfig,
  masks: Mapping[str, Params] | None = None,
  *,
  is_masked: bool = False,
) -> optax.GradientTransformation:
  """Return routing -> clip -> update rule with decoupled decay -> freezing.

  Args:
    config: of all but the routing.
    masks: by source, see routing.transforms.route_sources; None: the gradients come
      as they are.
    is_masked: its state begins with a mask of single weights, see Masked.
  """
  chain = _chain(config, schedule(config))
  if is_masked:
    chain = _masked(chain)
  if masks is None:
    return chain
  return optax.chain(route_sources(masks), chain)


def make_population_optimizer(config: OptimizerConfig) -> Any:
  """Return an optimizer whose learning rate is a leaf of its state.

  A population holds one such leaf a replica, so that one program trains every
  learning rate. It is multiplied by the schedule of a peak of 1.
  """
  final = config.final_learning_rate
  shape = dataclasses.replace(
    config,
    learning_rate=1.0,
    final_learning_rate=None if final is None else final / config.learning_rate,
  )

  def build(learning_rate):
    chain = _chain(config, learning_rate)
    if not config.warmup_steps and final is None and not config.still_steps:
      return chain
    return optax.chain(chain, optax.scale_by_schedule(schedule(shape)))

  return optax.inject_hyperparams(build)(learning_rate=config.learning_rate)


def _chain(config, learning_rate) -> optax.GradientTransformation:
  masks = [only_trainable(config.rules)] if config.trainable else []
  clip = config.clip_norm
  return optax.chain(
    *masks,  # Before clipping too: frozen parameters must not use up the norm.
    *([] if clip is None else [optax.clip_by_global_norm(clip)]),
    RULES.get(config.name).make(learning_rate, config.weight_decay),
    *([_decay_from_state(config)] if config.decay_on_recovery else []),
    *masks,  # So that decay does not move them.
    *_endings(config),
  )


def _endings(config: OptimizerConfig) -> list[optax.GradientTransformation]:
  begin, num_steps = config.average_begin, config.num_steps
  made = []
  if begin is not None:
    made.append(endings.at_average(begin, config.average_every, num_steps))
  if config.displacement != 1:
    made.append(endings.displaced(config.displacement, num_steps))
  return made


def trainable_rules(layers_by_path: Iterable) -> tuple:
  """Return the rules of trees.mask_from_rules for what a config says is trained.

  Args:
    layers_by_path: pairs (path regex, layers): of parameters under layers/ the
      indices of the layers that are trained, empty for all of them; empty for
      any other parameter. The first pair that matches a path decides.
  """
  return tuple(
    (pattern, 0, tuple(layers), 1.0) if layers else (pattern, None, None, 1.0)
    for pattern, layers in layers_by_path
  )


class Masked(NamedTuple):
  """An optimizer's state, and which weights it trains: all, until `mask` is set."""

  mask: Params  # bool, like the parameters.
  inner: optax.OptState


def _masked(inner: optax.GradientTransformation) -> optax.GradientTransformation:
  """Train only the weights of the state's mask, and clip only their gradients."""

  def init(params):
    mask = jax.tree.map(lambda p: jnp.ones(p.shape, bool), params)
    return Masked(mask, inner.init(params))

  def update(updates, state, params=None):
    def kept(tree):
      return jax.tree.map(lambda m, u: jnp.where(m, u, 0), state.mask, tree)

    updates, after = inner.update(kept(updates), state.inner, params)
    return kept(updates), Masked(state.mask, after)

  return optax.GradientTransformation(init, update)


def only_trainable(rules: tuple) -> optax.GradientTransformation:
  """Multiply updates by the 0/1 masks of the rules; the default is frozen."""

  def update(updates, params):
    del params
    return trees.masked(updates, rules)

  return optax.stateless(update)
