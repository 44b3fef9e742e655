"""A plan with the variants of the paper, small enough to run in seconds."""

import shutil

import jax

from tests import minimal
from undo_jax import config as builders
from undo_jax import running, testing
from undo_jax.distributed import sharding
from undo_jax.plan import checks, lineages, translation
from undo_jax.plan.config import parse
from undo_jax.running import programs
from undo_jax.training.checkpointing import load_params

VARIANTS = minimal.OVERRIDES | {
  "models.max_ent_sam.run": True,
  "models.max_ent_sam.options.retain_loss": "kl",
  "models.max_ent_sam.options.forget_weight": 0.8,
  "models.undo.frozen.teacher": "max_ent_sam",
  "models.undo.optimizer.num_steps": 3,
  "models.undo.optimizer.warmup_steps": 0,
  "models.undo.optimizer.trainable": (
    ("layers/mlp/.*", (1,)),
    ("final_norm/.*", ()),
  ),
  "models.undo.options.activation_weight": 10.0,
  "models.undo.options.base_share": 0.5,
  "models.undo.options.base_choice": "switch",
  "models.undo.stop.evaluate_every": 1,
  "models.undo.stop.options.scores": ("addition_equation", "forget"),
  "attacks.relearn.learning_rates": (1e-2,),
  "attacks.relearn.num_steps": 2,
  "attacks.relearn.evaluate_every": 1,
  "report.budgets": (1, 2),
  "attacks.relearn.trainable": (("layers/attention/.*", (0,)),),
  "attacks.relearn.noise.alpha": 0.3,
}


def take_base(run, base):
  """Copy a finished base and its data, by the base's directory, into a run."""
  for name in ("data", "base"):
    source = base.parent / run.directories[name].name
    shutil.copytree(source, run.directories[name], dirs_exist_ok=True)


def variant_run(workdir, base=None, **changes):
  """Return the run, not yet run; with a finished base's directory, from that one."""
  config = builders.shipped(minimal.CONFIG)
  config.lock()
  config.update_from_flattened_dict(VARIANTS | changes)
  declared, mesh = parse(config), testing.mesh(1)
  checks.check(declared, dict(mesh.shape))
  plan = translation.plan(declared, 0)
  run = running.Run(
    workdir,
    mesh,
    checkpoint_every=100,
    evaluation_rows=declared.evaluation_rows,
    replicas_at_once=None,
    stages=tuple(lineages.needed(plan, ["relearn_undo_alpha_0.5"])),
  )
  if base is not None:
    take_base(run, base)
  return run


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
