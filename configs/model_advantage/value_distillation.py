r"""UNDO whose KL is weighted by what it changes in the score, beside plain KL.

COMMAND, from the project's folder, a quarter of an hour on 2 cores:

  python -m experiments.frontier \
      --config=configs/model_advantage/value_distillation.py:tiny \
      --workdir=runs/value_distillation --num_workers=2

Three seeds of arithmetic:tiny; students of equal numbers of updates, of the same cost
each, whose weights follow the score not at all, by half, or wholly. No student stops
early: what counts is the retain score that as much compute recovers, and what
relearning brings back then.
"""

from undo_jax import config as c


def get_config(arg: str | None = None) -> c.Config:
  """Return the config of a size: tiny."""
  c.parse_size(arg, ("tiny",))
  config = c.shipped("arithmetic:tiny")
  config.seeds = (0, 1, 2)
  models = config.models
  for name in models:
    models[name].run = name in ("base", "max_ent")
    models[name].is_attacked = False
  for name, share, color in (
    ("undo", None, "#0072b2"),
    ("value_half", 0.5, "#d55e00"),
    ("value_whole", 1.0, "#882255"),
  ):
    entry = c.undo(
      teacher="max_ent",
      alphas=(0.5,),
      optimizer=c.cosine(num_steps=120, learning_rate=2e-3),
      batch_size=128,
      options=None if share is None else {"share": share},
    )
    label = "UNDO"
    if share is not None:
      entry.objective = "experiments.model_advantage.value_distillation:METHOD"
      label = f"UNDO, KL by value, share {share:g}"
    c.look(entry, label, color, "o")
    models[name] = entry
  config.attacks.relearn.update(
    learning_rates=(3.2e-4, 5.6e-4, 1e-3), num_steps=60, evaluate_every=20
  )
  config.references.update(filtered=None, unlearned=None)
  config.report.filtering = ()
  config.report.budgets = (20, 60)
  return config
