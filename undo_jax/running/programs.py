"""Compiled programs of a model on a mesh, each built once and shared by stages."""

from collections.abc import Callable
import dataclasses
import functools
import json
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
import optax

from undo_jax import attacks, objectives, tasks
from undo_jax.attacks import relearning
from undo_jax.attacks.attack import Members
from undo_jax.attacks.relearning import Evaluate
from undo_jax.distributed import placement, scheduling, sharding
from undo_jax.models import expansion
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import (
  Decoder,
  partition_rules,
)
from undo_jax.models.decoder import shapes as shapes_of
from undo_jax.objectives import chunked, routed
from undo_jax.plan.stages import AttackStage, TrainStage
from undo_jax.routing import era
from undo_jax.training import optimizers, population
from undo_jax.training import state as state_lib
from undo_jax.training.gradients import by_source, sharpness_aware
from undo_jax.training.optimizers import OptimizerConfig
from undo_jax.training.smoothing import Smoothing, smoothed
from undo_jax.training.step import Step, Steps, make_step, repeat
from undo_jax.utils import records, trees
from undo_jax.utils.types import Batch, Params

Ablate = Callable[[Params], tuple[Params, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Training:
  """A step with the functions that make its state, all compiled."""

  step: Step
  steps: Steps  # Several of them in one dispatch.
  create: Callable[[Params], state_lib.TrainState]
  abstract: state_lib.TrainState  # Shapes with shardings, for restoring.


@dataclasses.dataclass(frozen=True)
class Attack:
  """The relearning program with what makes its population.

  Members train in groups, one group after the other; see population.of_group.
  """

  # (state, frozen, problems, batches, key, group) -> (state, scores), or with several
  # models a tuple of states, frozen trees and scores.
  program: Callable[..., Any]
  # (params, learning rates [R], key) -> the state of group 0.
  create: Callable[[Params, jax.Array, jax.Array], state_lib.TrainState]
  # (parameters of all members, learning rates [R], group) -> that group's state.
  begin: Callable[[Params, jax.Array, jax.Array], state_lib.TrainState]
  abstract: state_lib.TrainState  # Shapes with shardings, of any group.
  reads_base: bool  # The frozen tree is {"base": the attacked model}, or else ().


class _Population(NamedTuple):
  """The members of an attack, and what makes their state."""

  members: Members
  transform: optax.GradientTransformation
  create: Callable[[Params, jax.Array, jax.Array], state_lib.TrainState]
  begin: Callable[[Params, jax.Array, jax.Array], state_lib.TrainState]
  abstract: state_lib.TrainState  # Shapes with shardings.


@functools.cache
def abstract_params(model: ModelConfig, mesh: Mesh) -> Params:
  """Return the parameters' shapes with their shardings."""
  shapes = shapes_of(model)
  return _with(shapes, sharding.tree_shardings(shapes, partition_rules(model), mesh))


@functools.cache
def initialize(model: ModelConfig, mesh: Mesh) -> Callable[[jax.Array], Params]:
  """Return `key -> params`, drawn straight into their shardings."""
  shardings = shardings_of(abstract_params(model, mesh))
  return jax.jit(Decoder(model).init, out_shardings=shardings)


@functools.cache
def training(
  model: ModelConfig,
  mesh: Mesh,
  objective: str,
  options: tuple[tuple[str, Any], ...],
  optimizer: OptimizerConfig,
  num_microbatches: int,
  rho: float = 0.0,
  smoothing: Smoothing | None = None,
  is_masked: bool = False,
) -> Training:
  """Return the training programs of an objective; see Training.

  With `rho` the gradients are sharpness-aware, see gradients.sharpness_aware; or they
  are those of a smoother loss. The caller sets the mask of a masked state.
  """
  fn = objectives.make(objective, chunked.deferring(Decoder(model)), **dict(options))
  params = abstract_params(model, mesh)
  method = objectives.REGISTRY.get(objective)
  find, masks, join = method.gradient_masks, None, None
  if smoothing is not None:
    gradients = smoothed(smoothing, trainable=optimizer.rules)
  elif find is not None:
    masks = jax.device_get(find(params, **dict(options)))
    gradients = by_source(masks)
  elif method.joins is not None:
    join = method.joins(optimizer.rules, **dict(options))
    gradients = by_source(join.sources)
  else:
    gradients = sharpness_aware(rho, trainable=optimizer.rules)
  transform = optimizers.make_optimizer(optimizer, masks, is_masked=is_masked)
  if join is not None:
    transform = optax.chain(join.transform, transform)
  step = make_step(
    fn,
    transform,
    num_microbatches=num_microbatches,
    gradients=gradients,
    num_steps=optimizer.num_steps if method.reads_progress else None,
    carried=join and join.carried,
  )
  create = functools.partial(state_lib.create, optimizer=transform)
  shapes = jax.eval_shape(create, params)
  rules = [*partition_rules(model), *optimizer.state_rules]
  rules += [] if join is None else join.state_rules
  shardings = sharding.tree_shardings(shapes, rules, mesh)

  def compiled(fn, leading, *others):
    return jax.jit(
      placement.on(mesh, fn),
      # The frozen tree keeps the shardings it comes with.
      in_shardings=(
        shardings,
        None,
        sharding.batch_sharding(mesh, leading=leading),
        *others,
      ),
      out_shardings=(shardings, sharding.replicated(mesh)),
      donate_argnums=0,
      compiler_options=scheduling.options(mesh, params),
    )

  return Training(
    step=compiled(step, 0, None),
    steps=compiled(repeat(step), 1, None, None),
    create=jax.jit(create, out_shardings=shardings),
    abstract=_with(shapes, shardings),
  )


def training_of(stage: TrainStage, mesh: Mesh) -> Training:
  """Return the training programs of a stage."""
  options = {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in stage.options.items()
  }
  if stage.reserve is not None:
    reserved = records.to_json(stage.reserve)
    options["routing"] = routed.Routing(stage.model, **reserved)
  return training(
    stage.model,
    mesh,
    stage.objective,
    tuple(sorted(options.items())),
    stage.optimizer,
    stage.num_microbatches,
    stage.rho,
    stage.smoothing,
    stage.trained is not None,
  )


@functools.cache
def ablate(model: ModelConfig, mesh: Mesh, mlp_units: int, kv_heads: int) -> Ablate:
  """Return `params -> (params, whether they are ablated)`, compiled.

  The reserved units become zero, see models.expansion.reserve.
  """
  reserved = expansion.reserve(model, mlp_units=mlp_units, kv_heads=kv_heads)
  shardings = shardings_of(abstract_params(model, mesh))

  def ablated(params):
    params = era.ablate(params, reserved)
    return params, era.is_ablated(params, reserved)

  return jax.jit(ablated, out_shardings=(shardings, None))


@functools.cache
def freeze(model: ModelConfig, mesh: Mesh) -> Callable[[Params], Params]:
  """Return `params -> params` for models that are only read, compiled.

  Matrices in the compute dtype: they are rounded to it wherever they are used, and
  bfloat16 takes half the memory of float32. The rest stays as it is.
  """
  rules = ((r"(.*/)?(kernel|embedding)", model.dtype),)

  def cast(params):
    dtypes = trees.match(params, rules, default="")
    return jax.tree.map(lambda x, dtype: x.astype(dtype or x.dtype), params, dtypes)

  return jax.jit(cast, out_shardings=shardings_of(abstract_params(model, mesh)))


def abstract_frozen(model: ModelConfig, mesh: Mesh) -> Params:
  """Return the shapes and shardings of what `freeze` returns."""
  params = abstract_params(model, mesh)
  return _with(jax.eval_shape(freeze(model, mesh), params), shardings_of(params))


@functools.cache
def evaluate(
  model: ModelConfig,
  mesh: Mesh,
  task: str,
  names: tuple[str, ...],
  rows_at_once: int,
  beside: tuple[str, str, float] | None = None,
) -> Evaluate:
  """Return `(params, problems) -> scores` of a task, compiled.

  With an edit (its name, its options as JSON, the strength) that puts something beside
  the weights, the params are what edit.Beside says.
  """
  make_evaluate = tasks.get(task).make_evaluate
  apply = chunked.deferring(Decoder(model))
  if beside is not None:
    name, options, strength = beside
    record = attacks.EDITS.get(name)
    assert record.beside is not None, "the caller has asked"
    parsed = record.parse(json.loads(options))
    apply = record.beside.using(model, strength, parsed, apply)
  scores = make_evaluate(apply, names, rows_at_once=rows_at_once)
  # Whole in every process.
  return jax.jit(placement.on(mesh, scores), out_shardings=sharding.replicated(mesh))


@functools.cache
def edit(
  model: ModelConfig, mesh: Mesh, name: str, options: str, strength: float
) -> Callable[[Params, Params | None, jax.Array], Params]:
  """Return `(params, base or None, key) -> params`, an edit of a strength, compiled.

  Its options are JSON.
  """
  record = attacks.EDITS.get(name)
  parsed = record.parse(json.loads(options))
  shardings = shardings_of(abstract_params(model, mesh))

  def edited(params, base, key):
    return record.apply(params, base, strength, key, parsed)

  return jax.jit(edited, out_shardings=shardings)


@functools.cache
def find_beside(
  model: ModelConfig, mesh: Mesh, name: str, options: str, strength: float
) -> Callable[[Params, Batch, jax.Array], Params]:
  """Return `(params, batch, key) -> what an edit puts beside the model`, compiled.

  Its options are JSON.
  """
  edit = attacks.EDITS.get(name)
  assert edit.beside is not None, "the caller has asked"
  find, parsed = edit.beside.find, edit.parse(json.loads(options))

  def vectors(params, batch, key):
    return find(model, params, batch, strength, key, parsed)

  return jax.jit(placement.on(mesh, vectors), out_shardings=sharding.replicated(mesh))


def attack_of(
  stage: AttackStage,
  mesh: Mesh,
  names: tuple[str, ...],
  rows_at_once: int,
  at_once: int | None,
  num_models: int = 1,
) -> Attack:
  """Return the relearning programs of an attack on so many models at once.

  What belongs to one model goes in and out as an element of a tuple.
  """
  return attack(
    stage.model,
    mesh,
    stage.task,
    names,
    rows_at_once,
    stage.optimizer,
    len(stage.learning_rates),
    (stage.adversary, json.dumps(stage.options)),
    at_once,
    num_models,
  )


@functools.cache
def attack(
  model: ModelConfig,
  mesh: Mesh,
  task: str,
  names: tuple[str, ...],
  rows_at_once: int,
  optimizer: OptimizerConfig,
  num_replicas: int,
  adversary: tuple[str, str] = ("finetuning", "{}"),
  at_once: int | None = None,
  num_models: int | None = None,
) -> Attack:
  """Return the relearning programs of a population; see Attack.

  `create` takes (params, learning rates [R], key); the adversary (its name, its
  options as JSON) says what each member trains, and whether the frozen tree is empty
  or {"base": params}. With `num_models` the program is relearning.over_models. A group
  has `at_once` members; None: all.
  """
  size = at_once or num_replicas
  members, transform, create, begin, abstract = _population(
    model, mesh, optimizer, num_replicas, size, adversary
  )
  make_evaluate = tasks.get(task).make_evaluate
  apply = members.apply or chunked.deferring(Decoder(model))
  scores = make_evaluate(apply, names, rows_at_once=rows_at_once)
  shardings = shardings_of(abstract)
  step = make_step(members.objective, transform)
  if members.project is not None:
    step = relearning.projected(step, members.project)
  program = relearning.make_program(step, scores, weights=members.weights)
  program = population.of_group(program, size)
  populations = shardings
  if num_models is not None:
    program = relearning.over_models(program)
    populations = (shardings,) * num_models
  batches = sharding.batch_sharding(mesh, leading=2)
  return Attack(
    program=jax.jit(
      placement.on(mesh, program),
      # The frozen tree keeps the shardings it comes with.
      in_shardings=(populations, None, None, batches, None, None),
      out_shardings=(populations, sharding.replicated(mesh)),
      donate_argnums=0,
      compiler_options=scheduling.options(mesh, abstract_params(model, mesh)),
    ),
    create=jax.jit(create, out_shardings=shardings),
    begin=jax.jit(begin, out_shardings=shardings, donate_argnums=0),
    abstract=abstract,
    reads_base=members.reads_base,
  )


def abstract_attack(
  stage: AttackStage, mesh: Mesh, at_once: int | None
) -> state_lib.TrainState:
  """Return what `attack_of` has as `abstract`, without a program."""
  adversary = stage.adversary, json.dumps(stage.options)
  rates = len(stage.learning_rates)
  made = _population(
    stage.model, mesh, stage.optimizer, rates, at_once or rates, adversary
  )
  return made.abstract


@functools.cache
def _population(
  model: ModelConfig,
  mesh: Mesh,
  optimizer: OptimizerConfig,
  num_replicas: int,
  size: int,
  adversary: tuple[str, str],
) -> _Population:
  members = attacks.members_of(model, adversary[0], json.loads(adversary[1]))
  transform = optimizers.make_population_optimizer(optimizer)
  params, key = abstract_params(model, mesh), jax.random.key(0)

  def single(params, key):
    return state_lib.create(members.start(params, key), transform)

  def begin(params, rates, group):
    params_n = population.group_of(params, group, size)
    rates_n = population.group_of(rates, group, size)
    return population.begin(params_n, transform, rates_n)._replace(params=params)

  def create(params, rates, key):
    params_R = population.copies(members.start(params, key), num_replicas)
    return begin(params_R, rates, 0)

  rules = [
    *members.rules(jax.eval_shape(members.start, params, key)),
    *optimizer.state_rules,
  ]
  shardings = population.shardings(
    sharding.tree_shardings(jax.eval_shape(single, params, key), rules, mesh)
  )
  rates = jax.ShapeDtypeStruct((num_replicas,), jax.numpy.float32)
  abstract = _with(jax.eval_shape(create, params, rates, key), shardings)
  return _Population(members, transform, create, begin, abstract)


def _with(shapes, shardings):
  return jax.tree.map(
    lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where),
    shapes,
    shardings,
  )


def shardings_of(abstract):
  """Return the shardings of a tree of jax.ShapeDtypeStructs."""
  return jax.tree.map(lambda s: s.sharding, abstract)
