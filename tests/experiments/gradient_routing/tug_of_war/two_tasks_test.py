"""The two tasks: which way to train localizes, and which pulls apart."""

import dataclasses

import jax
import numpy as np
import pytest

from configs.gradient_routing import tug_of_war as config_file
from experiments.gradient_routing.tug_of_war import two_tasks
from experiments.gradient_routing.tug_of_war.config import Config
from experiments.gradient_routing.tug_of_war.two_tasks import VARIANCE
from experiments.shared import typed

TESTED = (
  "no_routing",
  "hard_split",
  "parameters",
  "activations_0_coherent",
  "activations_ascent_coherent",
  "parameters_coherent",
  "sgtm",
)


def test_the_variances_are_those_of_the_targets():
  _, targets = two_tasks.draw_batch(jax.random.key(0), 200_000)
  expected = (VARIANCE["forget"], VARIANCE["retain"])
  np.testing.assert_allclose(np.var(np.asarray(targets), axis=1), expected, atol=0.02)


# Thousands of small updates: as users run them, compiled well.
pytestmark = pytest.mark.optimized


@pytest.fixture(scope="module")
def errors():
  """Return {way: [seeds, 4]}: forget and retain error before and after ablation.

  At half the specified steps.
  """
  config = typed.read(Config, config_file.get_config()).two_tasks
  config = dataclasses.replace(config, num_steps=2000)
  ways = [config.ways[name] for name in TESTED]
  trained = np.asarray(two_tasks.train(config, [0], ways))
  return {way: trained[:, i].reshape(-1, 4) for i, way in enumerate(TESTED)}


def test_without_routing_both_tasks_are_learned_and_ablation_does_not_tell_them_apart(
  errors,
):
  before, after = errors["no_routing"][:, :2], errors["no_routing"][:, 2:]
  assert np.all(before < 0.05)
  assert np.all(after[:, 1] > 0.1)  # Retain suffers from ablation.


@pytest.mark.parametrize("way", ["hard_split", "parameters"])
def test_masks_on_parameters_alone_diverge(errors, way):
  """T31: the two sides pull apart, and the ablated model is far from both tasks."""
  assert np.all(errors[way][:, 2:] > 100 * max(VARIANCE.values()))


@pytest.mark.parametrize("way", ["parameters_coherent", "sgtm"])
def test_coherence_and_sgtm_localize(errors, way):
  """T31, T32: after ablation forget is worse than a constant, retain is intact."""
  forget_before, retain_before, forget, retain = errors[way].T
  assert np.all(forget_before < 0.05)
  assert np.all(forget > 2 * VARIANCE["forget"]) and np.all(retain < 0.05)
  # SGTM never runs retain data with all units on.
  assert np.all((retain_before > 1.0) == (way == "sgtm"))


@pytest.mark.parametrize(
  "way", ["activations_0_coherent", "activations_ascent_coherent"]
)
def test_masks_on_activations_localize_with_coherence(errors, way):
  """T32, at half the specified steps: the retain error is not yet as low."""
  forget_before, _, forget, retain = errors[way].T
  assert np.all(forget_before < 0.05)
  assert np.all(forget > 1.8 * VARIANCE["forget"]) and np.all(retain < 0.1)
