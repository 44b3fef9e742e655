"""Compiled programs of a model on a mesh, each built once and shared by stages."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any

import jax
from jax.sharding import Mesh

from undo_jax import interpolation, objectives
from undo_jax import tasks as settings
from undo_jax.attacks import relearning
from undo_jax.distributed import placement, sharding
from undo_jax.models import expansion, lora
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder, noise_rules, partition_rules
from undo_jax.objectives import chunked, rmu, routed
from undo_jax.routing import era
from undo_jax.training import optimizers, population
from undo_jax.training import state as state_lib
from undo_jax.training.gradients import sharpness_aware
from undo_jax.training.optimizers import OptimizerConfig, trainable_rules
from undo_jax.training.step import Step, make_step
from undo_jax.utils import trees
from undo_jax.utils.types import Objective, Params


@dataclasses.dataclass(frozen=True)
class Training:
  """A step with the functions that make its state, all compiled."""

  step: Step
  create: Callable[[Params], state_lib.TrainState]
  abstract: state_lib.TrainState  # Shapes with shardings, for restoring.


@dataclasses.dataclass(frozen=True)
class Attack:
  """The relearning program with what makes its population."""

  program: relearning.Program
  create: Callable[[Params, jax.Array, jax.Array], state_lib.TrainState]
  abstract: state_lib.TrainState


@functools.cache
def abstract_params(model: ModelConfig, mesh: Mesh) -> Params:
  """Returns the parameters' shapes with their shardings."""
  shapes = jax.eval_shape(Decoder(model).init, jax.random.key(0))
  return _with(shapes, sharding.tree_shardings(shapes, partition_rules(model), mesh))


@functools.cache
def initialize(model: ModelConfig, mesh: Mesh) -> Callable[[jax.Array], Params]:
  """Returns `key -> params`, drawn straight into their shardings."""
  shardings = _shardings(abstract_params(model, mesh))
  return jax.jit(Decoder(model).init, out_shardings=shardings)


@functools.cache
def noise(
  model: ModelConfig, mesh: Mesh, trainable: tuple = ()
) -> Callable[..., Params]:
  """Returns `(params, key, alpha, beta) -> params`, UNDO's interpolation.

  Of what is not `trainable` (rules of trees.mask_from_rules), nothing changes.
  """
  shardings = _shardings(abstract_params(model, mesh))

  def toward_init(params, key, alpha, beta):
    return interpolation.toward_init(
      params,
      key,
      alpha=alpha,
      beta=beta,
      rules=noise_rules(model),
      trainable=trainable,
    )

  return jax.jit(toward_init, out_shardings=shardings)


@functools.cache
def training(
  model: ModelConfig,
  mesh: Mesh,
  objective: str,
  options: tuple[tuple[str, Any], ...],
  optimizer: OptimizerConfig,
  num_microbatches: int,
  rho: float = 0.0,
) -> Training:
  """Returns the training programs of an objective; see Training.

  With `rho` the gradients are sharpness-aware, see gradients.sharpness_aware.
  """
  fn = objectives.make(objective, chunked.deferring(Decoder(model)), **dict(options))
  transform = optimizers.make_optimizer(optimizer)
  step = make_step(
    fn,
    transform,
    num_microbatches=num_microbatches,
    gradients=sharpness_aware(rho, trainable=optimizer.trainable),
  )
  create = functools.partial(state_lib.create, optimizer=transform)
  shapes = jax.eval_shape(create, abstract_params(model, mesh))
  shardings = sharding.tree_shardings(shapes, partition_rules(model), mesh)
  return Training(
    step=jax.jit(
      placement.on(mesh, step),
      # The frozen tree keeps the shardings it comes with.
      in_shardings=(shardings, None, sharding.batch_sharding(mesh), None),
      out_shardings=(shardings, sharding.replicated(mesh)),
      donate_argnums=0,
    ),
    create=jax.jit(create, out_shardings=shardings),
    abstract=_with(shapes, shardings),
  )


def training_of(settings: Mapping[str, Any], mesh: Mesh) -> Training:
  """Returns the training programs of a stage by its settings; see stages.py."""
  options = {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in settings["options"].items()
  }
  model = ModelConfig(**settings["model"])
  if "routing" in settings:
    options["routing"] = routed.Routing(model, **settings["routing"])
  rules = trainable(settings["optimizer"])
  if settings["objective"] == "rmu":
    rules = rmu.trainable(options["layers"])
  return training(
    model,
    mesh,
    settings["objective"],
    tuple(sorted(options.items())),
    OptimizerConfig(**settings["optimizer"] | {"trainable": rules}),
    settings["num_microbatches"],
    settings.get("rho", 0.0),
  )


def trainable(settings: Mapping[str, Any]) -> tuple:
  """Returns the rules of what an optimizer or attack trains; empty: everything."""
  return trainable_rules(settings.get("trainable", ()))


@functools.cache
def ablate(
  model: ModelConfig, mesh: Mesh, mlp_units: int, kv_heads: int
) -> Callable[[Params], tuple[Params, jax.Array]]:
  """Returns `params -> (params, whether they are ablated)`, compiled.

  What was reserved becomes zero, see models.expansion.reserve.
  """
  reserved = expansion.reserve(model, mlp_units=mlp_units, kv_heads=kv_heads)
  shardings = _shardings(abstract_params(model, mesh))

  def ablated(params):
    params = era.ablate(params, reserved)
    return params, era.is_ablated(params, reserved)

  return jax.jit(ablated, out_shardings=(shardings, None))


@functools.cache
def freeze(model: ModelConfig, mesh: Mesh) -> Callable[[Params], Params]:
  """Returns `params -> params` for models that are only read, compiled.

  Matrices in the compute dtype: they are rounded to it wherever they are used, and
  bfloat16 takes half the memory of float32. The rest stays as it is.
  """
  rules = ((r"(.*/)?(kernel|embedding)", model.dtype),)

  def cast(params):
    dtypes = trees.match(params, rules, default="")
    return jax.tree.map(lambda x, dtype: x.astype(dtype or x.dtype), params, dtypes)

  return jax.jit(cast, out_shardings=_shardings(abstract_params(model, mesh)))


def abstract_frozen(model: ModelConfig, mesh: Mesh) -> Params:
  """Returns the shapes and shardings of what `freeze` returns."""
  params = abstract_params(model, mesh)
  return _with(jax.eval_shape(freeze(model, mesh), params), _shardings(params))


@functools.cache
def evaluate(
  model: ModelConfig,
  mesh: Mesh,
  setting: str,
  tasks: tuple[str, ...],
  rows_at_once: int,
) -> Callable:
  """Returns `(params, problems) -> scores` of a setting, compiled."""
  make_evaluate = settings.get(setting).make_evaluate
  scores = make_evaluate(Decoder(model).apply, tasks, rows_at_once=rows_at_once)
  # Whole in every process.
  return jax.jit(placement.on(mesh, scores), out_shardings=sharding.replicated(mesh))


@functools.cache
def attack(
  model: ModelConfig,
  mesh: Mesh,
  setting: str,
  tasks: tuple[str, ...],
  rows_at_once: int,
  optimizer: OptimizerConfig,
  num_replicas: int,
  adapters: lora.LoraConfig | None = None,
  at_once: int | None = None,
) -> Attack:
  """Returns the relearning programs of a population; see Attack.

  `create` takes (params, learning rates [R], key). Without adapters its members
  are copies of the parameters, the key is not used and the program's frozen tree
  is empty; with them they are fresh adapters, the same for every member, and the
  frozen tree is {"base": params}.
  """
  apply = Decoder(model).apply
  transform = optimizers.make_population_optimizer(optimizer)
  make_evaluate = settings.get(setting).make_evaluate
  scores = make_evaluate(apply, tasks, rows_at_once=rows_at_once)
  deferring = chunked.deferring(Decoder(model))
  members = _members(model, adapters, objectives.make("cross_entropy", deferring))
  params, key = abstract_params(model, mesh), jax.random.key(0)

  def single(params, key):
    return state_lib.create(members.start(params, key), transform)

  def create(params, rates, key):
    return population.create(members.start(params, key), transform, rates)

  rules = members.rules(jax.eval_shape(members.start, params, key))
  shardings = population.shardings(
    sharding.tree_shardings(jax.eval_shape(single, params, key), rules, mesh)
  )
  rates = jax.ShapeDtypeStruct((num_replicas,), jax.numpy.float32)
  program = relearning.make_program(
    make_step(members.objective, transform),
    scores,
    weights=members.weights,
    at_once=at_once,
  )
  return Attack(
    program=jax.jit(
      placement.on(mesh, program),
      # The frozen tree keeps the shardings it comes with.
      in_shardings=(
        shardings,
        None,
        None,
        sharding.batch_sharding(mesh, leading=2),
        None,
      ),
      out_shardings=(shardings, sharding.replicated(mesh)),
      donate_argnums=0,
    ),
    create=jax.jit(create, out_shardings=shardings),
    abstract=_with(jax.eval_shape(create, params, rates, key), shardings),
  )


def attack_of(
  settings: Mapping[str, Any],
  mesh: Mesh,
  tasks: tuple[str, ...],
  rows_at_once: int,
  at_once: int | None,
) -> Attack:
  """Returns the relearning programs of an attack by its settings; see stages.py."""
  adversary = settings["attack"]
  adapters = None
  if "lora" in adversary:  # What is trained in place of the weights.
    targets = tuple(adversary["lora"]["targets"])
    adapters = lora.LoraConfig(**{**adversary["lora"], "targets": targets})
  return attack(
    ModelConfig(**settings["model"]),
    mesh,
    settings["setting"],
    tasks,
    rows_at_once,
    OptimizerConfig(
      learning_rate=1.0,  # Each replica's own stands in its state.
      num_steps=adversary["num_steps"],
      warmup_steps=adversary.get("warmup_steps", 0),
      weight_decay=adversary["weight_decay"],
      clip_norm=adversary["clip_norm"],
      trainable=trainable(adversary),
    ),
    len(adversary["learning_rates"]),
    adapters,
    at_once,
  )


@dataclasses.dataclass(frozen=True)
class _Members:
  """What an attack trains: where it starts, its objective, model and sharding."""

  start: Callable[[Params, jax.Array], Params]
  objective: Objective
  weights: relearning.Weights
  rules: Callable[[Params], trees.Rules]


def _members(
  model: ModelConfig, adapters: lora.LoraConfig | None, objective: Objective
) -> _Members:
  rules = partition_rules(model)
  if adapters is None:
    return _Members(
      start=lambda params, key: params,
      objective=objective,
      weights=lambda params, frozen: params,
      rules=lambda params: rules,
    )
  scale = adapters.scale
  return _Members(
    start=functools.partial(lora.init, rank=adapters.rank, targets=adapters.targets),
    objective=lora.over_adapters(objective, scale=scale),
    weights=lambda pairs, frozen: lora.merge(frozen["base"], pairs, scale=scale),
    rules=lambda pairs: lora.partition_rules(pairs, rules),
  )


def _with(shapes, shardings):
  return jax.tree.map(
    lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where),
    shapes,
    shardings,
  )


def _shardings(abstract):
  return jax.tree.map(lambda s: s.sharding, abstract)
