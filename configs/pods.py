"""Gemma-2 on TPU slices: the mesh, and how little memory a step can take.

COMMAND, with the extra `tpu-compile` and no TPU:

  python -m experiments.compile --config=configs/pods.py:gemma2_2b --topology=v5e:4x4

Sizes: gemma2_2b for 16 chips, rows of 1024 tokens, 112 an update (the paper's 110 do
not divide over 16 chips); gemma2_2b_pod for 256 chips, 1792 an update; the paper's
smaller models for 16 chips at its batches, in whole rows a chip: gemma2_0.3b, 0.6b and
0.9b at that of arithmetic, gemma2_0.1b at that of languages; and tiny for 4, which
compiles in seconds. Their data need no file: what a step takes depends on its shapes.

Choosing the mesh: `fsdp` 16 and the other chips `data` (docs/pods.md compares; over
more, gathering every layer's weights costs time, over fewer, memory). Rows must divide
over data x fsdp. `tensor` only where a chip would have less than one row.
A population takes its chips from `data` by `replica`.

Reference: arXiv 2506.06278, sections 4, 5 and appendix: models and batches.
"""

from undo_jax import config as c

_UNLEARNED = ("max_ent", "grad_diff", "rmu", "max_ent_sam", "max_ent_rep_noise")
_ARITHMETIC = ("gemma2_0.3b", "gemma2_0.6b", "gemma2_0.9b")
_SIZES = ("gemma2_2b", "gemma2_2b_pod", *_ARITHMETIC, "gemma2_0.1b", "tiny")


def get_config(arg: str | None = None) -> c.Config:
  """Return the config of a size: one of gemma2_2b, gemma2_2b_pod, ..., tiny."""
  size = c.parse_size(arg, _SIZES)
  config = c.shipped("arithmetic:tiny")
  config.data.update(
    num_equations=100,
    num_word_problems=100,
    num_evaluation=10,
    tokenizer="characters:ascii",
    packing="packed",
  )
  if size == "tiny":
    model = c.small_model(
      vocab_size=128, num_layers=2, width=16, mlp_width=32, init_std=0.02
    )
    _use(config, model, rows=16, length=128, fsdp=2)
    return config
  for name in _UNLEARNED:
    config.models[name].run = True
  config.models.rmu.options.layers = (5, 6, 7)
  if size in _ARITHMETIC:
    _use(config, c.preset(size), rows=368, length=256, fsdp=16)
    _use_paper_attack(config, unlearn_rows=48)
  elif size == "gemma2_0.1b":
    _use(config, c.preset(size), rows=400, length=2048, fsdp=16)
    _use_paper_attack(config, unlearn_rows=16)
  else:
    data = 16 if size == "gemma2_2b_pod" else 1
    _use(config, c.preset("gemma2_2b"), rows=112 * data, length=1024, fsdp=16)
    # Compares all rows of a part with each other: a row a chip, as the paper's one.
    config.models.max_ent_rep_noise.num_microbatches = 7
    config.evaluation_rows *= data
    config.attacks.relearn.batch_size *= data
  return config


def _use(
  config: c.Config, model: c.Config, *, rows: int, length: int, fsdp: int
) -> None:
  config.model = model
  config.model.update(
    dtype="bfloat16",  # Of all products; weights and their sums stay in float32.
    remat="full",  # Recompute each layer in the backward pass; or dots, none.
    attention="splash",  # On TPUs no chip holds the scores; elsewhere plain.
    logits_chunk=64,  # Positions of a row whose logits are there at a time.
  )
  config.mesh.update(data=-1, fsdp=fsdp)
  config.data.sequence_length = length
  for name in ("base", "oracle_matching", "undo", *_UNLEARNED):
    config.models[name].batch_size = rows
  config.evaluation_rows = 4 * fsdp  # Rows scored in one pass; they divide over fsdp.
  # The population: its states are held all, one of them is computed at a time.
  config.attacks.relearn.update(learning_rates=(1e-4, 1e-5, 1e-6), batch_size=16)
  config.replicas_at_once = 1


def _use_paper_attack(config: c.Config, *, unlearn_rows: int) -> None:
  """Set the smaller models' unlearning batch and the ten learning rates."""
  for name in _UNLEARNED:
    config.models[name].batch_size = unlearn_rows
  config.attacks.relearn.learning_rates = c.PAPER_RATES
