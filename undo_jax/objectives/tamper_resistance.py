"""TAR: make an adversary's steps end at weights that know nothing."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from undo_jax.models.config import ModelConfig
from undo_jax.objectives import chunked, retention
from undo_jax.objectives.cross_entropy import cross_entropy, masked_sum
from undo_jax.objectives.method import Method
from undo_jax.objectives.terms import weighted
from undo_jax.utils.option_types import Count, NotNegative
from undo_jax.utils.records import FieldError
from undo_jax.utils.types import Objective, Options, SumCount

STEPS, EVERY = 64, 4
ADVERSARIES: dict[str, Callable[..., optax.GradientTransformation]] = {
  "adamw": lambda rate: optax.adamw(rate, weight_decay=0.0),
  "sgd": optax.sgd,
}


@chunked.summed
def negative_entropy(logits_BxLxV: jax.Array, mask_BxL: jax.Array) -> SumCount:
  """Sum sum_v p[v] log p[v] over the masked positions.

  Args:
    logits_BxLxV: [B, L, V].
    mask_BxL: [B, L], 1 where a position counts.

  Returns:
    SumCount of float32 scalars; its mean is in [-log V, 0] nats.
  """
  log_p = jax.nn.log_softmax(logits_BxLxV.astype(jnp.float32))
  return masked_sum(jnp.sum(jnp.exp(log_p) * log_p, axis=-1), mask_BxL)


def make(
  apply: Callable,
  *,
  retain_weight: NotNegative,
  resistance_weight: NotNegative = 4.0,
  retain_loss: retention.Loss = "cross_entropy",
  adversary_rates: Sequence[NotNegative] = (2e-6, 2e-5, 4e-5),
  adversary_steps: Count = STEPS,
  every: Count = EVERY,
  growth: NotNegative = 0.0625,
  adversary_optimizer: str = "adamw",
  exact: bool = False,
) -> Objective:
  """Return L = resistance_weight * sum_k w[k] N(theta_k) + retain_weight * R(retain).

  w[k] = exp(growth * (k - adversary_steps)),  k = every, 2 every, ..., adversary_steps

  N is the mean negative entropy of the predictions on forget rows. theta_k are the
  weights after k steps of AdamW (or SGD) from theta, on the cross-entropy of other
  rows (the part adversary of the batch; each step reads all), at a rate drawn anew for
  each update. R is the retain term, see retention; the authors keep hidden states,
  and begin where those of forget rows were mapped to random ones.

  As by the authors, the gradient of N at theta_k is applied to theta; `exact`
  differentiates through the adversary's steps, whose weights it all keeps; these are
  then of SGD, since Adam's first ones are signs. N is a statistic of a microbatch:
  over several it is averaged.

  Reference: Tamirisa et al., Tamper-Resistant Safeguards for Open-Weight LLMs,
  arXiv 2408.00761, algorithm 1.
  """
  retain_term = retention.make(apply, retain_loss)
  blocks = jnp.arange(every, adversary_steps + 1, every)
  weights = jnp.exp(growth * (blocks - adversary_steps))

  def objective(params, frozen, batch, key):
    forget, retain, rows = batch["forget"], batch["retain"], batch["adversary"]
    rate = jax.random.choice(key, jnp.asarray(adversary_rates, jnp.float32))
    adversary = ADVERSARIES[adversary_optimizer](rate)

    def lost(params):
      logits = apply(params, rows["inputs"]).logits
      return cross_entropy(logits, rows["targets"], rows["mask"]).mean()

    def step(carry, _):
      params, state = carry
      updates, state = adversary.update(jax.grad(lost)(params), state, params)
      return (optax.apply_updates(params, updates), state), None

    def resisted(params, weight):
      logits = apply(params, forget["inputs"]).logits
      return weight * negative_entropy(logits, forget["mask"]).mean()

    def attack(carry):
      return jax.lax.scan(step, carry, length=every)[0]

    along = _through if exact else _at
    total = along(attack, resisted, params, adversary.init(params), weights)
    value = SumCount(total, jnp.float32(1))
    kept, metrics = retain_term(apply(params, retain["inputs"]).logits, frozen, retain)
    loss = weighted((resistance_weight, value), (retain_weight, kept))
    return loss, {"forget_negative_entropy": value, **metrics}

  return objective


def _through(attack, resisted, params, state, weights) -> jax.Array:
  """Sum along the attack, which is differentiated."""

  def block(carry, weight):
    carry = attack(carry)
    return carry, resisted(carry[0], weight)

  return jnp.sum(jax.lax.scan(block, (params, state), weights)[1])


def _at(attack, resisted, params, state, weights) -> jax.Array:
  """Sum along the attack, with the sum of the gradients there as its gradient."""

  def block(carry, weight):
    attacked, total, gradients = carry
    attacked = attack(attacked)
    value, gradient = jax.value_and_grad(resisted)(attacked[0], weight)
    gradients = jax.tree.map(jnp.add, gradients, gradient)
    return (attacked, total + value, gradients), None

  start = jax.lax.stop_gradient(params)
  zeros = jax.tree.map(jnp.zeros_like, start)
  carry = (start, state), jnp.zeros(()), zeros
  (_, total, gradients), _ = jax.lax.scan(block, carry, weights)
  total, gradients = jax.lax.stop_gradient((total, gradients))
  moved = jax.tree.map(
    lambda g, new, old: jnp.sum(g * (new - old)), gradients, params, start
  )
  return total + sum(jax.tree.leaves(moved))  # The second term is 0.


def needs(
  *,
  retain_loss: retention.Loss = "cross_entropy",
  adversary_steps: int = STEPS,
  every: int = EVERY,
  **options: object,
) -> dict[str, object]:
  """Return what it reads, and a pass for each step of the adversary."""
  del options
  passes = ("adversary",) * adversary_steps + ("forget",) * (adversary_steps // every)
  requirements = retention.needs(retain_loss=retain_loss)
  return requirements | {"trains": (*passes, "retain")}


def check(model: ModelConfig, options: Options, *, is_random: bool) -> None:
  """Raise FieldError where the adversary's steps and rates cannot be."""
  del is_random
  steps, every = options.get("adversary_steps", STEPS), options.get("every", EVERY)
  if steps % every:
    raise FieldError("adversary_steps", f"a multiple of every={every}", steps)
  rates = options.get("adversary_rates", (1e-5,))
  if not rates:
    raise FieldError("adversary_rates", "at least one number, none below 0", rates)
  name = options.get("adversary_optimizer", "adamw")
  if name not in ADVERSARIES:
    raise FieldError("adversary_optimizer", f"one of {', '.join(ADVERSARIES)}", name)
  if options.get("exact") and name != "sgd":
    raise FieldError("adversary_optimizer", "sgd, with exact", name)
  if options.get("exact") and model.logits_chunk is not None:
    raise FieldError("exact", "False, with model.logits_chunk", True)


METHOD = Method(
  make=make,
  trains=("adversary", "forget", "retain"),
  needs=needs,
  check=check,
  is_unlearning=True,
  label="TAR",
  color="#1f5f5b",
  marker="8",
)
