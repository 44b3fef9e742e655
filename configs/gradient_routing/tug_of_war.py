"""The tug of war of routing, and how the coherence term ends it.

COMMAND:

  python -m experiments.gradient_routing.tug_of_war \
      --config=configs/gradient_routing/tug_of_war.py --workdir=runs/tug_of_war

Sizes: `small` (the default) and `tiny`, which tests run.

Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, appendix.
"""

from undo_jax import config as c


def get_config(arg: str | None = None) -> c.Config:
  """Return the config of a size: small or tiny."""
  size = c.parse_size(arg, ("small", "tiny"))
  config = c.table()
  config.seeds = (0, 1, 2)  # For weights and batches; more may be added.
  config.two_parameters = c.block(
    coherence=(0.0, 0.05, 0.2, 1.0),  # Weights of the coherence term.
    num_steps=4000,  # Updates.
    learning_rate=0.01,  # Of gradient descent.
    record_every=20,  # Updates between recorded values.
  )
  config.two_tasks = c.block(
    old_units=64,  # Hidden units that stay.
    new_units=32,  # Hidden units that are ablated.
    rows=128,  # Of each task in a batch.
    num_steps=4000,  # Updates.
    learning_rate=3e-3,  # Of Adam, constant.
    num_evaluation=4000,  # Rows of each task that are scored.
  )
  config.two_tasks.ways = c.block(
    no_routing=_way(),  # Everything trains everything.
    activations_0=_way(old_units=0.0),  # Forget data does not train old units.
    activations_ascent=_way(old_units=-0.75),  # Forget data worsens them (paper).
    hard_split=_way(old_parameters=0.0, new_retain=0.0),  # Separate parameters.
    parameters=_way(old_parameters=0.0),  # Forget trains new parameters, retain all.
    activations_0_coherent=_way(old_units=0.0, coherence=0.2),  # With coherence.
    activations_ascent_coherent=_way(old_units=-0.75, coherence=0.2),  # With coherence.
    parameters_coherent=_way(old_parameters=0.0, coherence=0.2),  # At a low weight.
    parameters_coherent_1=_way(old_parameters=0.0, coherence=1.0),  # At a high weight.
    sgtm=_way(old_parameters=0.0, sgtm=1.0),  # Retain data runs without new units.
  )
  if size == "tiny":
    config.seeds = (0,)
    config.two_parameters.update(num_steps=40, record_every=10)
    config.two_tasks.update(
      old_units=8, new_units=4, rows=8, num_steps=5, num_evaluation=16
    )
  return config


def _way(**changes: float) -> c.Config:
  """Return a way to train; by default nothing is routed."""
  way = c.block(
    old_units=1.0,  # Mask of old units' activations for forget data.
    old_parameters=1.0,  # Mask of old parameters for forget data.
    new_retain=1.0,  # Mask of new parameters for retain data.
    coherence=0.0,  # Weight of the coherence term.
    sgtm=0.0,  # 1: retain data runs without the new units.
  )
  way.update(changes)
  return way
