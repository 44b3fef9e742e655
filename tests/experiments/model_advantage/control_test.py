"""Populations of model-based control: their members, and what they are trained on."""

import jax
import numpy as np

from configs.model_advantage import models as config_file
from experiments.model_advantage import control, figures, models, study
from experiments.model_advantage import results as results_lib
from experiments.model_advantage.config import Config
from experiments.model_advantage.environments import ENVIRONMENTS
from experiments.shared import typed

CONFIG = typed.read(Config, config_file.get_config("tiny"))
SIZES, WORLD = CONFIG.control, ENVIRONMENTS["pendulum"]


def test_a_member_of_a_population_is_the_same_seed_alone():
  part = study.control("pendulum", CONFIG)
  assert part["real_steps"] == [10, 20]
  names = ("returned", "squared_error", "value_error")
  together = {name: part[name] for name in names}
  for of_method in together.values():
    shape = (len(control.METHODS), SIZES.seeds, SIZES.stages)
    assert np.shape(list(of_method.values())) == shape
  method = "L1, values refitted"
  alone = control.run(SIZES, WORLD, [control.METHODS[method]], [[CONFIG.seed, 1]])
  for name, one in zip(names, alone, strict=True):
    got = together[name][method][1]
    np.testing.assert_allclose(got, one[:, 0, 0], rtol=2e-4, atol=1e-6)
  assert np.ptp(together["returned"][method], axis=0).min() > 1e-3  # Seeds differ.
  assert not np.any(together["squared_error"]["the environment itself"])
  assert np.all(together["squared_error"][method])
  assert figures.returns(part)["title"] == "pendulum"
  table = results_lib.control_table(part)
  assert table.count("\n") == 1 + len(control.METHODS) and "±" in table


def test_pairs_of_steps_are_those_of_episodes_so_far():
  member = control.init(SIZES, WORLD, jax.random.key(0))
  episodes, steps = member.actions_ExH.shape
  actions = np.arange(episodes * steps, dtype=np.float32).reshape(episodes, steps)
  observations = np.broadcast_to(
    np.arange(episodes * (steps + 1)).reshape(episodes, steps + 1, 1),
    member.observations_ExHxS.shape,
  )
  member = member._replace(observations_ExHxS=observations, actions_ExH=actions)
  learner = control._Learner(
    SIZES, WORLD, control.Method(), models.Scaling(*[None] * 4)
  )
  draws = np.random.default_rng(0).random((2, 500), dtype=np.float32)
  draws[:, 0] = np.nextafter(np.float32(1), np.float32(0))
  got = learner.seen(member, np.int32(2), draws)
  at = np.asarray(got.here)[:, 0].astype(int)
  np.testing.assert_array_equal(got.after[:, 0], at + 1)
  np.testing.assert_array_equal(got.later[:, 0], at + 2)
  episode, time = np.divmod(at, steps + 1)
  assert set(episode) == {0, 1} and set(time) == set(range(steps - 1))
  np.testing.assert_array_equal(got.action, actions[episode, time])
  np.testing.assert_array_equal(got.next_action, actions[episode, time + 1])
