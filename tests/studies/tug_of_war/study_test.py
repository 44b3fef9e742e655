"""What routing does in training: the tug of war, and a toy of two tasks."""

import json

import jax
import numpy as np
import pytest

from configs import routing_tug_of_war
from experiments.routing_tug_of_war import run
from undo_jax.studies.tug_of_war import study
from undo_jax.studies.tug_of_war.study import VARIANCE
from undo_jax.utils.types import ConfigError

RATE = 0.01
TESTED = (
  "no_routing",
  "hard_split",
  "parameters",
  "activations_0_coherent",
  "activations_ascent_coherent",
  "parameters_coherent",
  "sgtm",
)


def test_without_coherence_the_two_pull_apart_forever():
  """T30: at sum s = 5/3 both losses pull, by 2(s - 2) and 2(s - 1) + 2(s - 2)."""
  theta = np.asarray(study.two_parameters(0.0, 3000, RATE))
  np.testing.assert_allclose(theta[-1000:].sum(1), 5 / 3, atol=1e-4)
  drift = (theta[-1] - theta[-1001]) / 1000
  np.testing.assert_allclose(drift, [2 / 3 * RATE, -2 / 3 * RATE], rtol=1e-3)


def test_with_coherence_they_come_to_rest():
  """T30: 2 s = 3 and (s - 2) + 0.2 (theta_0 - 2) = 0 give s = 1.5, theta_0 = 4.5."""
  end = np.asarray(study.two_parameters(0.2, 20_000, RATE))[-1]
  np.testing.assert_allclose(end, [4.5, -3.0], atol=1e-3)


def test_the_variances_are_those_of_the_targets():
  _, targets = study.draw_batch(jax.random.key(0), 200_000)
  expected = (VARIANCE["forget"], VARIANCE["retain"])
  np.testing.assert_allclose(np.var(np.asarray(targets), axis=1), expected, atol=0.02)


# ---- The two tasks, at half the specified steps.


@pytest.fixture(scope="module")
def errors():
  """Returns {way: [seeds, 4]}: forget and retain error before and after ablation."""
  config = routing_tug_of_war.get_config()
  config.two_tasks.num_steps = 2000
  ways = {
    name: study.Way(**way)
    for name, way in config.two_tasks.ways.items()
    if name in TESTED
  }
  found = np.asarray(study.two_tasks(config.two_tasks, [0], list(ways.values())))
  return {way: found[:, i].reshape(-1, 4) for i, way in enumerate(ways)}


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


def test_tiny_ends_in_results_and_figures_and_resumes(tmp_path):
  config = routing_tug_of_war.get_config("tiny")
  run(config, tmp_path)
  results = json.loads((tmp_path / "results.json").read_text())
  assert results["two_parameters"]["0"]["steps"] == [10, 20, 30, 40]
  assert set(results["two_tasks"]) == set(config.two_tasks.ways)
  for name in ("two_parameters", "two_tasks"):
    assert (tmp_path / f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")
  before = (tmp_path / "parts/seed_0.json").stat().st_mtime_ns
  run(config, tmp_path)
  assert (tmp_path / "parts/seed_0.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("two_tasks.rows", 0, "config.two_tasks.rows: expected an integer"),
    ("two_parameters.coherence", (0.2, "a"), "coherence: expected at least one number"),
    ("two_parameters.coherence", (-1.0,), "coherence: expected weights >= 0"),
  ],
)
def test_a_wrong_config_is_refused(tmp_path, field, value, message):
  config = routing_tug_of_war.get_config("tiny")
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ConfigError, match=message):
    run(config, tmp_path)
  assert not list(tmp_path.iterdir())
