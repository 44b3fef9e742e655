"""A toy model with every registered objective, and their formulas in float64."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np

from tests.objectives.formulas import FORMULAS, probabilities
from undo_jax import objectives, testing
from undo_jax.models.gemma2 import Output
from undo_jax.training.gradients import loss_and_gradients

B, L, V, D, N = 8, 6, 11, 5, 2
KEY = jax.random.key(0)
FIRST = jax.random.fold_in(KEY, 0)  # The key of the first microbatch.

# Each case is a registered objective with options.
CASES = {
  "cross_entropy": ("cross_entropy", {}),
  "forward_kl": ("forward_kl", {}),
  "forward_kl, mixed, activations": (
    "forward_kl",
    {"kl_weight": 0.7, "activation_weight": 10.0, "base_share": 0.3},
  ),
  "forward_kl, reversed, softened": (
    "forward_kl",
    {"divergence": "reverse_kl", "temperature": 2.0, "base_share": 0.3},
  ),
  # Some of the rows begin with 8.
  "forward_kl, prompted": ("forward_kl", {"prompt": (3, 1), "prompt_after": 8}),
  "grad_diff": ("grad_diff", {"retain_weight": 1.5}),
  "max_ent": ("max_ent", {"retain_weight": 0.5}),
  "max_ent, kl": (
    "max_ent",
    {"forget_weight": 0.8, "retain_weight": 0.2, "retain_loss": "kl"},
  ),
  "max_ent_rep_noise": (
    "max_ent_rep_noise",
    {"forget_weight": 0.9, "retain_weight": 0.5, "alpha": 2.0, "beta": 0.7},
  ),
  "rmu": ("rmu", {"layers": (0,), "coefficient": 3.0, "retain_weight": 2.0}),
  "npo": ("npo", {"retain_weight": 0.5, "beta": 0.3}),
  "simnpo": ("simnpo", {"retain_weight": 0.5, "beta": 2.5, "margin": 0.2}),
  "wga": ("wga", {"retain_weight": 0.5, "exponent": 0.5}),
  "satimp": ("satimp", {"retain_weight": 0.5, "saturation": 2.0}),
  "ce_u": ("ce_u", {"retain_weight": 0.5}),
  "undial": ("undial", {"retain_weight": 0.5, "penalty": 3.0}),
  "jensun": ("jensun", {"retain_weight": 0.5, "answer": (4, 1, 7)}),
  "idk_dpo": ("idk_dpo", {"retain_weight": 0.5, "beta": 0.3, "answer": (4, 1, 7)}),
  "adaptive_rmu": (
    "adaptive_rmu",
    {"layers": (0,), "scale": 1.5, "retain_weight": 2.0},
  ),
  "circuit_breakers": ("circuit_breakers", {"layers": (0, 1), "strength": 4.0}),
  "latent_adversarial": (
    "latent_adversarial",
    {"around": "grad_diff", "layer": 0, "retain_weight": 1.5, "steps": 3}
    | {"radius": 0.6, "step_size": 0.25},
  ),
  "latent_adversarial, rmu": (
    "latent_adversarial",
    {"around": "rmu", "layer": 0, "layers": (1,), "coefficient": 3.0}
    | {"retain_weight": 2.0, "steps": 2, "radius": 0.3},
  ),
  # An adversary that does not move; tamper_resistance_test.py has those that do.
  "tamper_resistance": (
    "tamper_resistance",
    {"retain_weight": 0.5, "adversary_rates": (0.0,), "resistance_weight": 2.0}
    | {"adversary_steps": 4, "every": 2, "growth": 0.1},
  ),
  # Both at a fixed adversary; their own tests have the way of one.
  "rep_select": ("rep_select", {}),
  "mudman": ("mudman", {"retain_weight": 0.5}),
  "invariant": (
    "invariant",
    {"around": "npo", "retain_weight": 0.5, "beta": 0.3, "invariance_weight": 0.2},
  ),
  "invariant, rmu": (
    "invariant",
    {"around": "rmu", "layers": (0,), "coefficient": 3.0, "retain_weight": 2.0}
    | {"invariance_weight": 0.2, "environments": ("environment", "retain")},
  ),
  "distance": ("distance", {"retain_weight": 1.5, "distance_weight": 0.7}),
}


def apply(
  params,
  tokens,
  *,
  capture=(),
  layer_inputs_NxBxLxD=None,
  hidden_BxLxD=None,
  added=None,
):
  """A causal toy: each layer scales running means, then a matrix to the logits."""
  if hidden_BxLxD is not None:
    return Output(jnp.tanh(hidden_BxLxD) @ params["out"], {})
  states = [params["embedding"][tokens]]
  read, written = [], []
  for n in range(N):
    given = layer_inputs_NxBxLxD
    read.append(states[-1] if given is None else given[n])
    counts = jnp.arange(1.0, tokens.shape[1] + 1)[:, None]
    means = jnp.cumsum(read[-1], axis=1) / counts
    written.append(params["layers"][n] * means + (added or {}).get(n + 1, 0.0))
    states.append(written[-1])
  normed = jnp.tanh(states[-1])
  nodes = dict(enumerate(states)) | {"embedding": states[0], "final_norm": normed}
  nodes["residual"] = jnp.stack(written)
  nodes["mlp/out"] = jnp.stack(written) - jnp.stack(read)
  return Output(normed @ params["out"], {k: nodes[k] for k in capture})


def numpy_apply(params, tokens, layer_inputs=None, added=None):
  """Return logits and hidden states in float64."""
  params = {name: np.asarray(leaf, np.float64) for name, leaf in params.items()}
  states = [params["embedding"][np.asarray(tokens)]]
  for n in range(N):
    read = states[-1] if layer_inputs is None else layer_inputs[n]
    means = np.cumsum(read, axis=1) / np.arange(1, read.shape[1] + 1)[:, None]
    states.append(params["layers"][n] * means + (added or {}).get(n + 1, 0.0))
  return np.tanh(states[-1]) @ params["out"], states


def numpy_gradient(params, part, of_logits):
  """Return the gradient of a mean over tokens, by the toy's own backward pass.

  `of_logits(logits, targets)` is its gradient with respect to the logits.
  """
  logits, states = numpy_apply(params, part["inputs"])
  part = jax.device_get(part)
  error = of_logits(logits, part["targets"]) * part["mask"][..., None]
  error = error / part["mask"].sum()
  counts = np.arange(1, error.shape[1] + 1)[:, None]
  grads = {"out": np.einsum("bld,blv->dv", np.tanh(states[2]), error)}
  error = error @ params["out"].T * (1 - np.tanh(states[2]) ** 2)
  grads["layers"] = np.zeros_like(params["layers"])
  for n in (1, 0):
    means = np.cumsum(states[n], axis=1) / counts
    grads["layers"][n] = (error * means).sum((0, 1))
    spread = params["layers"][n] * error / counts
    error = np.cumsum(spread[:, ::-1], axis=1)[:, ::-1]  # Of all later means.
  grads["embedding"] = np.zeros_like(params["embedding"])
  np.add.at(grads["embedding"], part["inputs"], error)
  return grads


def surprise(logits, targets):
  """Return the gradient of a token's cross-entropy with respect to its logits."""
  return probabilities(logits) - np.eye(V)[targets]


def draw_params(seed: int):
  rng = np.random.default_rng(seed)
  return {
    "embedding": jnp.asarray(2 * rng.standard_normal((V, D)), jnp.float32),
    "layers": jnp.asarray(1 + 0.3 * rng.standard_normal((N, D)), jnp.float32),
    "out": jnp.asarray(rng.standard_normal((D, V)), jnp.float32),
  }


def draw_direction(seed: int):
  direction = np.random.default_rng(seed).standard_normal(D)
  return jnp.asarray(direction / np.linalg.norm(direction), jnp.float32)


def part(seed: int):
  return testing.batch(jax.random.key(seed), rows=B, length=L, vocab=V)


def method_of(name: str):
  return objectives.method(*CASES[name])


def batch_of(name: str):
  if "batch" in method_of(name).trains:
    return part(0)
  parts = {"forget": part(1), "retain": part(2)}
  others = {"adversary": part(4), "environment": part(5)}
  return parts | {k: v for k, v in others.items() if k in method_of(name).trains}


FROZEN = {
  "teacher": draw_params(7),
  "base": draw_params(6),
  "reference": draw_params(8),
  "direction": draw_direction(9),
  "progress": jnp.float32(0.3),
  "adversary": draw_params(10),
}


def make(name: str, **changes):
  objective, options = CASES[name]
  return objectives.make(objective, apply, **(options | changes))


def log_softmax(x):
  shifted = x - x.max(-1, keepdims=True)
  return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def np_cross_entropy(logits, targets, mask):
  log_p = log_softmax(np.asarray(logits, np.float64))
  total = 0.0
  for b, t in np.ndindex(*np.shape(mask)):
    total -= mask[b, t] * log_p[b, t, targets[b, t]]
  return total / max(np.sum(mask), 1)


def np_forward_kl(student, teacher, mask):
  log_s = log_softmax(np.asarray(student, np.float64))
  log_t = log_softmax(np.asarray(teacher, np.float64))
  kl = (np.exp(log_t) * (log_t - log_s)).sum(-1)
  return (kl * mask).sum() / max(np.sum(mask), 1)


def np_uniform_kl(logits, mask):
  log_p = log_softmax(np.asarray(logits, np.float64))
  kl = ((np.log(1 / V) - log_p) / V).sum(-1)
  return (kl * mask).sum() / max(np.sum(mask), 1)


def np_mean_square(hidden, target, mask):
  error = ((np.asarray(hidden, np.float64) - np.asarray(target, np.float64)) ** 2).mean(
    -1
  )
  return (error * mask).sum() / max(np.sum(mask), 1)


def np_activation_error(params, teacher, batch):
  """One layer after the other, each on the teacher's hidden state."""
  _, states = numpy_apply(teacher, batch["inputs"])
  _, got = numpy_apply(params, batch["inputs"], layer_inputs=states)
  mask, total = np.asarray(batch["mask"]), 0.0
  for n in range(N):
    mine, theirs = got[n + 1], states[n + 1]
    if n == N - 1:
      mine, theirs = np.tanh(mine), np.tanh(theirs)
    total += np_mean_square(mine, theirs, mask)
  return total / N


def np_mmd(x, y, width=None):
  """Return the discrepancy, at the width of its own distances or a given one."""
  z = np.concatenate([x, y]).astype(np.float64)
  distances = ((z[:, None] - z[None, :]) ** 2).sum(-1)
  n = len(z)
  own = distances.sum() / (n**2 - n) / 2 ** (5 // 2)
  width = own if width is None else width
  kernel = sum(np.exp(-distances / (width * 2**i)) for i in range(5))
  k = len(x)
  xx, yy, xy, yx = kernel[:k, :k], kernel[k:, k:], kernel[:k, k:], kernel[k:, :k]
  return (xx + yy - xy - yx).mean(), own


def np_rep_noise(params, batch, key, fixed, *, only_differing=False):
  """Return cross-entropy on retain data, distance to noise, log of the lens losses.

  The widths of the kernels are those at the parameters `fixed`.
  """
  forget, retain = batch["forget"], batch["retain"]
  (logits, states), (_, fixed_states) = (
    numpy_apply(p, forget["inputs"]) for p in (params, fixed)
  )
  harmless_logits, _ = numpy_apply(params, retain["inputs"])
  masks = {name: np.asarray(p["mask"], np.float64) for name, p in batch.items()}
  read = np.ones(masks["forget"].shape)
  rows = len(read)
  if only_differing:  # Logits times the mask, labels outside of it left out.
    read = np.float64(forget["inputs"] != retain["inputs"])
    counted = np.asarray(forget["targets"] != retain["targets"])
    masks = {name: mask * counted for name, mask in masks.items()}
  out = np.asarray(params["out"], np.float64)
  noise = 0.0
  for n in range(N):
    gaussian = jax.random.normal(jax.random.fold_in(key, n), (rows, L, D))
    m = (masks["forget"] * read)[..., None]
    mine, other = (
      (m * (h[n + 1] - h[n])).reshape(rows, -1) for h in (states, fixed_states)
    )
    gaussian = (m * np.asarray(gaussian, np.float64)).reshape(rows, -1)
    noise += np_mmd(mine, gaussian, np_mmd(other, gaussian)[1])[0] / N
  lens = [np.tanh(h) @ out for h in states]
  losses = [
    np_cross_entropy(read[..., None] * z, forget["targets"], masks["forget"])
    for z in [logits, *lens]
  ]
  harmless = np_cross_entropy(
    read[..., None] * harmless_logits, retain["targets"], masks["retain"]
  )
  return harmless, noise, np.log(sum(losses) / (N + 1) + 1)


def np_given(params, frozen, batch, fixed):
  """Return what formulas.py reads, in float64."""
  forget, retain = batch["forget"], batch["retain"]
  refused = {k: np.array(v) for k, v in forget.items()}
  for b, row in enumerate(np.asarray(forget["mask"])):
    for place, t in enumerate(np.flatnonzero(row)):
      refused["targets"][b, t] = (4, 1, 7)[place % 3]
      if t + 1 < L:
        refused["inputs"][b, t + 1] = refused["targets"][b, t]
  models = {"mine": params, "other": frozen["reference"], "fixed": fixed or params}
  read = {
    (who, name): numpy_apply(model, each["inputs"])
    for who, model in models.items()
    for name, each in (("forget", forget), ("retain", retain), ("refused", refused))
  }
  logits = {key: outputs[0] for key, outputs in read.items()}

  def hidden(k):
    """Return states of forget rows, before and after, and of retain rows."""
    order = [(who, "forget") for who in ("mine", "other")]
    order += [(who, "retain") for who in ("other", "mine")]
    mine, before, kept, moved = (read[key][1][k] for key in order)
    return mine, before, kept, moved

  return types.SimpleNamespace(
    forget=jax.device_get(forget),
    retain=jax.device_get(retain),
    logits=logits["mine", "forget"],
    reference=logits["other", "forget"],
    refused=refused,
    refused_logits=logits["mine", "refused"],
    refused_reference=logits["other", "refused"],
    fixed_logits=logits["fixed", "forget"],
    batch=jax.device_get(batch),
    # It follows the weights, so that gradients are those there.
    adversary={
      k: np.float64(v) + np.float64(params[k]) - np.float64((fixed or params)[k])
      for k, v in frozen["adversary"].items()
    },
    retain_logits=logits["mine", "retain"],
    retain_reference=logits["other", "retain"],
    retain_cross_entropy=np_cross_entropy(
      logits["mine", "retain"], retain["targets"], np.asarray(retain["mask"])
    ),
    hidden=hidden,
    apply=numpy_apply,
    fixed=fixed or params,
    direction=np.asarray(frozen["direction"], np.float64),
    progress=float(frozen["progress"]),
    params=params,
    start=frozen["reference"],
  )


def np_objective(name, params, frozen, batch, key=FIRST, fixed=None):
  """Return the terms whose sum is the loss."""
  if name == "cross_entropy" or name.startswith("forward_kl"):
    logits, _ = numpy_apply(params, batch["inputs"])
    mask = np.asarray(batch["mask"])
    if name == "cross_entropy":
      return [np_cross_entropy(logits, batch["targets"], mask)]
    teacher, _ = numpy_apply(frozen["teacher"], batch["inputs"])
    if name == "forward_kl, prompted":
      rows = np.asarray(batch["inputs"]).tolist()
      read = [[8, 3, 1, *r[1:]] if r[0] == 8 else [3, 1, *r] for r in rows]
      assert {8} < {r[0] for r in rows}
      teacher = numpy_apply(frozen["teacher"], read)[0][:, 2:]
      return [np_forward_kl(logits, teacher, mask)]
    kl = np_forward_kl(logits, teacher, mask)
    if name == "forward_kl":
      return [kl]
    base, _ = numpy_apply(frozen["base"], batch["inputs"])
    if name == "forward_kl, reversed, softened":
      # With T = 2: 2^2 times the KL from the student, of half the logits.
      kls = [np_forward_kl(other / 2, logits / 2, mask) for other in (teacher, base)]
      return [4 * 0.7 * kls[0], 4 * 0.3 * kls[1]]
    error = np_activation_error(params, frozen["teacher"], batch)
    return [0.7 * 0.7 * kl, 0.7 * 0.3 * np_forward_kl(logits, base, mask), 10 * error]
  if name in FORMULAS:
    return FORMULAS[name](np_given(params, frozen, batch, fixed))
  forget, retain = batch["forget"], batch["retain"]
  forget_mask, retain_mask = np.asarray(forget["mask"]), np.asarray(retain["mask"])
  forget_logits, forget_hidden = numpy_apply(params, forget["inputs"])
  retain_logits, retain_hidden = numpy_apply(params, retain["inputs"])
  retain_ce = np_cross_entropy(retain_logits, retain["targets"], retain_mask)
  if name == "grad_diff":
    return [
      -np_cross_entropy(forget_logits, forget["targets"], forget_mask),
      1.5 * retain_ce,
    ]
  uniform = np_uniform_kl(forget_logits, forget_mask)
  reference_logits, reference = numpy_apply(frozen["reference"], retain["inputs"])
  if name == "max_ent":
    return [uniform, 0.5 * retain_ce]
  if name == "max_ent, kl":
    kl = np_forward_kl(retain_logits, reference_logits, retain_mask)
    return [0.8 * uniform, 0.2 * kl]
  if name == "max_ent_rep_noise":
    fixed = params if fixed is None else fixed
    harmless, noise, ascent = np_rep_noise(params, batch, key, fixed)
    rest = 0.9 * np.array([uniform, harmless, 0.7 * noise, -2.0 * ascent])
    return [*rest, 0.5 * retain_ce]
  direction = 3.0 * np.asarray(frozen["direction"], np.float64)
  return [
    np_mean_square(forget_hidden[1], direction, forget_mask),
    2.0 * np_mean_square(retain_hidden[1], reference[1], retain_mask),
  ]


def draw_logits(seed: int, scale: float = 3.0):
  return scale * np.random.default_rng(seed).standard_normal((B, L, V))


MASK = np.asarray(part(3)["mask"])
TARGETS = np.asarray(part(3)["targets"])


@functools.cache
def compiled(name, num_microbatches, **changes):
  fn = functools.partial(loss_and_gradients, num_microbatches=num_microbatches)
  return jax.jit(functools.partial(fn, make(name, **changes)))


def run(name, params, batch, *, num_microbatches=1, frozen=FROZEN, **changes):
  return compiled(name, num_microbatches, **changes)(params, frozen, batch, KEY)


def assert_trees_close(got, expected, tolerance):
  got, expected = jax.device_get((got, expected))
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(
      x, y, rtol=0, atol=tolerance * np.abs(y).max()
    ),
    got,
    expected,
  )
