"""What every config file shares: typed arguments, placeholders."""

import dataclasses
from typing import Any

from ml_collections import config_dict

from undo_jax.models.config import ModelConfig
from undo_jax.models.presets import PRESETS


def parse_size(arg: str | None, sizes: tuple[str, ...]) -> str:
  """Returns the size that follows the colon in --config=FILE:SIZE.

  Raises:
    ValueError: if it is not one of `sizes`; no argument means the first.
  """
  size = arg or sizes[0]
  if size not in sizes:
    raise ValueError(
      f"unknown size {size!r} after the colon of --config; known are "
      + ", ".join(sizes)
    )
  return size


def run(setting: str) -> config_dict.ConfigDict:
  """Returns a config with what every run has: its seeds, devices and intervals."""
  config = config_dict.ConfigDict()
  config.setting = setting  # Which data and scores; see undo_jax/settings.
  config.seed = 0  # Root of all random streams.
  config.routing = routing()  # Models whose forgetting routing prepares; off.
  config.streams = streams()  # Each stream's own seed, where one is given.
  config.mesh = mesh()  # How the devices are used.
  config.checkpoint_every = 100  # Updates between checkpoints within a stage.
  config.max_loss = 1e6  # Training stops where a loss is beyond, of either sign.
  config.evaluation_rows = 512  # Rows scored in one forward pass; bounds the memory.
  # Learning rates of the attack computed together, likewise; None: all of them.
  config.replicas_at_once = config_dict.placeholder(int)
  return config


def streams() -> config_dict.ConfigDict:
  """Returns the overrides of the random streams: None means the run's seed."""
  return config_dict.create(
    init=config_dict.placeholder(int),  # Fresh weights of base and filtering.
    data=config_dict.placeholder(int),  # Generated documents; order in training.
    noise=config_dict.placeholder(int),  # UNDO's noise; the random student.
    distill_data=config_dict.placeholder(int),  # Order of distillation data.
    attack=config_dict.placeholder(int),  # Order of the attacker's data.
    eval=config_dict.placeholder(int),  # Evaluation problems.
  )


def mixtures(**weights: dict[str, float]) -> config_dict.ConfigDict:
  """Returns what each use of the data draws its rows from: weights by split.

  Every use names every split, so that each weight can be overridden: 0 leaves out.

  Args:
    weights: for each of pretrain, data_filtering, unlearn_forget, unlearn_retain,
      distill and attack the splits with a weight; they need not sum to 1.
  """
  splits = list(dict.fromkeys(split for part in weights.values() for split in part))
  return config_dict.ConfigDict(
    {
      use: {split: float(part.get(split, 0.0)) for split in splits}
      for use, part in weights.items()
    }
  )


def documents(
  *, validation_fraction: float, paths: tuple[str, ...] = ()
) -> config_dict.ConfigDict:
  """Returns a corpus of local files; see undo_jax/data/documents/source.py."""
  return config_dict.create(
    paths=paths,  # Files, folders, globs: .txt, .jsonl, .parquet, .html.
    text_field="text",  # The field of a JSON line or Parquet column.
    question_field=config_dict.placeholder(str),  # Pairs instead of texts ...
    answer_field=config_dict.placeholder(str),  # ... whose answers are scored.
    lines=True,  # A .txt holds a document a line; else it is one.
    skip_empty=False,  # Leave out records without text instead of refusing them.
    validation_fraction=validation_fraction,  # Documents held out, by their text.
    validation_tokens=config_dict.placeholder(int),  # At most so many of them.
    max_documents=config_dict.placeholder(int),  # Of training.
    max_tokens=config_dict.placeholder(int),  # Of training.
    max_document_tokens=config_dict.placeholder(int),  # Longer ones are left out.
  )


def report(*, budgets: tuple[int, ...]) -> config_dict.ConfigDict:
  """Returns what the report compares, which changes no other result."""
  return config_dict.create(
    budgets=budgets,  # Relearning updates; those that are evaluated.
  )


def mesh() -> config_dict.ConfigDict:
  """Returns the mesh: devices along each axis; one may be -1, all the others."""
  return config_dict.create(
    replica=1,  # Members of the attack's population.
    data=-1,  # Rows of a batch.
    fsdp=1,  # Rows of a batch and parts of parameters.
    tensor=1,  # Heads, MLP units, vocabulary.
  )


def training(
  *,
  num_steps: int,
  learning_rate: float,
  batch_size: int,
  num_microbatches: int = 1,
  final_learning_rate: float | None = None,
  warmup_steps: int = 0,
  weight_decay: float = 0.0,
  rho: float = 0.0,
) -> config_dict.ConfigDict:
  """Returns how a stage trains: AdamW, its schedule, the rows of an update."""
  config = config_dict.create(
    num_steps=num_steps,  # Updates; with a stop rule, at most.
    batch_size=batch_size,  # Rows an update, of each domain where two are paired.
    num_microbatches=num_microbatches,  # Gradients summed over parts of a batch.
    learning_rate=learning_rate,  # Peak of AdamW.
    final_learning_rate=config_dict.placeholder(float),  # Cosine's end; None: constant.
    warmup_steps=warmup_steps,  # Linear from 0; update 1 then is a no-op.
    weight_decay=weight_decay,  # Decoupled, on all parameters.
    clip_norm=1.0,  # Global gradient norm.
    rho=rho,  # Of sharpness-aware minimization, length of its perturbation; 0: off.
    # What is trained, and noised before: pairs (path regex, layers), where () are all
    # layers, as in (("layers/mlp/.*", (0, 1)), ("embedding", ())); empty: everything.
    trainable=(),
  )
  config.final_learning_rate = final_learning_rate
  return config


def cosine(
  *, num_steps: int, learning_rate: float, batch_size: int, warmup_steps: int = 20
) -> config_dict.ConfigDict:
  """Returns training with a warm-up and a cosine down to a tenth of the peak."""
  return training(
    num_steps=num_steps,
    learning_rate=learning_rate,
    batch_size=batch_size,
    final_learning_rate=0.1 * learning_rate,
    warmup_steps=warmup_steps,
  )


def preset(name: str, **changes: object) -> config_dict.ConfigDict:
  """Returns a named size of undo_jax/models/presets.py, computed in bfloat16."""
  model = dataclasses.replace(PRESETS[name], dtype="bfloat16", remat="full", **changes)
  return config_dict.ConfigDict(dataclasses.asdict(model))


def plain_decoder(
  *,
  vocab_size: int,
  num_layers: int,
  width: int,
  num_heads: int,
  mlp_width: int,
  **changes: Any,
) -> config_dict.ConfigDict:
  """Returns a small decoder as GPT's are: one norm before each part, no softcaps."""
  head_dim = width // num_heads
  model = ModelConfig(
    vocab_size=vocab_size,
    num_layers=num_layers,
    width=width,
    num_heads=num_heads,
    num_kv_heads=num_heads,
    head_dim=head_dim,
    mlp_width=mlp_width,
    query_pre_attn_scalar=float(head_dim),
    attention_softcap=None,
    logit_softcap=None,
    sliding_window=None,
    post_norms=False,
  )
  model = dataclasses.replace(model, **changes)
  return config_dict.ConfigDict(dataclasses.asdict(model))


def small_model(
  *,
  vocab_size: int,
  num_layers: int,
  width: int,
  mlp_width: int,
  init_std: float,
  num_heads: int = 4,
  num_kv_heads: int = 2,
  scan_unroll: int = 8,
) -> config_dict.ConfigDict:
  """Returns a small Gemma-2 without its attention's softcap, in float32."""
  head_dim = width // num_heads
  return config_dict.create(
    vocab_size=vocab_size,  # At least the tokenizer's; a multiple of mesh.tensor.
    num_layers=num_layers,  # N.
    width=width,  # D.
    num_heads=num_heads,  # H.
    num_kv_heads=num_kv_heads,  # G, divides H.
    head_dim=head_dim,  # K, even.
    mlp_width=mlp_width,  # F.
    query_pre_attn_scalar=float(head_dim),  # Attention scores times its power -1/2.
    attention_softcap=config_dict.placeholder(float),  # Off; Gemma-2 has 50.
    logit_softcap=30.0,  # Gemma-2's; None: off.
    sliding_window=4096,  # Tokens that layers 0, 2, ... look back.
    init_std=init_std,  # Of fresh matrices; Gemma's 0.02 learns slowly if narrow.
    dtype="float32",  # Compute dtype, or bfloat16.
    remat="none",  # Recomputed in the backward pass: none, dots, full.
    scan_unroll=scan_unroll,  # Layers unrolled in the scan; large is fast on a CPU.
  )


def rmu(
  *, layers: tuple[int, ...], coefficient: float, retain: float, forget: float = 1.0
) -> config_dict.ConfigDict:
  """Returns the options of RMU."""
  return config_dict.create(
    layers=layers,  # Trained down-projections; the last one's output is steered.
    coefficient=coefficient,  # Length of the steering target.
    retain_weight=retain,  # Of the drift of retain hidden states ...
    forget_weight=forget,  # ... and of the steering error.
  )


def weights(
  *, retain: float, forget: float = 1.0, retain_loss: str = "cross_entropy"
) -> config_dict.ConfigDict:
  """Returns the options of unlearning by a forget and a retain term."""
  return config_dict.create(
    retain_weight=retain,  # Of the retain term; the paper's a for WMDP ...
    forget_weight=forget,  # ... and 1 - a of the forget term.
    # On retain data: cross_entropy, or kl to the model from before unlearning.
    retain_loss=retain_loss,
  )


def robust_baselines(max_ent: config_dict.ConfigDict) -> config_dict.ConfigDict:
  """Returns the paper's other robust baselines, each MaxEnt's block and one thing more.

  max_ent_sam is MaxEnt under sharpness-aware minimization, max_ent_rep_noise MaxEnt
  beside representation noise. They are run where unlearn.methods names them.
  """
  sam, rep_noise = (max_ent.copy_and_resolve_references() for _ in range(2))
  sam.objective = "max_ent"  # Of the block; without it, its name.
  sam.rho = 0.01
  options: Any = rep_noise.options
  options.update(
    config_dict.create(
      alpha=1.0,  # Of the ascent on forget data, read off all hidden states.
      beta=0.001,  # Of the distance of the MLPs' outputs from noise.
      only_differing=False,  # Leave out tokens that forget and retain rows share.
    )
  )
  return config_dict.ConfigDict({"max_ent_sam": sam, "max_ent_rep_noise": rep_noise})


def distillation() -> config_dict.ConfigDict:
  """Returns the options of distillation: on outputs, from the unlearned model."""
  return config_dict.create(
    kl_weight=1.0,  # Of the forward KL to the teacher's outputs.
    activation_weight=0.0,  # Of the layers' squared error on the teacher's inputs.
    base_share=0.0,  # Of the model from before unlearning as a second teacher.
    base_choice="mixed",  # mixed adds up both KLs; switch draws one an update.
  )


def changes(**values: float | int) -> config_dict.ConfigDict:
  """Returns how a stage's training differs from another's: None is as there."""
  config = config_dict.create(
    num_steps=config_dict.placeholder(int),  # Updates.
    learning_rate=config_dict.placeholder(float),  # Peak.
    final_learning_rate=config_dict.placeholder(float),  # At the end of a cosine.
    weight_decay=config_dict.placeholder(float),  # Decoupled.
  )
  config.update(values)
  return config


def routing() -> config_dict.ConfigDict:
  """Returns gradient routing: which models are made by it, and how."""
  config = config_dict.create(
    # Of routed, routed_control, sgtm, routed_distillation, sgtm_distillation; (): off.
    methods=(),
    # Routed models, named above, on which UNDO is run too, at undo_alphas.
    teachers=(),
    undo_alphas=(),  # Noise strengths of UNDO on a routed model.
    alphas=(0.5,),  # Noise strengths of the base that the distillations recover.
    labelled=1.0,  # Share of the rows that is labelled, in (0, 1].
    mlp_units=48,  # The last of each layer's, reserved for what is to be forgotten.
    kv_heads=0,  # The last of each layer's, likewise, with their query heads.
    old_target=0.0,  # Weight of forget gradients elsewhere; below 0: ascent.
    coherence_weight=0.2,  # Of the ablated model's loss on other rows; 0: no pass.
    trusted=True,  # That loss reads rows labelled retain, and none without a label.
  )
  config.pretrain = changes()  # Of routed, its control and sgtm, against pretrain.
  config.distill = changes()  # Of the distillations, against distill.
  return config


def stop(
  *, evaluate_every: int, tolerance: float, relative: bool
) -> config_dict.ConfigDict:
  """Returns when a distilled student has recovered its teacher's retain score."""
  return config_dict.create(
    evaluate_every=evaluate_every,  # Updates between checks; also after the first.
    tolerance=tolerance,  # Largest part of the score that may be missing ...
    relative=relative,  # ... as a share of the teacher's, or else absolute.
    # Scores that must all recover: retain, forget, tasks by name; (): fixed budget.
    scores=("retain",),
  )


def attack(
  *,
  learning_rates: tuple[float, ...],
  num_steps: int,
  evaluate_every: int,
  batch_size: int,
  evaluations_per_call: int = 10,
  warmup_steps: int = 0,
) -> config_dict.ConfigDict:
  """Returns the relearning adversary: one replica for each learning rate."""
  config = config_dict.create(
    learning_rates=learning_rates,  # One replica each.
    num_steps=num_steps,  # Relearning updates.
    evaluate_every=evaluate_every,  # Updates between evaluations, inside the program.
    evaluations_per_call=evaluations_per_call,  # Evaluations between checkpoints.
    batch_size=batch_size,  # Rows of the mixture `attack` an update.
    # Linear from 0. With 1, as in the paper's code, update 1 changes nothing, and 40
    # updates are 39.
    warmup_steps=warmup_steps,
    weight_decay=0.0,  # Decoupled.
    clip_norm=1.0,  # Global gradient norm.
    trainable=(),  # What is trained, as in training; with lora nothing else.
  )
  config.perturb = config_dict.create(
    alpha=0.0,  # The model is first noised by so much; 0: attacked as it is.
    beta=0.1,  # Scale of that noise.
  )
  config.lora = config_dict.create(
    rank=0,  # r of the adapters that are trained; 0: all weights are, no adapters.
    alpha=16.0,  # The adapters' product is scaled by alpha / rank.
    # Path regexes of the adapted kernels; here every matrix but the embedding.
    targets=(r"layers/(attention/(query|key|value|out)|mlp/(gate|up|down))/kernel",),
  )
  return config


# The paper's grid of the relearning adversary.
PAPER_RATES = (1e-3, 7e-4, 4e-4, 1e-4, 7e-5, 5e-5, 1e-5, 7e-6, 4e-6, 1e-6)
