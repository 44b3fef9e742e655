"""Inversion and sampling on a mixture whose noise prediction is exact, in float64."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.direct_inversion import inversion, schedule
from experiments.direct_inversion.inversion import Hyperparameters
from tests.experiments.direct_inversion import mixture
from undo_jax.utils.errors import ConfigError

BARS = schedule.alpha_bars()
PAPER = Hyperparameters(
  num_inference_steps=20,
  inversion_steps=20,
  guidance_scale=3.0,
  noise_merge_lambda=0.5,
  direct_injection=True,
  stochastic_injection=True,
  num_stochastic_injection_steps=20,
  stochastic_injection_exp_method=True,
  inversion_prompt="",
  eta=0.0,
)
POINTS = mixture.draw(np.random.default_rng(0), 40, modes=(0,))
KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def inverted(steps):
  predict = mixture.predictor(BARS)
  return inversion.invert(predict, jnp.asarray(POINTS), BARS, steps)


def to_second_mode(scale):
  """The prompt stands for one mode, the empty one for all of them."""
  return inversion.guided(mixture.predictor(BARS, (1,)), mixture.predictor(BARS), scale)


@functools.cache
def program(changes):
  """Return the compiled edit of 20 steps, (guidance, lambda) -> points."""
  chosen = dataclasses.replace(PAPER, **dict(changes))
  return jax.jit(
    lambda scale, merge: inversion.edit(
      inverted(20), to_second_mode(scale), BARS, chosen, KEY, merge
    )
  )


def edited(*, scale=3.0, merge=0.5, **changes):
  return np.asarray(program(tuple(changes.items()))(scale, merge))


def distance(points):
  return float(np.sqrt(np.mean((points - POINTS) ** 2)))


def numpy_edit(steps, scale, merge, shifted, only_first=None):
  """The published procedure, step by step."""
  k, x, noises = 1000 // steps, POINTS, []
  for time in range(0, 1000, k):
    noises.append(mixture.predict(x, BARS[time]))
    after = BARS[time] if time + k >= 999 else BARS[time + k]
    clean = (x - np.sqrt(1 - BARS[time]) * noises[-1]) / np.sqrt(BARS[time])
    x = np.sqrt(after) * clean + np.sqrt(1 - after) * noises[-1]
  latents = x
  for index, time in enumerate(range(1000 - k, -1, -k)):
    empty = mixture.predict(x, BARS[time])
    noise = empty + scale * (mixture.predict(x, BARS[time], (1,)) - empty)
    recorded = noises[max(steps - index - 2, 0) if shifted else steps - index - 1]
    if only_first is None or index < only_first:
      noise = noise + merge * (recorded - noise)
    after = BARS[max(time - k, 0)]
    clean = (x - np.sqrt(1 - BARS[time]) * noise) / np.sqrt(BARS[time])
    x = np.sqrt(after) * clean + np.sqrt(1 - after) * noise
  return latents, noises, x


@pytest.mark.parametrize("shifted", [False, True])
def test_an_edit_is_the_published_procedure(shifted):
  latents, noises, x = numpy_edit(20, 3.0, 0.5, shifted, only_first=15)
  got = inverted(20)
  np.testing.assert_allclose(got.latents_BxP, latents, rtol=1e-9)
  np.testing.assert_allclose(got.noises_SxBxP, noises, rtol=1e-9, atol=1e-12)
  made = edited(shifted_noises=shifted, num_stochastic_injection_steps=15)
  np.testing.assert_allclose(made, x, rtol=1e-9, atol=1e-12)


def test_shifted_noises_go_back_exactly_whatever_prompt_and_guidance():
  for scale in (1.0, 7.5):
    exact = edited(scale=scale, merge=1.0, shifted_noises=True)
    assert distance(exact) < 1e-12
    assert distance(edited(scale=scale, merge=1.0)) > 1e-2


def test_the_error_of_going_back_falls_as_one_over_the_steps():
  steps, predict = (100, 200, 500, 1000), mixture.predictor(BARS)
  errors = []
  for n in steps:
    back = jax.jit(lambda z, n=n: inversion.sample(predict, z, BARS, n))
    errors.append(distance(back(inverted(n).latents_BxP)))
  slopes = np.diff(np.log(errors)) / np.diff(np.log(steps))
  assert np.all(np.abs(slopes + 1) < 0.1), slopes


def test_inversion_of_a_gaussian_tends_to_its_closed_form():
  """The flow keeps (x - sqrt(abar) mean) over the standard deviation at its time."""
  spread, mean = 0.5, 0.7
  bars = jnp.asarray(BARS)

  def predict(x, time):
    bar = bars[time]
    variance = bar * spread**2 + 1 - bar
    return jnp.sqrt(1 - bar) * (x - jnp.sqrt(bar) * mean) / variance

  x = jnp.linspace(-1, 2, 7)[:, None]
  got = inversion.invert(predict, x, BARS, 1000).latents_BxP

  def standard(x, bar):
    return (x - np.sqrt(bar) * mean) / np.sqrt(bar * spread**2 + 1 - bar)

  np.testing.assert_allclose(
    standard(got, BARS[999]), standard(x, BARS[0]), atol=0.02, rtol=0.02
  )


def test_an_edit_goes_to_the_prompt_and_less_so_with_lambda():
  far = [
    distance(edited(scale=1.0, merge=merge)) for merge in (0.0, 0.25, 0.5, 0.75, 1.0)
  ]
  assert np.all(np.diff(far) < 0)
  guided = edited(merge=0.75)
  # Guidance keeps them on the prompt for longer.
  assert distance(guided) > 1.5 * far[3]
  to_mode = np.linalg.norm(edited(merge=0.0) - mixture.MEANS[1], axis=-1)
  assert np.median(to_mode) < 3 * mixture.SPREAD


def test_lambda_is_the_hyperparameters_unless_it_is_given():
  chosen = dataclasses.replace(PAPER, noise_merge_lambda=0.25)
  edit = jax.jit(
    lambda: inversion.edit(inverted(20), to_second_mode(3.0), BARS, chosen, KEY)
  )
  np.testing.assert_allclose(edit(), edited(merge=0.25), rtol=1e-9)


def test_what_is_not_injected_does_not_count():
  none = edited(stochastic_injection=False)
  np.testing.assert_array_equal(none, edited(num_stochastic_injection_steps=0))
  np.testing.assert_allclose(none, edited(merge=0.0), rtol=1e-12)
  fresh = edited(direct_injection=False, stochastic_injection=False)
  assert np.abs(fresh - none).max() > 0.1
  # A guidance of 1 or less is none.
  np.testing.assert_array_equal(edited(scale=0.2), edited(scale=1.0))


def test_without_the_experimental_method_all_steps_share_the_latents():
  made = edited(stochastic_injection_exp_method=False, merge=1.0)
  latents = np.asarray(inverted(20).latents_BxP)
  x = latents  # Every noise is the latents: the product of the moves is linear in them.
  bars = BARS[schedule.times(20)[::-1]]
  for now, after in zip(bars, [*bars[1:], bars[-1]], strict=True):
    clean = (x - np.sqrt(1 - now) * latents) / np.sqrt(now)
    x = np.sqrt(after) * clean + np.sqrt(1 - after) * latents
  np.testing.assert_allclose(made, x, rtol=1e-9)


def test_fresh_noise_of_ddpm_keeps_the_law_of_a_gaussian():
  spread = 0.5
  bars = jnp.asarray(BARS)

  def predict(x, time):
    return jnp.sqrt(1 - bars[time]) * x / (bars[time] * spread**2 + 1 - bars[time])

  latents = jax.random.normal(jax.random.key(1), (4000, 1))
  made = inversion.sample(predict, latents, BARS, 250, eta=1.0, key=KEY)
  # abar_0 = .99915 is where sampling ends; the standard error is 1.1 %.
  assert np.std(made) == pytest.approx(spread, rel=0.04)
  correlation = np.corrcoef(made[:, 0], latents[:, 0])[0, 1]
  assert abs(correlation) < 0.1  # What it began with is forgotten.


@pytest.mark.parametrize(
  "changes, message",
  [
    (
      {"inversion_steps": 30},
      "edit.inversion_steps: expected a divisor of 1000",
    ),
    ({"noise_merge_lambda": 1.5}, r"noise_merge_lambda: expected a number in \[0, 1\]"),
    ({"inversion_steps": 10}, "expected edit.inversion_steps=10, as stochastic_inj"),
    ({"guidance_scale": -1.0}, "guidance_scale: expected a number of at least 0"),
    ({"eta": 2}, "config.edit.eta: expected"),
  ],
)
def test_hyperparameters_out_of_range_are_refused(changes, message):
  with pytest.raises(ConfigError, match=message):
    dataclasses.replace(PAPER, **changes)
