"""Scalable oversight: reach the Diamond, not the Ghost, when few are overseen.

COMMAND, results in runs/gridworld/results.json and figures/:

  python -m experiments.gradient_routing.gridworld \
      --config=configs/gradient_routing/gridworld.py --workdir=runs/gridworld

Sizes: `small` has narrower networks, smaller rollouts, 800 updates at a higher learning
rate, and less weight on entropy; with the paper's weight, an agent so shortly trained
does not learn to walk straight. `tiny` is what tests run. `paper` has the paper's
networks, rates and 20,000 updates (hours on a CPU for each method and level).

Reference: arXiv 2410.04332, section 4.3 and appendix F.
"""

from undo_jax import config as c


def get_config(arg: str | None = None) -> c.Config:
  """Return the config of a size: small, tiny or paper."""
  size = c.parse_size(arg, ("small", "tiny", "paper"))
  config = c.table()
  config.seeds = (0, 1, 2)  # Each is trained by every method at every level.
  # Levels: the probability that the Diamond is overseen, and likewise the Ghost.
  config.oversight = (0.03, 0.1, 0.3)
  config.replicas_at_once = 9  # Levels and seeds trained as one population.
  config.environments = c.block(
    num_environments=128,  # Side by side; each runs one episode after another.
    rollout_steps=32,  # Steps of each environment between updates.
  )
  config.model = c.block(
    width=64,  # Of the hidden layers in experts and gate.
    value_widths=(64, 32),  # Of the hidden layers in the value network.
  )
  config.training = c.block(
    num_updates=800,  # Gradient steps, one for each rollout.
    learning_rate=1e-3,  # Of Adam, constant.
    discount=0.97,  # Of a reward, for each step until it comes.
    value_weight=0.5,  # Of the value network's squared error.
    entropy_weight=0.03,  # Of the policy's entropy, in nats.
    gate_weight=0.01,  # Of the gate's cross-entropy, if the label is known.
    bootstrap=True,  # Estimate returns that the rollout cuts off; else they count 0.
  )
  config.evaluation = c.block(
    num_evaluations=16,  # Points on the learning curve, evenly spaced.
    num_environments=1024,  # In each of the two halves of an evaluation.
    steps=32,  # Of each environment.
  )
  methods = _methods()
  config.methods = c.block(**methods)
  # The methods that are run; routing_gate_relu exists for a comparison with routing.
  config.run = tuple(name for name in methods if name != "routing_gate_relu")
  if size == "tiny":
    config.seeds = (0, 1)
    config.oversight = (0.1, 0.5)
    config.replicas_at_once = 4
    config.environments.update(num_environments=16, rollout_steps=8)
    config.model.update(width=16, value_widths=(16,))
    config.training.num_updates = 6
    config.evaluation.update(num_evaluations=2, num_environments=16)
    config.run = ("routing",)
  if size == "paper":
    config.seeds = (0, 1, 2, 3)
    config.oversight = (0.003, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4)
    config.replicas_at_once = 4
    config.environments.num_environments = 512
    config.model.update(width=256, value_widths=(256, 32))
    config.training.update(num_updates=20_000, learning_rate=5e-5, entropy_weight=0.1)
    config.evaluation.num_evaluations = 100
  return config


def _methods():
  return {
    "routing": _method(routed=True),
    # The same, except for the one thing in which the paper's text and code differ.
    "routing_gate_relu": _method(routed=True, gate_relu=True),
    "routing_without_gate": _method(routed=True, gate=0.5),
    "gate_without_routing": _method(),
    # The early-stopped form of this method is read off its learning curve.
    "naive": _method(experts="single", reward="overseen"),
    "filtering": _method(experts="single", reward="true", filtered=True),
    "oracle_filtering": _method(experts="single", reward="true", updates="share"),
  }


def _method(
  *,
  experts="mixture",
  routed=False,
  gate=None,
  gate_relu=False,
  reward="reached",
  filtered=False,
  updates="all",
):
  method = c.block(
    experts=experts,  # A mixture of two behind a gate, or a single one.
    routed=routed,  # Route the gradients of episodes whose end is overseen.
    gate=c.maybe(float),  # A constant in place of the trained gate.
    gate_relu=gate_relu,  # A ReLU after its convolution, as in the paper's text only.
    # reached gives 1 for either goal; overseen gives the same, but -1 for an overseen
    # Ghost; true gives 1 for the Diamond and -1 for the Ghost, overseen or not.
    reward=reward,
    filtered=filtered,  # Learn only from episodes whose true reward is known.
    # all makes all of training.num_updates; share makes the share that is overseen.
    updates=updates,
  )
  method.gate = gate
  return method
