"""Value-aware models: exact tables, a toy, and model-based control of two pendulums.

COMMAND:

  python -m experiments.model_advantage \
      --config=configs/model_advantage/models.py --workdir=runs/model_advantage

Sizes: `small` (the default) and `tiny`, which tests run.

Reference: Modhe et al., arXiv 2106.14080. Losses, their weights, TRPO and the refit are
those of its code; numbers of stages, steps and samples are far smaller.
"""

from undo_jax import config as c


def get_config(arg: str | None = None) -> c.Config:
  """Return the config of a size: small or tiny."""
  size = c.parse_size(arg, ("small", "tiny"))
  config = c.table()
  config.seed = 0  # For everything random.
  config.tables = c.block(  # Random MDPs and models, in float64.
    count=1000,  # Pairs of an MDP and a model.
    states=6,  # In each, at least 2.
    actions=3,  # In each.
    discount=0.9,  # In [0, 1).
  )
  config.toy = c.block(  # A model of rank 1 beside a distractor.
    starts=10,  # Random starts for each loss.
    states=256,  # Number that a model is fitted to and judged on.
  )
  config.control = c.block(
    environments=("pendulum", "cartpole"),  # Some of these; none: ().
    seeds=5,  # Of each method, all one population; 2 at least, for intervals.
    stages=12,  # Of the loop: real episodes, then training in the model.
    real_episodes=5,  # Of each stage.
    steps=100,  # Of an episode, 3 at least.
    iterations=2,  # Of model and policy training in a stage.
    model_steps=400,  # Of each iteration.
    refit_every=20,  # Model steps between refits of the value; divides them.
    model_batch=64,  # Pairs of steps.
    policy_steps=10,  # Of TRPO, of each iteration.
    imagined_episodes=8,  # In the model, of each policy step and refit.
    value_steps=20,  # Of Adam, of each fit.
    judged_episodes=20,  # In the environment, after each stage.
    learning_rate=2e-3,  # Of model and value.
    max_kl=0.03,  # Of a policy step.
    discount=0.99,  # In [0, 1).
    mix=0.95,  # Lambda of generalized advantages, in [0, 1).
    model_widths=(48, 48),  # Of hidden layers.
    policy_widths=(32, 32),  # Of hidden layers.
    value_widths=(32, 32),  # Of hidden layers.
  )
  if size == "tiny":
    config.tables.update(count=5)
    config.toy.update(starts=1, states=16)
    config.control.update(
      environments=("pendulum",),
      seeds=2,
      stages=2,
      real_episodes=2,
      steps=5,
      iterations=1,
      model_steps=2,
      refit_every=1,
      model_batch=4,
      policy_steps=1,
      imagined_episodes=2,
      value_steps=1,
      judged_episodes=2,
      model_widths=(4,),
      policy_widths=(4,),
      value_widths=(4,),
    )
  return config
