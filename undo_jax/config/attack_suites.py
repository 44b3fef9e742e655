"""Attacks beside full finetuning, by name; none is run unasked."""

from ml_collections import config_dict

from undo_jax.config.attacks import edit, lora
from undo_jax.config.blocks import Config, block, table
from undo_jax.config.entries import like


def further_attacks(
  attacks: Config,
  relearn: Config,
  *,
  num_layers: int,
  forget: str = "attack",
  retain: str = "unlearn_retain",
  ranks: tuple[int, ...] = (16, 64),
) -> None:
  """Declare in a table what else attacks a model; none of it is run unasked.

  An entry is run by --config.attacks.muon.run=True.

  Args:
    attacks: the table.
    relearn: its entry of full finetuning, which others follow.
    num_layers: of the model.
    forget: the mixture of forget data alone that the attacker has.
    retain: a mixture without forget data.
    ranks: of low-rank adapters, at most the smallest side of a kernel.
  """
  entries = relearning(relearn, retain=retain, ranks=ranks)
  entries |= frozen_weights(relearn, num_layers=num_layers)
  entries |= beside(num_layers=num_layers, forget=forget, retain=retain)
  entries |= reading(relearn, num_layers=num_layers)
  for name, entry in entries.items():
    attacks[name] = entry


def relearning(
  attack: Config, *, retain: str = "unlearn_retain", ranks: tuple[int, ...] = (16, 64)
) -> dict[str, Config]:
  """Return other adversaries that relearn, by name; none of them is run unasked.

  In config.attacks one of them is run by --config.attacks.muon.run=True. Each follows
  `attack` in all other fields; the learning rates there bracket the worst one for the
  update rule of `attack`, which need not hold for others.

  Args:
    attack: an entry of full finetuning.
    retain: a mixture without forget data.
    ranks: of low-rank adapters.
  """
  rates, num_steps = attack.learning_rates, attack.num_steps
  faster = tuple(100 * rate for rate in rates)  # SGD's steps are as small as gradients.
  some, full = num_steps // 12, "full finetuning"
  # By the name of each its label, and what it changes.
  others: dict[str, tuple[str, dict[str, object]]] = {
    "muon": (f"{full}, Muon", {"optimizer": "muon"}),
    "sgd": (
      f"{full}, SGD with momentum",
      {"optimizer": "sgd", "learning_rates": faster},
    ),
    "cosine": (
      f"{full}, warm-up and cosine",
      {"schedule": "cosine", "warmup_steps": some},
    ),
    "few_15": (f"{full}, 15 rows", {"samples": 15}),
    "few_60": (f"{full}, 60 rows", {"samples": 60}),
    "warm_state": (f"{full}, moments first", {"still_steps": some}),
    "retain_state": (
      f"{full}, moments of retain data first",
      {"still_steps": some, "first_mixture": retain, "first_steps": some},
    ),
    "retain_first": (
      f"{full}, on retain data first",
      {"first_mixture": retain, "first_steps": num_steps // 2},
    ),
    "benign": (
      f"{full} on retain data alone",
      {"mixture": retain, "is_benign": True},
    ),
    "longer": (
      f"{full}, ten times as long",
      {"num_steps": 10 * num_steps, "evaluate_every": 10 * attack.evaluate_every},
    ),
  }
  entries = {
    name: like(attack, run=False, label=label, **changes)
    for name, (label, changes) in others.items()
  }
  for rank in ranks:
    label = f"LoRA, rank {rank}"
    entries[f"lora_{rank}"] = lora(attack, rank=rank, run=False, label=label)
  return entries


def frozen_weights(attack: Config, *, num_layers: int) -> dict[str, Config]:
  """Return adversaries that leave the weights as they are, by name, with run=False.

  They train something beside the model: biases of the logits, embeddings before every
  row, a push on hidden states. Each follows `attack` in all other fields, but with a
  thousand times its learning rates, because what is trained has entries of about 1.

  Args:
    attack: an entry of full finetuning.
    num_layers: of the model; the latent push is on the output of the middle layer.
  """
  faster = tuple(float(f"{1000 * rate:g}") for rate in attack.learning_rates)
  place = config_dict.placeholder(int)  # A layer; None: the embedding.
  layer = num_layers // 2  # Counted from 0.
  options: dict[str, tuple[str, str | None, dict[str, object]]] = {
    "logit_calibration": ("logit_calibration", None, {}),
    "soft_prompt": ("soft_prompt", None, {"tokens": 20}),  # Before every row.
    # Within a ball around no push, its radius in units of the embeddings.
    "embedding_push": (
      "push",
      "push on the embeddings",
      {"layer": place, "radius": 1.0, "norm": "l2"},
    ),
    "latent_push": (
      "push",
      f"push on layer {layer}",
      {"layer": layer, "radius": 1.0, "norm": "l2"},
    ),
  }
  entries = {}
  for name, (adversary, label, chosen) in options.items():
    entry = like(attack, adversary=adversary, learning_rates=faster, run=False)
    entry.options = table()
    entry.options.update(chosen)
    entry.label = label
    entries[name] = entry
  return entries


def edits(*, run: bool = False) -> Config:
  """Return our edits by name; `config.attacks.update(c.edits())` declares them.

  All have run=False: --config.attacks.pruning.run=True runs one. The worst case leaves
  out those whose attacker has the base's weights, unless report.worst_over names them.
  """
  shares = (0.1, 0.2, 0.3, 0.4, 0.5)
  group_size = config_dict.placeholder(int)  # Inputs that share a scale; None: all.
  return block(
    pruning=edit(
      "pruning",
      strengths=shares,  # Of the weights.
      options={"scope": "matrix"},  # Or all: the smallest of all matrices together.
      run=run,
    ),
    quantization=edit(
      "quantization",
      strengths=(8, 4, 3, 2),  # Bits.
      options={"group_size": group_size},
      run=run,
    ),
    weight_noise=edit("weight_noise", strengths=(0.03, 0.1, 0.3), run=run),
    interpolation_to_base=edit(
      "interpolation_to_base", strengths=(0.1, 0.3, 0.5, 0.7, 0.9), run=run
    ),
    difference_rank=edit("difference_rank", strengths=(1, 2, 4, 8), run=run),
  )


def beside(
  *,
  num_layers: int,
  forget: str = "attack",
  retain: str = "unlearn_retain",
  run: bool = False,
) -> dict[str, Config]:
  """Return attacks that compute something beside the weights from a few rows, by name.

  Args:
    num_layers: of the model; three layers are members.
    forget: the mixture of the rows of forget data that the attacker has.
    retain: likewise of other data.
    run: as in `edits`.
  """
  layers = _some_layers(num_layers)
  return {
    "direction_ablation": edit(
      "direction_ablation",
      strengths=layers,  # Whose output the direction is read at.
      mixture={"forget": forget, "retain": retain},
      rows=128,
      run=run,
    ),
    "gcg": edit(
      "gcg",
      strengths=(4, 8),  # Tokens.
      # Steps, each of so many candidates among the best by gradient at each position.
      options={"steps": 50, "candidates": 32, "top_k": 16},
      mixture={"forget": forget},
      rows=16,
      run=run,
    ),
    "few_shot": edit("few_shot", strengths=(1, 5), run=run),  # Worked examples.
  }


def reading(attack: Config, *, num_layers: int) -> dict[str, Config]:
  """Return diagnostics of what layers hold, by name, with run=False; none is counted.

  Linear probes of three layers follow `attack` at a thousand times its learning rates.

  Args:
    attack: an entry of full finetuning.
    num_layers: of the model.
  """
  faster = tuple(float(f"{1000 * rate:g}") for rate in attack.learning_rates)
  layers = _some_layers(num_layers)
  entries = {
    "logit_lens": edit("logit_lens", strengths=tuple(range(num_layers)), run=False)
  }
  for layer in layers:
    entry = like(attack, adversary="probe", learning_rates=faster, run=False)
    entry.options = table()
    entry.options.layer = layer  # Whose output is read, counted from 0.
    entry.label = f"linear probe of layer {layer}"
    entries[f"probe_{layer}"] = entry
  return entries


def _some_layers(num_layers: int) -> tuple[int, ...]:
  """Return the layers at a quarter, half and three quarters of the way, from 0."""
  return tuple(sorted({part * num_layers // 4 for part in (1, 2, 3)}))
