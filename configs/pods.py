"""Gemma-2 on TPU slices: the mesh, and how little memory a step can take.

COMMAND, with the extra `tpu-compile` and no TPU:

  python -m experiments.compile --config=configs/pods.py:gemma2_2b --topology=v5e:4x4

Sizes:
gemma2_2b is for 16 chips, with 112 rows of 1024 tokens in each update (the paper's 110
rows do not divide over 16 chips); gemma2_2b_pod is for 256 chips, with 1792 rows.
gemma2_0.3b, 0.6b and 0.9b (arithmetic) and 0.1b (languages) are the paper's smaller
models for 16 chips; their batches are the paper's in whole rows per chip. tiny is for 4
chips and compiles in seconds. The data need no files: what a step takes depends on its
shapes alone.

To choose the mesh, set `fsdp` to 16 and give the other chips to `data`. If the weights
are divided over more chips, gathering those of every layer costs time; over fewer
chips they cost memory (docs/pods.md compares). Rows must divide over data x fsdp. Use
`tensor` only if a chip would otherwise have less than one row. A population takes its
chips from `data` by `replica`.

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
    # Compares all rows of a part with each other: one row per chip, as in the paper.
    config.models.max_ent_rep_noise.num_microbatches = 7
    config.evaluation_rows *= data
    config.attacks.relearn.batch_size *= data
  return config


def _use(
  config: c.Config, model: c.Config, *, rows: int, length: int, fsdp: int
) -> None:
  config.model = model
  config.model.update(
    dtype="bfloat16",  # Of all products; weights and sums stay in float32.
    remat="full",  # Recompute each layer in the backward pass; or dots, none.
    attention="splash",  # On TPUs no chip holds the scores; elsewhere it is plain.
    logits_chunk=64,  # Positions of a row whose logits are held at a time.
  )
  config.mesh.update(data=-1, fsdp=fsdp)
  config.data.sequence_length = length
  for name in ("base", "oracle_matching", "undo", *_UNLEARNED):
    config.models[name].batch_size = rows
  config.evaluation_rows = 4 * fsdp  # Rows scored in one pass; they divide over fsdp.
  # The weights of all members are held, and the moments of the one that trains.
  config.attacks.relearn.update(learning_rates=(1e-4, 1e-5, 1e-6), batch_size=16)
  config.replicas_at_once = 1


def _use_paper_attack(config: c.Config, *, unlearn_rows: int) -> None:
  """Set the smaller models' unlearning batch and the ten learning rates."""
  for name in _UNLEARNED:
    config.models[name].batch_size = unlearn_rows
  config.attacks.relearn.learning_rates = c.PAPER_RATES
