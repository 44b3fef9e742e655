"""Several seeds as one: means against numpy, and what may not be mixed."""

import copy

from matplotlib.image import imread
import numpy as np
import pytest

from undo_jax.frontier import report, seeds
from undo_jax.utils.types import ConfigError

STEPS = [0, 20, 100]
RATES = [1e-4, 1e-3]
NAMES = ("base", "data_filtering", "max_ent", "undo_alpha_0.5")


def run(seed):
  """Returns results with scores drawn for a seed, of an attack at two rates."""
  rng = np.random.default_rng(seed)

  def model():
    forget_RxS = rng.random((2, len(STEPS)))
    worst_S = forget_RxS.argmax(axis=0)
    return {
      "before": {"retain": rng.random(), "forget": rng.random(), "by_task": {}},
      "relearn": {
        "attack": {"kind": "full"},
        "learning_rates": RATES,
        "steps": STEPS,
        "worst_forget": forget_RxS.max(axis=0).tolist(),
        "worst_learning_rate": [RATES[i] for i in worst_S],
        "retain": rng.random(len(STEPS)).tolist(),
        "forget_by_learning_rate": forget_RxS.tolist(),
        "retain_by_learning_rate": rng.random((2, len(STEPS))).tolist(),
        "by_task": {},
      },
      "compute": {
        "updates": int(rng.integers(1000)),
        "tokens": 10,
        "flops": 1.0,
        "fraction_of_data_filtering": rng.random(),
      },
      "labels": {"tokens": {"forget": 5}, "share_of_pretraining": 0.01},
      "stopped": {"reason": "recovered", "updates": 7},
    }

  metric = {"name": "right", "unit": "accuracy", "range": [0, 1]}
  metric["higher_is"] = "more capable"
  return {
    "schema": 1,
    "setting": "arithmetic",
    "seed": seed,
    "budgets": [20, 100],
    "metrics": {"retain": metric, "forget": metric},
    "models": {name: model() for name in NAMES},
  }


RUNS = {f"run{seed}": run(seed) for seed in (3, 1, 2)}


@pytest.fixture(scope="module")
def combined():
  return seeds.combine(RUNS)


def test_scores_are_means_and_every_seed_keeps_its_own(combined):
  assert combined["seeds"] == [1, 2, 3] and "seed" not in combined
  ordered = [RUNS[f"run{seed}"]["models"] for seed in (1, 2, 3)]
  for name, model in combined["models"].items():
    single = [models[name] for models in ordered]
    worst_KxS = [m["relearn"]["worst_forget"] for m in single]
    np.testing.assert_allclose(
      model["relearn"]["worst_forget"], np.mean(worst_KxS, axis=0), rtol=1e-12
    )
    assert model["by_seed"]["worst_forget"] == worst_KxS
    fractions = [m["compute"]["fraction_of_data_filtering"] for m in single]
    assert model["by_seed"]["compute"] == fractions
    got = model["compute"]["fraction_of_data_filtering"]
    assert got == pytest.approx(np.mean(fractions), rel=1e-12)
    rates_KxS = [m["relearn"]["worst_learning_rate"] for m in single]
    assert model["relearn"]["worst_learning_rate"] == list(np.median(rates_KxS, axis=0))


def test_the_report_tells_the_mean_and_the_range(combined, tmp_path):
  paths = report.write(combined, tmp_path)
  text = paths[-1].read_text()
  assert "mean of seeds 1, 2, 3" in text
  scores = [RUNS[f"run{s}"]["models"]["max_ent"]["before"]["retain"] for s in (1, 2, 3)]
  told = f"{np.mean(scores):.3f} ({min(scores):.3f} to {max(scores):.3f})"
  assert told in text and told in report.text_table(combined)
  last = combined["models"]["undo_alpha_0.5"]["by_seed"]["worst_forget"]
  assert f"({min(s[-1] for s in last):.3f} to" in text
  assert imread(paths[0]).shape[1] == 1600


def changed(path, value):
  other = copy.deepcopy(run(9))
  *parents, key = path
  inner = other
  for parent in parents:
    inner = inner[parent]
  inner[key] = value
  return other


@pytest.mark.parametrize(
  ("other", "message"),
  [
    (run(1), "different seeds, got seed 1 in run1 and other"),
    (changed(["setting"], "facts"), "setting is arithmetic in run1 and facts in other"),
    (changed(["budgets"], [20]), r"budgets is \[20, 100\] in run1 and \[20\] in other"),
    (changed(["models"], {}), r"models is \['base', .*\] in run1 and \[\] in other"),
    (
      changed(["models", "rmu"], run(0)["models"]["base"]),
      "models is .*'rmu'\\] in other",
    ),
    (
      changed(["models", "base", "relearn", "learning_rates"], [1e-4]),
      r"models/base/learning_rates is .* and \[0.0001\] in other",
    ),
  ],
)
def test_runs_that_differ_in_more_than_seeds_are_refused(other, message):
  with pytest.raises(ConfigError, match=message):
    seeds.combine({"run1": RUNS["run1"], "other": other})


def test_one_run_is_not_enough():
  with pytest.raises(ConfigError, match="two seeds or more, got 1"):
    seeds.combine({"run1": RUNS["run1"]})
