"""What the study computes: a part is a beta, drawn exactly or by published steps."""

from collections.abc import Iterator, Mapping, Sequence
import math
import zlib

import jax
import numpy as np
from scipy import stats

from experiments.shared import studies
from experiments.vervaat import distribution, figures, published, sampler, series
from experiments.vervaat import results as results_lib
from experiments.vervaat.config import Config
from experiments.vervaat.results import (
  Cumulant,
  ExactPart,
  Part,
  PublishedPart,
  Time,
)

UPDATES: Mapping[str, sampler.Update] = {
  "exact": sampler.exact,
  "old bound": published.old_bound,
  "listing": published.listing,
}
_LARGEST_IN_FULL = 16.0  # Larger betas have fewer draws, with as many steps in all.
_SMALLER = 10  # Two comparisons have this many times fewer draws.
_BINS = 40


def compute(config: Config, names: Sequence[str]) -> Iterator[tuple[str, Part]]:
  """Yield the parts that are asked for."""
  kinds = _parts(config)
  for name in names:
    key = jax.random.fold_in(jax.random.key(config.seed), zlib.crc32(name.encode()))
    kind, beta = kinds[name]
    if kind == "exact":
      yield name, exact_part(key, beta, _draws(config.exact.draws, beta))
    else:
      block = config.published
      draws = block.draws if kind == "published" else block.slow_draws
      yield name, published_part(key, beta, draws)


def exact_part(key: jax.Array, beta: float, draws: int) -> ExactPart:
  """Return the results of the exact draws for a beta."""
  law = distribution.solve(beta)
  got = sampler.draw(key, np.full(draws, beta))
  values_N, few = got.values_N, max(100, draws // _SMALLER)
  keys = jax.random.split(jax.random.fold_in(key, 1), 2)
  parts = [max(beta / 3, sampler.SMALLEST)]
  parts.append(beta - parts[0])
  sums = sum(
    sampler.draw(k, np.full(few, part)).values_N
    for k, part in zip(keys, parts, strict=True)
  )
  other = series.sample(np.random.default_rng(draws), beta, few)
  heights, edges = np.histogram(values_N, bins=_BINS, density=True)
  middles = (edges[1:] + edges[:-1]) / 2
  return {
    "beta": beta,
    "draws": draws,
    "cumulants": cumulants(values_N, beta),
    "ks_p_value": float(stats.kstest(values_N, law.cdf)[1]),
    "sum_ks_p_value": float(stats.kstest(sums, law.cdf)[1]),
    "series_ks_p_value": float(stats.kstest(values_N, other)[1]),
    "time": time(got, beta),
    "violations": int(got.violations_N.sum()),
    "histogram": {
      "x": middles.tolist(),
      "density": heights.tolist(),
      "solved": (np.diff(law.cdf(edges)) / np.diff(edges)).tolist(),
    },
  }


def published_part(key: jax.Array, beta: float, draws: int) -> PublishedPart:
  """Return the results of the listing's steps for a beta, beside the exact ones."""
  part: PublishedPart = {"beta": beta, "draws": draws, "updates": {}}
  for name, update in UPDATES.items():
    got = sampler.draw(key, np.full(draws, beta), update)
    part["updates"][name] = {
      "cumulants": cumulants(got.values_N, beta),
      "time": time(got, beta),
      "violations": int(got.violations_N.sum()),
    }
  return part


def cumulants(values_N: np.ndarray, beta: float) -> list[Cumulant]:
  """Return the first three cumulants, with their errors from beta / k.

  Errors are in standard errors, from the influence functions d, d^2 and d^3 - 3 s^2 d.
  """
  off_N = values_N - values_N.mean()
  square = float(np.mean(off_N**2))
  moments = (
    (float(values_N.mean()), off_N),
    (square, off_N**2),
    (float(np.mean(off_N**3)), off_N**3 - 3 * square * off_N),
  )
  return [
    {
      "value": value,
      "expected": beta / order,
      "z": (value - beta / order) / float(influence.std() / len(values_N) ** 0.5),
    }
    for order, (value, influence) in enumerate(moments, start=1)
  ]


def time(got: sampler.Draws, beta: float) -> Time:
  """Return the average cost of a draw, and the earlier algorithm's bound."""
  uniforms = float(got.uniforms_N.mean())
  return {
    "steps": float(got.steps_N.mean()),
    "steps_error": float(got.steps_N.std() / len(got.steps_N) ** 0.5),
    "most_steps": int(got.steps_N.max()),
    "uniforms": uniforms,
    "uniforms_over_beta_log": uniforms / (beta * math.log(beta + 2)),
    "log10_earlier_bound": beta * math.log10(2.23 * beta),
  }


def _parts(config: Config) -> dict[str, tuple[str, float]]:
  """Return the kind and the beta of each part."""
  kinds = {
    "exact": config.exact.betas,
    "published": config.published.betas,
    "slow": config.published.slow_betas,
  }
  return {
    f"{kind}_{beta:g}": (kind, float(beta))
    for kind, betas in kinds.items()
    for beta in betas
  }


def _draws(draws: int, beta: float) -> int:
  """Return the number of draws for a beta, fewer if its draws take more steps."""
  if beta <= _LARGEST_IN_FULL:
    return draws
  cost = [each * math.log(each) for each in (_LARGEST_IN_FULL, beta)]
  return max(100, int(draws * cost[0] / cost[1]))


make = studies.maker(Config, _parts, compute, results_lib, figures)
