"""An entry of each further unlearning method, with its paper's options."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from undo_jax.config.blocks import Config
from undo_jax.config.optimizers import optimizer
from undo_jax.config.unlearning import task_vector, unlearn, weight_distortion, weights

_Options: TypeAlias = Mapping[str, object]
# Of the methods below, as published for models of some billion parameters.
METHOD_RATES = {
  "npo": 5e-6,
  "simnpo": 9.5e-6,
  "wga": 1e-5,
  "satimp": 1e-5,
  "ce_u": 1e-5,
  "undial": 1e-4,
  "jensun": 1e-5,
  "idk_dpo": 1e-5,
  "adaptive_rmu": 5e-5,
  "circuit_breakers": 1e-4,
  "latent_adversarial": 5e-5,
  "tamper_resistance": 2e-5,
  "invariant": 5e-6,
  "mudman": 0.1,
  "rep_select": 0.05,
  "distance": 1e-5,
  "task_vector": 1e-5,
  "weight_distortion": 1e-5,
}
# Parts of a batch that a method reads beside forget and retain rows, their mixtures ...
_FURTHER = {
  "tamper_resistance": {"adversary": "unlearn_forget"},
  "invariant": {"environment": "unlearn_retain"},
}
# ... and those of the two that it does not read.
_UNREAD = {"rep_select": ("retain",), "distance": ("forget",)}
# Methods whose gradients have the length that they are to have.
_OF_GIVEN_LENGTH = ("mudman", "rep_select")


def unlearning_methods(
  *,
  num_steps: int,
  batch_size: int,
  layers: tuple[int, ...],
  answer: tuple[int, ...] = (1,),
  learning_rates: Mapping[str, float] = METHOD_RATES,
  retain: float = 1.0,
  components: int = 16,
  num_microbatches: int = 1,
  start: str = "base",
) -> dict[str, Config]:
  """Return an entry for each of some methods, all with run=False.

  Options of a method have the values of its paper. --config.models.NAME.run=True runs
  it, and any value can be overridden.

  Args:
    num_steps: updates.
    batch_size: rows of each kind an update.
    layers: for methods that steer hidden states; the output of the last one is steered.
    answer: token ids of an answer that says nothing (jensun, idk_dpo); by default the
      end of the text.
    learning_rates: by the methods' names, see undo_jax/objectives.
    retain: weight of the retain term, that of the forget term being 1.
    components: of rep_select, at most the smallest side of the MLPs' matrices.
    num_microbatches: gradients summed over parts of a batch.
    start: the entry that forgets.
  """
  own = _of_outputs(retain, answer)
  own |= _of_hidden_states(retain, layers)
  own |= _against_relearning(retain, num_steps, components)
  # Of no objective but cross-entropy.
  others = {"task_vector": task_vector, "weight_distortion": weight_distortion}
  entries = {}
  for name, learning_rate in learning_rates.items():
    how: dict[str, Any] = {
      "start": start,
      "optimizer": optimizer(num_steps=num_steps, learning_rate=learning_rate),
      "batch_size": batch_size,
      "num_microbatches": num_microbatches,
    }
    if name in others:
      entries[name] = others[name](**how)
      continue
    entry = entries[name] = unlearn(name, options=own[name], **how)
    entry.run = False
    for part in _UNREAD.get(name, ()):
      del entry.mixture[part]
    entry.mixture.update(_FURTHER.get(name, {}))
    if name in _OF_GIVEN_LENGTH:
      entry.optimizer.name = "descent"
      entry.optimizer.clip_norm = None
  return entries


def _of_outputs(retain: float, answer: tuple[int, ...]) -> dict[str, _Options]:
  """Return the options of methods whose loss is of outputs, or of weights."""
  kept, both = {"retain_weight": retain}, weights(retain=retain)
  return {
    "npo": {**both, "beta": 0.1},
    "simnpo": {**both, "beta": 4.5, "margin": 0.0},
    "wga": {**both, "exponent": 1.0},
    "satimp": {**both, "saturation": 5.0, "importance": 1.0},
    "ce_u": both,
    "undial": {**both, "penalty": 10.0},
    "jensun": {**kept, "forget_weight": 1.0, "answer": answer},
    "idk_dpo": {**both, "beta": 0.1, "answer": answer},
    "invariant": {
      **both,
      "around": "npo",
      "beta": 0.1,
      # Of the squared derivative of the loss on each environment's rows, a part of the
      # batch, as all weights grow alike.
      "invariance_weight": 0.1,
      "environments": ("environment",),
      # Of rmu, where that is `around`.
      "layers": (),
      "coefficient": 0.0,
    },
    "distance": {**kept, "distance_weight": 1.0},
  }


def _of_hidden_states(retain: float, layers: tuple[int, ...]) -> dict[str, _Options]:
  """Return the options of methods that steer hidden states, or push them."""
  kept = {"retain_weight": retain}
  return {
    "adaptive_rmu": {**kept, "forget_weight": 1.0, "layers": layers, "scale": 5.0},
    "circuit_breakers": {"layers": layers, "strength": 10.0},
    "latent_adversarial": {
      **kept,
      "forget_weight": 1.0,
      "around": "grad_diff",
      "layer": layers[-1],
      "radius": 2.0,  # Of the push on the layer's output, at every position ...
      "steps": 16,  # ... and of its descent, each a pass of the forget rows.
      "step_size": 0.25,
      "retain_loss": "cross_entropy",
      # Of rmu, where that is `around`.
      "layers": (),
      "coefficient": 0.0,
    },
  }


def _against_relearning(
  retain: float, num_steps: int, components: int
) -> dict[str, _Options]:
  """Return the options of methods that train against an adversary who relearns."""
  return {
    "tamper_resistance": {
      "retain_weight": retain,
      "resistance_weight": 4.0,
      "retain_loss": "cross_entropy",
      "adversary_rates": (2e-6, 2e-5, 4e-5),  # One is drawn for each update ...
      "adversary_steps": 64,  # ... of the adversary that is trained against ...
      "every": 4,  # ... and looked at after so many steps each.
      "growth": 0.0625,  # Of the weights of later looks.
      "adversary_optimizer": "adamw",  # Or sgd.
      "exact": False,  # Differentiates through the adversary's steps.
    },
    "mudman": {
      # Of the running mean of retain gradients, beside forget gradients of length 1.
      "retain_weight": 0.01 * retain,
      "forget_weight": 1.0,
      "retain_loss": "cross_entropy",
      "momentum": 0.9,  # Of that mean.
      "adversary_rate": 1e-3,  # Of the adversary's steps, one an update ...
      "every": 32,  # ... from where the model is after so many updates.
    },
    "rep_select": {
      "adversary_rate": 0.01,  # Of adapters that relearn in a third of the updates ...
      "adversary_updates": max(1, num_steps // 3),
      # ... before gradients of another third are summed; then it goes along the sum.
      "gradient_updates": max(1, num_steps // 3),
      "components": components,  # Principal ones that are collapsed.
      "targets": (r"layers/mlp/(gate|up|down)/kernel",),
    },
  }
