"""Formulas of unlearning methods in float64, position by position."""

import numpy as np


def probabilities(logits):
  shifted = np.exp(logits - logits.max(-1, keepdims=True))
  return shifted / shifted.sum(-1, keepdims=True)


def positions(part):
  return [tuple(place) for place in np.argwhere(np.asarray(part["mask"]) > 0)]


def mean(part, value):
  """Return the mean of `value(row, position)` over the positions that count."""
  values = [value(*place) for place in positions(part)]
  return sum(values) / max(len(values), 1)


def mean_of_rows(part, value):
  """Return the mean of `value(row)` over the rows with a position that counts."""
  rows = sorted({row for row, _ in positions(part)})
  return sum(map(value, rows)) / max(len(rows), 1)


def nll(logits, part, row):
  """Return the negative log-likelihood of a row, and its tokens that count."""
  places = [place for place in positions(part) if place[0] == row]
  p = probabilities(logits)
  total = -sum(np.log(p[b, t, part["targets"][b, t]]) for b, t in places)
  return total, len(places)


def preference(difference, beta):
  return -2 / beta * np.log(1 / (1 + np.exp(-beta * difference)))


def npo(given):
  def of_row(b):
    mine, other = (nll(x, given.forget, b)[0] for x in (given.logits, given.reference))
    return preference(mine - other, 0.3)

  return [mean_of_rows(given.forget, of_row), 0.5 * given.retain_cross_entropy]


def idk_dpo(given):
  def of_row(b):
    rows = [(given.logits, given.forget), (given.reference, given.forget)]
    rows += [(given.refused_logits, given.refused)]
    rows += [(given.refused_reference, given.refused)]
    mine, other, refused, refused_other = (nll(*each, b)[0] for each in rows)
    return preference((refused_other - refused) - (other - mine), 0.3)

  return [mean_of_rows(given.forget, of_row), 0.5 * given.retain_cross_entropy]


def simnpo(given):
  def of_row(b):
    total, tokens = nll(given.logits, given.forget, b)
    return preference(total / tokens - 0.2, 2.5)

  return [mean_of_rows(given.forget, of_row), 0.5 * given.retain_cross_entropy]


def ascent(given, saturation, importance):
  p, fixed = probabilities(given.logits), probabilities(given.fixed_logits)

  def of_token(b, t):
    y = given.forget["targets"][b, t]
    weight = fixed[b, t, y] ** saturation * (1 - fixed[b, t, y]) ** importance
    return weight * np.log(p[b, t, y])

  return [mean(given.forget, of_token), 0.5 * given.retain_cross_entropy]


def ce_u(given):
  def of_token(b, t):
    others = given.fixed_logits[b, t].copy()
    others[given.forget["targets"][b, t]] = -np.inf
    p = probabilities(given.logits[b, t])
    return -(probabilities(others) * np.log(p)).sum()

  return [mean(given.forget, of_token), 0.5 * given.retain_cross_entropy]


def undial(given):
  def of_token(b, t):
    lowered = given.reference[b, t].copy()
    lowered[given.forget["targets"][b, t]] -= 3.0
    p = probabilities(given.logits[b, t])
    return -(probabilities(lowered) * np.log(p)).sum()

  return [mean(given.forget, of_token), 0.5 * given.retain_cross_entropy]


def jensen_shannon(p, q):
  m = (p + q) / 2
  return sum(
    0.5 * x * np.log(x / middle)
    for each in (p, q)
    for x, middle in zip(each, m, strict=True)
    if x > 0
  )


def jensun(given):
  answer, seen = (4, 1, 7), {}

  def of_token(b, t):
    place = seen[b] = seen.get(b, -1) + 1
    target = np.eye(given.logits.shape[-1])[answer[place % 3]]
    return jensen_shannon(probabilities(given.logits[b, t]), target)

  def kept(b, t):
    both = given.retain_logits[b, t], given.retain_reference[b, t]
    return jensen_shannon(*map(probabilities, both))

  return [mean(given.forget, of_token), 0.5 * mean(given.retain, kept)]


def adaptive_rmu(given):
  mine, before, kept, drifted = given.hidden(1)

  def steered(b, t):
    length = np.sqrt((before[b, t] ** 2).sum())
    return ((mine[b, t] - 1.5 * length * given.direction) ** 2).mean()

  def drift(b, t):
    return ((drifted[b, t] - kept[b, t]) ** 2).mean()

  return [mean(given.forget, steered), 2.0 * mean(given.retain, drift)]


def circuit_breakers(given):
  layers = [given.hidden(k) for k in (1, 2)]

  def rerouted(b, t):
    cosines = [
      mine[b, t]
      @ before[b, t]
      / np.sqrt((mine[b, t] ** 2).sum())
      / np.sqrt((before[b, t] ** 2).sum())
      for mine, before, _, _ in layers
    ]
    return np.mean([max(cosine, 0.0) for cosine in cosines])

  def drift(b, t):
    return np.mean(
      [np.sqrt(((moved[b, t] - kept[b, t]) ** 2).sum()) for _, _, kept, moved in layers]
    )

  late = given.progress / 2
  return [
    4.0 * (1 - late) * mean(given.forget, rerouted),
    4.0 * late * mean(given.retain, drift),
  ]


def push(given, steps, radius, step_size):
  """Return the push on the first layer's output, by the toy's own backward pass."""
  weights = {k: np.asarray(v, np.float64) for k, v in given.fixed.items()}
  part, vectors = given.forget, 0.0
  B, L = part["mask"].shape
  for _ in range(steps):
    logits, states = given.apply(given.fixed, part["inputs"], added={1: vectors})
    target = np.eye(logits.shape[-1])[part["targets"]]
    error = (probabilities(logits) - target) * part["mask"][..., None]
    error = (
      error @ weights["out"].T * (1 - np.tanh(states[2]) ** 2) / part["mask"].sum()
    )
    gradient = np.zeros_like(states[1])
    for b, s, t in np.ndindex(B, L, L):
      if t >= s:  # A position reads the mean of those up to it.
        gradient[b, s] += weights["layers"][1] * error[b, t] / (t + 1)
    size = np.linalg.norm(gradient, axis=-1, keepdims=True)
    vectors = vectors - step_size * gradient / (size + 1e-30)
    size = np.linalg.norm(vectors, axis=-1, keepdims=True)
    vectors = vectors * np.minimum(1, radius / (size + 1e-30))
  return {1: vectors}


def latent_adversarial(given):
  added = push(given, 3, 0.6, 0.25)
  logits, _ = given.apply(given.params, given.forget["inputs"], added=added)

  def likelihood(b, t):
    p = probabilities(logits[b, t])
    return np.log(p[given.forget["targets"][b, t]])

  return [mean(given.forget, likelihood), 1.5 * given.retain_cross_entropy]


def squares(x, target):
  """Return the mean square of how far a token's state is from a target."""
  return lambda b, t: (
    (x[b, t] - (target if target.ndim == 1 else target[b, t])) ** 2
  ).mean()


def rmu(given, steered, k):
  """Return the terms of RMU at length 3 and weight 2, of a state k."""
  _, _, kept, moved = given.hidden(k)
  return [
    mean(given.forget, squares(steered, 3.0 * given.direction)),
    2.0 * mean(given.retain, squares(moved, kept)),
  ]


def latent_adversarial_rmu(given):
  added = push(given, 2, 0.3, 0.25)
  pushed = given.apply(given.params, given.forget["inputs"], added=added)[1][2]
  return rmu(given, pushed, 2)


def tamper_resistance(given):
  def of_token(b, t):
    p = probabilities(given.logits[b, t])
    return (p * np.log(p)).sum()

  weights = np.exp(0.1 * (2 - 4)) + 1
  return [
    2.0 * weights * mean(given.forget, of_token),
    0.5 * given.retain_cross_entropy,
  ]


def mudman(given):
  logits, _ = given.apply(given.adversary, given.forget["inputs"])
  p = probabilities(logits)

  def negative_entropy(b, t):
    return (p[b, t] * np.log(p[b, t])).sum()

  def surprise(b, t):
    return -np.log(p[b, t, given.forget["targets"][b, t]])

  terms = [mean(given.forget, negative_entropy), mean(given.forget, surprise)]
  return [*terms, given.retain_cross_entropy]


def rep_select(given):
  logits, _ = given.apply(given.adversary, given.forget["inputs"])
  p = probabilities(logits)
  targets = given.forget["targets"]
  return [mean(given.forget, lambda b, t: -np.log(p[b, t, targets[b, t]]))]


def slope(given, part):
  """Return the derivative of a part's loss as the toy's weights grow alike.

  A state is a product of as many weights as layers have made it, and one.
  """
  logits, states = given.apply(given.params, part["inputs"])
  normed, out = np.tanh(states[-1]), np.float64(given.params["out"])
  changes = (len(states) * states[-1] * (1 - normed**2) + normed) @ out
  p = probabilities(logits)

  def of_token(b, t):
    return (p[b, t] * changes[b, t]).sum() - changes[b, t, part["targets"][b, t]]

  return mean(part, of_token)


def invariant(given):
  return [*npo(given), 0.2 * slope(given, given.batch["environment"]) ** 2]


def invariant_rmu(given):
  slopes = [slope(given, given.batch[name]) for name in ("environment", "retain")]
  return [*rmu(given, given.hidden(1)[0], 1), 0.2 * sum(s**2 for s in slopes)]


def distance(given):
  squares = [
    ((np.asarray(given.params[k], np.float64) - np.float64(x)) ** 2).ravel()
    for k, x in given.start.items()
  ]
  root = np.sqrt(np.concatenate(squares).mean() + 1e-8)
  return [-0.7 * root, 1.5 * given.retain_cross_entropy]


FORMULAS = {
  "npo": npo,
  "idk_dpo": idk_dpo,
  "simnpo": simnpo,
  "wga": lambda given: ascent(given, 0.5, 0.0),
  "satimp": lambda given: ascent(given, 2.0, 1.0),
  "ce_u": ce_u,
  "undial": undial,
  "jensun": jensun,
  "adaptive_rmu": adaptive_rmu,
  "circuit_breakers": circuit_breakers,
  "latent_adversarial": latent_adversarial,
  "latent_adversarial, rmu": latent_adversarial_rmu,
  "tamper_resistance": tamper_resistance,
  "mudman": mudman,
  "rep_select": rep_select,
  "invariant": invariant,
  "invariant, rmu": invariant_rmu,
  "distance": distance,
}
