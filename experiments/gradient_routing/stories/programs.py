"""The programs; each is compiled once for all seeds and fractions."""

from collections.abc import Callable
import dataclasses
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from experiments.gradient_routing.stories import methods as methods_lib
from experiments.gradient_routing.stories.batches import NAMES
from experiments.gradient_routing.stories.config import Config, Repair, Rmu
from undo_jax.attacks import relearning
from undo_jax.evaluation import cross_entropy as scoring
from undo_jax.models import expansion
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder
from undo_jax.objectives import cross_entropy, rmu, routed, sgtm
from undo_jax.training import optimizers
from undo_jax.training import state as state_lib
from undo_jax.training.gradients import by_source
from undo_jax.training.optimizers import OptimizerConfig
from undo_jax.training.step import Step, make_step, scan_steps
from undo_jax.utils.types import Batch, Objective, Params

# (params, batches [S, ...], key) -> params.
Unlearn: TypeAlias = Callable[[Params, Batch, jax.Array], Params]
# (params, batch, problems, key) -> the best params of all updates.
RepairProgram: TypeAlias = Callable[
  [Params, Batch, scoring.Problems, jax.Array], Params
]


class Trained(NamedTuple):
  """The programs that train and score the models of a method."""

  routing: routed.Routing | None  # None: nothing is ablated.
  optimizer: optax.GradientTransformation
  run: Step  # Trains on all batches.
  score: relearning.Evaluate


class Programs:
  """All programs; each is compiled at its first call."""

  def __init__(self, config: Config):
    """Raise ConfigError if sizes or units of the config do not fit."""
    self.model = config.model
    self._optimizer = optimizers.make_optimizer(config.train)
    self._rows_at_once = config.evaluation.rows_at_once
    self.methods = self._methods(config)
    self._plain = cross_entropy.make(Decoder(self.model).apply)
    # Methods that start from the base.
    self.unlearning = {"rmu": self._make_rmu(config.rmu, config.train.forget_rows)}
    self.repair = jax.jit(self._make_repair(config.repair))
    retrain = config.retrain
    self.retrain_optimizer = optimizers.make_population_optimizer(
      OptimizerConfig(
        learning_rate=0.0,  # Each member has its own.
        num_steps=retrain.num_steps,
        weight_decay=retrain.weight_decay,
      )
    )
    step = make_step(self._plain, self.retrain_optimizer)
    self.retrain = jax.jit(relearning.make_program(step, self._evaluate(self.model)))

  def _methods(self, config: Config) -> dict[str, Trained]:
    block = config.routing
    routing = self._routing(block.mlp_units, 0, block.layers, block.old_target)
    masked = self._routing(config.sgtm.mlp_units, config.sgtm.kv_heads)

    def era(coherence_weight):
      return methods_lib.expand_route_ablate(
        Decoder(routing.model).apply,
        routing=routing,
        l1_weight=block.l1_weight,
        coherence_weight=coherence_weight,
      )

    of_labels = methods_lib.sgtm(
      Decoder(masked.model).apply,
      routing=masked,
      forget_rows=config.train.forget_rows,
    )
    filtering = methods_lib.filtering(Decoder(self.model).apply)
    return {
      "filtering": self._trained(filtering),
      "era": self._trained(era(0.0), routing),
      "era_coherent": self._trained(era(block.coherence_weight), routing),
      "sgtm": self._masked(of_labels, masked, config.train),
    }

  def _routing(
    self,
    mlp_units: int,
    kv_heads: int,
    layers: tuple[int, ...] | None = None,
    old_target: float = 0.0,
  ) -> routed.Routing:
    whole = expansion.resize(self.model, mlp_units, kv_heads)
    return routed.Routing(whole, mlp_units, kv_heads, layers, old_target)

  def _trained(
    self, objective: Objective, routing: routed.Routing | None = None
  ) -> Trained:
    step = make_step(objective, self._optimizer)
    score = jax.jit(self._evaluate(routing.model if routing else self.model))
    return Trained(routing, self._optimizer, jax.jit(scan_steps(step)), score)

  def _masked(
    self, objective: Objective, routing: routed.Routing, config: OptimizerConfig
  ) -> Trained:
    shapes = jax.eval_shape(Decoder(routing.model).init, jax.random.key(0))
    masks = sgtm.masks(shapes, routing=routing)
    optimizer = optimizers.make_optimizer(config, masks)
    step = make_step(objective, optimizer, gradients=by_source(masks))
    score = jax.jit(self._evaluate(routing.model))
    return Trained(routing, optimizer, jax.jit(scan_steps(step)), score)

  def _evaluate(
    self, model: ModelConfig, names: tuple[str, ...] = NAMES
  ) -> relearning.Evaluate:
    at_once = self._rows_at_once
    return scoring.make_evaluate(Decoder(model).apply, names, rows_at_once=at_once)

  def _make_rmu(self, block: Rmu, forget_rows: int) -> Unlearn:
    trainable = rmu.trainable(layers=block.layers)
    optimizer = optimizers.make_optimizer(
      dataclasses.replace(block, trainable=trainable)
    )
    objective = methods_lib.rmu_by_label(
      Decoder(self.model).apply,
      forget_rows=forget_rows,
      layers=block.layers,
      coefficient=block.coefficient,
      retain_weight=block.retain_weight,
    )
    steps = scan_steps(make_step(objective, optimizer))

    def unlearn(params, batches, key):
      batches = {name: x[: block.num_steps] for name, x in batches.items()}
      direction_D = rmu.random_direction(key, self.model.width)
      frozen = {"reference": params, "direction": direction_D}
      start = state_lib.create(params, optimizer)
      return steps(start, frozen, batches, key)[0].params

    return jax.jit(unlearn)

  def _make_repair(self, block: Repair) -> RepairProgram:
    optimizer = optimizers.make_optimizer(block)
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
