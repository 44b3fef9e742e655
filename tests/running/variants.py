"""A plan with the variants of the paper, small enough to run in seconds."""

import jax

from undo_jax import config as builders
from undo_jax import running, testing
from undo_jax.distributed import sharding
from undo_jax.plan import checks, stages, translation
from undo_jax.plan.config import parse
from undo_jax.running import programs
from undo_jax.training.checkpointing import load_params

VARIANTS = {
  "data.num_equations": 64,
  "data.num_evaluation": 2,
  "model.num_layers": 2,
  "model.width": 16,
  "model.mlp_width": 32,
  "model.head_dim": 8,
  "model.scan_unroll": 1,
  "models.base.optimizer.num_steps": 2,
  "models.base.optimizer.warmup_steps": 0,
  "models.base.batch_size": 16,
  "models.max_ent.optimizer.num_steps": 2,
  "models.max_ent.batch_size": 16,
  "models.max_ent_sam.run": True,
  "models.max_ent_sam.options.retain_loss": "kl",
  "models.max_ent_sam.options.forget_weight": 0.8,
  "models.max_ent_rep_noise.run": True,
  "models.undo.frozen.teacher": "max_ent_sam",
  "models.undo.sweep.noise.alpha": (0.5,),
  "models.undo.optimizer.num_steps": 3,
  "models.undo.optimizer.warmup_steps": 0,
  "models.undo.optimizer.trainable": (
    ("layers/mlp/.*", (1,)),
    ("final_norm/.*", ()),
  ),
  "models.undo.batch_size": 16,
  "models.undo.options.activation_weight": 10.0,
  "models.undo.options.base_share": 0.5,
  "models.undo.options.base_choice": "switch",
  "models.undo.stop.evaluate_every": 1,
  "models.undo.stop.options.scores": ("addition_equation", "forget"),
  # Nothing recovers: every step is run.
  "models.undo.stop.options.tolerance": 0.0,
  "attacks.relearn.learning_rates": (1e-2,),
  "attacks.relearn.num_steps": 2,
  "attacks.relearn.evaluate_every": 1,
  "attacks.relearn.batch_size": 8,
  "attacks.relearn.trainable": (("layers/attention/.*", (0,)),),
  "attacks.relearn.noise.alpha": 0.3,
}


UNLEARNED = ("max_ent_sam", "max_ent_rep_noise")


def variant_run(workdir, **changes):
  config = builders.shipped("arithmetic:tiny")
  config.lock()
  config.update_from_flattened_dict(VARIANTS | changes)
  declared, mesh = parse(config), testing.mesh(1)
  checks.check(declared, dict(mesh.shape))
  plan = translation.plan(declared, 0)
  names = [*UNLEARNED, "relearn_undo_alpha_0.5"]
  return running.Run(
    workdir,
    mesh,
    checkpoint_every=100,
    evaluation_rows=64,
    replicas_at_once=None,
    stages=tuple(stages.needed(plan, names)),
  )


def params_of(run, name):
  abstract = programs.abstract_params(run.stages[1].model, run.mesh)
  return load_params(run.directories[name] / "checkpoints", abstract)


def params_of_population(run, name):
  abstract = programs.abstract_params(run.stages[1].model, run.mesh)
  grown = jax.tree.map(
    lambda s: jax.ShapeDtypeStruct(
      (1, *s.shape), s.dtype, sharding=sharding.replicated(run.mesh)
    ),
    abstract,
  )
  return load_params(run.directories[name] / "checkpoints", grown)
