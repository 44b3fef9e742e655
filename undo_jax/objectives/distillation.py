"""Distillation: the D of UNDO, on outputs, on activations, from one or two teachers."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from undo_jax.models.config import ModelConfig
from undo_jax.objectives import chunked, divergences
from undo_jax.objectives.cross_entropy import masked_sum
from undo_jax.objectives.method import Method
from undo_jax.objectives.terms import weighted
from undo_jax.utils.option_types import NotNegative, Positive, Share
from undo_jax.utils.records import FieldError
from undo_jax.utils.types import ConfigError, Objective, Options, Params, SumCount

# How a second teacher, the base model, takes its share.
CHOICES = ("mixed", "switch")
# What a batch holds of a teacher's predictions that were kept.
LOG_PROBS, TOKENS = "teacher_log_probs", "teacher_tokens"


@chunked.summed
def forward_kl(
  student_logits_BxLxV: jax.Array,
  teacher_logits_BxLxV: jax.Array,
  mask_BxL: jax.Array,
) -> SumCount:
  """Sum KL(teacher || student) over the vocabulary and the masked positions.

  sum_t mask[t] * sum_v p_T[t, v] * (log p_T[t, v] - log p_S[t, v]),  temperature 1

  Args:
    student_logits_BxLxV: [B, L, V]; the gradient flows here.
    teacher_logits_BxLxV: [B, L, V]; no gradient flows here.
    mask_BxL: [B, L], 1 where a position counts.

  Returns:
    SumCount of float32 scalars; its mean is nats per token.

  Reference: UNDO, arXiv 2506.06278, section 3 (distillation on outputs).
  """
  teacher = jax.lax.stop_gradient(teacher_logits_BxLxV).astype(jnp.float32)
  log_p_T = jax.nn.log_softmax(teacher)
  log_p_S = jax.nn.log_softmax(student_logits_BxLxV.astype(jnp.float32))
  kl_BxL = jnp.sum(jnp.exp(log_p_T) * (log_p_T - log_p_S), axis=-1)
  return masked_sum(kl_BxL, mask_BxL)


def activation_error(
  outputs_NxBxLxD: jax.Array, targets_NxBxLxD: jax.Array, mask_BxL: jax.Array
) -> SumCount:
  """Sum the squared error of the layers' outputs, averaged over layers and width.

  sum_t mask[t] * 1/(N * D) * sum_n |outputs[n, t] - targets[n, t]|^2

  Args:
    outputs_NxBxLxD: the student's; the gradient flows here.
    targets_NxBxLxD: the teacher's; no gradient flows here.
    mask_BxL: [B, L], 1 where a position counts.

  Returns:
    SumCount of float32 scalars.
  """
  targets = jax.lax.stop_gradient(targets_NxBxLxD).astype(jnp.float32)
  error = outputs_NxBxLxD.astype(jnp.float32) - targets
  return masked_sum(jnp.mean(error * error, axis=(0, -1)), mask_BxL)


def prompted_logits(
  apply: Callable,
  params: Params,
  inputs_BxL: jax.Array,
  prompt: tuple[int, ...],
  prompt_after: int | None = None,
) -> Any:
  """Compute the logits of rows behind a prompt, at the rows' own positions.

  P tokens are read before each row or, of a row that begins with the token
  `prompt_after`, behind that; so the logits at t are those at P + t of what is read.

  Args:
    apply: the model's.
    params: its parameters.
    inputs_BxL: int [B, L].
    prompt: P token ids.
    prompt_after: the token that begins a document; None: there is none.

  Returns:
    [B, L, V] or Deferred.
  """
  shape = inputs_BxL.shape[0], len(prompt)
  prompt_BxP = jnp.broadcast_to(jnp.asarray(prompt, inputs_BxL.dtype), shape)
  read = jnp.concatenate([prompt_BxP, inputs_BxL], axis=1)
  if prompt_after is not None:
    first, rest = inputs_BxL[:, :1], inputs_BxL[:, 1:]
    behind = jnp.concatenate([first, prompt_BxP, rest], axis=1)
    read = jnp.where(first == prompt_after, behind, read)
  return chunked.from_position(apply(params, read).logits, len(prompt))


def make(
  apply: Callable,
  *,
  kl_weight: NotNegative = 1.0,
  activation_weight: NotNegative = 0.0,
  base_share: Share = 0.0,
  base_choice: str = "mixed",
  divergence: str = "forward_kl",
  temperature: Positive = 1.0,
  jsd_beta: Share = 0.5,
  teacher_top_k: int = 0,
  prompt: tuple[int, ...] = (),
  prompt_after: int | None = None,
) -> Objective:
  """Return L = kl_weight * KL + activation_weight * activation error on `batch`.

  1. KL is KL(frozen["teacher"] || params). With a base_share p > 0 the model from
     before unlearning teaches too: "mixed" is p * KL(frozen["base"] || params) +
     (1 - p) * KL(frozen["teacher"] || params); "switch" takes in each microbatch
     one of the two alone, base with probability p by the key.
     Another divergence, of softened predictions or of the teacher's likeliest tokens,
     stands in the place of each KL; see divergences.make.
     Where the batch holds the teacher's predictions, see divergences.predictions, they
     are read instead of frozen["teacher"].
  2. The activation error is that of each layer by itself: it reads the teacher's
     hidden state and is compared with the teacher's next one, the last layer after
     the final norm. Layers equal to the teacher's add nothing. Neither embedding nor
     unembedding learns from it.
  3. With a prompt, the teacher (not the base) reads it before the rows, which the
     student reads without it; see prompted_logits.

  Raises:
    ConfigError: if a weight is negative or both are zero, base_share lies outside
      [0, 1] or has no KL to act on, base_choice is not one of CHOICES, activations
      are to be those behind a prompt, or divergences refuses what it is given.

  Reference: UNDO, arXiv 2506.06278, section 3 and, for activations and for two
  teachers, the code published with it (WMDP).
  """
  _check(kl_weight, activation_weight, base_share, base_choice)
  if prompt and activation_weight:
    raise ConfigError(
      f"activation_weight must be 0 with a prompt, got {activation_weight}"
    )
  divergences.check(divergence, temperature, jsd_beta, teacher_top_k)
  if divergence == "forward_kl" and temperature == 1 and not teacher_top_k:
    between: divergences.Divergence = forward_kl
  else:
    between = divergences.make(
      divergence,
      temperature=temperature,
      jsd_beta=jsd_beta,
      teacher_top_k=teacher_top_k,
    )
  terms_of = _terms(apply, between, divergence, base_share, base_choice)
  of_kept = divergences.make_kept(divergence, jsd_beta=jsd_beta)

  def from_kept(params, batch):
    student, log_probs = apply(params, batch["inputs"]).logits, batch[LOG_PROBS]
    if TOKENS not in batch:
      value = between(student, log_probs, batch["mask"])
    else:
      value = of_kept(student, log_probs, batch[TOKENS], batch["mask"])
    return weighted((kl_weight, value)), {divergence: value}

  def objective(params, frozen, batch, key):
    if LOG_PROBS in batch:
      return from_kept(params, batch)
    terms: dict[str, tuple[float, SumCount]] = {}
    if prompt:
      logits = lambda: prompted_logits(  # noqa: E731
        apply, frozen["teacher"], batch["inputs"], prompt, prompt_after
      )
    elif activation_weight:
      teacher = _run_all(apply, frozen["teacher"], batch["inputs"])
      logits = lambda: teacher.logits  # noqa: E731
      error = _matching(apply, params, batch, teacher.captured)
      terms["activation_error"] = activation_weight, error
    else:
      logits = lambda: apply(frozen["teacher"], batch["inputs"]).logits  # noqa: E731
    if kl_weight:
      for name, share, value in terms_of(params, frozen, batch, key, logits):
        terms[name] = kl_weight * share, value
    loss = weighted(*terms.values())
    return loss, {name: value for name, (_, value) in terms.items()}

  return objective


def _terms(apply, between, name, base_share, base_choice):
  """Return the function that computes (metric, share, divergence) of each teacher."""

  def terms(params, frozen, batch, key, teacher_logits):
    def base_logits():
      return apply(frozen["base"], batch["inputs"]).logits

    def from_student(logits):
      return between(student, logits, batch["mask"])

    student = apply(params, batch["inputs"]).logits
    if not base_share:
      return [(name, 1.0, from_student(teacher_logits()))]
    if base_choice == "mixed":
      return [
        (name, 1.0 - base_share, from_student(teacher_logits())),
        (f"base_{name}", base_share, from_student(base_logits())),
      ]
    from_base = jax.random.bernoulli(key, base_share)
    chosen = jax.lax.cond(from_base, base_logits, teacher_logits)
    return [(name, 1.0, from_student(chosen))]

  return terms


def needs(
  *,
  kl_weight: float = 1.0,
  activation_weight: float = 0.0,
  base_share: float = 0.0,
  base_choice: str = "mixed",
  prompt: Sequence[int] = (),
  **divergence: object,
) -> dict[str, object]:
  """Return the passes and frozen trees that the options of `make` ask for.

  A switch runs one of its two teachers, unless activations need the unlearned one
  anyway; then base is counted whole though it runs in a share of the updates. Which
  divergence it is costs no pass.
  """
  del divergence
  trained = bool(kl_weight) + bool(activation_weight)
  both = bool(base_share) and (base_choice == "mixed" or bool(activation_weight))
  return {
    "trains": ("batch",) * trained,
    "reads": ("batch",) * (2 if both else 1),
    "frozen": ("teacher", "base") if base_share else ("teacher",),
    "prompt": len(prompt),
  }


def _run_all(apply, params, inputs, **options):
  capture = ("embedding", "residual", "final_norm")
  return apply(params, inputs, capture=capture, **options)


def _matching(apply, params, batch, teacher) -> SumCount:
  """Return the activation error of `params` to the teacher's captured states."""
  read = jnp.concatenate([teacher["embedding"][None], teacher["residual"][:-1]])
  read = jax.lax.stop_gradient(read)
  student = _run_all(apply, params, batch["inputs"], layer_inputs_NxBxLxD=read)
  return activation_error(_outputs(student.captured), _outputs(teacher), batch["mask"])


def _outputs(captured):
  """Return the outputs of all layers [N, B, L, D], the last after the final norm."""
  residual, normed = captured["residual"], captured["final_norm"]
  return jnp.concatenate([residual[:-1], normed[None]])


def _check(kl_weight, activation_weight, base_share, base_choice):
  if not kl_weight + activation_weight:
    raise ConfigError("distillation needs kl_weight or activation_weight above 0")
  if base_share and not kl_weight:
    raise ConfigError(f"base_share must be 0 where kl_weight is, got {base_share}")
  if base_choice not in CHOICES:
    raise ConfigError(
      f"base_choice must be one of {', '.join(CHOICES)}, got {base_choice!r}"
    )


def check(model: ModelConfig, options: Options, *, is_random: bool) -> None:
  """Raise FieldError where options do not fit the model.

  A random student would never learn its embedding from activations alone; there are no
  more tokens to keep than the vocabulary's.
  """
  k = options.get("teacher_top_k")
  if k is not None and k > model.vocab_size:
    expected = f"at most model.vocab_size={model.vocab_size}"
    raise FieldError("teacher_top_k", expected, k)
  if is_random and options.get("kl_weight", 1.0) == 0:
    raise FieldError("kl_weight", "above 0 where the student starts random", 0.0)


def kept(model: ModelConfig, options: Options) -> int:
  """Return how many of a teacher's tokens are kept where its predictions are; 0: all.

  Raises:
    FieldError: if the options ask for more than predictions.
  """
  vocab = model.vocab_size
  for name in ("activation_weight", "base_share"):
    if options.get(name):
      expected = "0 where teacher_predictions.keep is True: outputs of one teacher"
      raise FieldError(name, expected, options[name])
  k, temperature = options.get("teacher_top_k", 0), options.get("temperature", 1.0)
  if not 0 < k < vocab:
    return 0
  if temperature != 1:
    raise FieldError(
      "temperature",
      f"1 where teacher_predictions keeps teacher_top_k={k} of {vocab} tokens (how the "
      "others share their mass is not kept)",
      temperature,
    )
  return k


METHOD = Method(
  make=make,
  trains=("batch",),
  reads=("batch",),
  frozen=("teacher",),
  needs=needs,
  check=check,
  kept=kept,
  label="distillation",
)
