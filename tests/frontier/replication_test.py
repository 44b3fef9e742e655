"""Tables by seeds: every cell where it belongs, and components that add up."""

import dataclasses

import numpy as np
import pytest

from tests.frontier import made_up
from undo_jax.frontier import replication, variance
from undo_jax.utils.errors import ConfigError

STEPS = (0, 10, 20)
RATES = (1e-3, 1e-2)


def results_of(scores, streams=("noise",)):
  """Return a family with scores [noise, run, attack, R, S]; alpha is swept too."""
  models = {}
  for index in np.ndindex(scores.shape[: len(streams)]):
    runs = []
    for seed, of_run in enumerate(scores[index]):
      first, *more = of_run.tolist()
      under = made_up.relearning(first, steps=STEPS, rates=RATES, more_seeds=more)
      runs.append(made_up.run({"relearn": under}, seed=seed))
    swept = {"noise.alpha": 0.5} | {
      f"streams.{name}": 10 * i for name, i in zip(streams, index, strict=True)
    }
    models[f"undo_{index}"] = made_up.model(runs, family="undo", swept=swept)
  return made_up.results(models)


def drawn(*shape):
  return np.random.default_rng(0).random((*shape, len(RATES), len(STEPS)))


def test_cells_are_at_their_seeds_under_one_attack():
  scores = drawn(3, 2, 4)
  (table,) = replication.tables(results_of(scores), "undo", 10)
  assert table.model == "undo, noise.alpha = 0.5"
  assert table.factors == ("noise", "run", "attack")
  assert table.levels == ((0, 10, 20), (0, 1), (0, 1, 2, 3))
  # The rate that is the worst on the mean; of the steps only 10 is within.
  rate = scores[..., 1].mean(axis=(0, 1, 2)).argmax()
  np.testing.assert_array_equal(table.table, scores[:, :, :, rate, 1])
  assert (table.attack, table.step) == ("relearn", 10)
  assert table.learning_rate == RATES[rate]
  assert replication.components(table) == variance.components(
    table.table, table.factors
  )


def test_factors_of_one_level_are_left_out():
  (table,) = replication.tables(results_of(drawn(2, 1, 3)), "undo", 20)
  assert table.factors == ("noise", "attack") and table.table.shape == (2, 3)
  with pytest.raises(ConfigError, match="a seed with two values or more"):
    replication.tables(results_of(drawn(1, 1, 1)), "undo", 20)


def test_two_streams_that_are_crossed_are_two_factors():
  scores = drawn(2, 3, 2, 1)
  results = results_of(scores, ("noise", "distill_data"))
  (table,) = replication.tables(results, "undo", 20)
  assert table.factors == ("noise", "distill_data", "run")
  assert table.table.shape == (2, 3, 2)
  means = scores[..., 1:].mean(axis=(0, 1, 2, 3))
  rate, step = np.unravel_index(means.argmax(), means.shape)
  np.testing.assert_array_equal(table.table, scores[..., 0, rate, step + 1])


def test_a_model_that_nobody_attacked_is_named():
  with pytest.raises(ConfigError, match="nobody: expected a model that was attacked"):
    replication.tables(results_of(drawn(2, 2, 2)), "nobody", 20)


def test_cells_that_another_attack_is_on_are_compared_under_the_common_one():
  scores = drawn(3, 2, 2)
  results = results_of(scores)
  (table,) = replication.tables(results, "undo", 20)
  # A second attack of one cell alone changes nothing, however strong it is.
  (name, *_) = results.models
  (run, _) = results.models[name].runs
  strong = made_up.relearning(
    [[0.9] * 3], steps=STEPS, rates=(0.5,), more_seeds=[[[0.9] * 3]]
  )
  more = made_up.changed_run(results, name, attacks=run.attacks | {"lora": strong})
  attacks = results.attacks | {"lora": made_up.adversary("LoRA")}
  more = dataclasses.replace(more, attacks=attacks)
  (again,) = replication.tables(more, "undo", 20)
  np.testing.assert_array_equal(again.table, table.table)
  none = made_up.changed_run(results, name, attacks={"lora": strong})
  with pytest.raises(ConfigError, match="an attack that is on all of it"):
    replication.tables(dataclasses.replace(none, attacks=attacks), "undo", 20)


def test_edits_which_draw_nothing_are_no_part_of_a_table():
  results = results_of(drawn(3, 2, 2))
  (table,) = replication.tables(results, "undo", 20)
  edited = made_up.with_edit(results, dict.fromkeys(results.models, (1.0, 1.0, 1.0)))
  (again,) = replication.tables(edited, "undo", 20)
  np.testing.assert_array_equal(again.table, table.table)
  only = dataclasses.replace(edited, report=made_up.report(worst_over=("pruning",)))
  with pytest.raises(ConfigError, match="an attack that is on all of it"):
    replication.tables(only, "undo", 20)
