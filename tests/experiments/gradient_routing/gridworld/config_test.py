"""Checks of the config, and what tells its methods apart."""

import dataclasses

import pytest

from configs.gradient_routing import gridworld as config_file
from experiments.gradient_routing.gridworld.config import Config
from experiments.shared import typed
from undo_jax.utils.types import ConfigError


def test_the_gates_relu_is_the_one_thing_that_is_changed():
  methods = typed.read(Config, config_file.get_config()).methods
  plain, changed = methods["routing"], methods["routing_gate_relu"]
  assert changed == dataclasses.replace(plain, gate_relu=True) != plain


@pytest.mark.parametrize(
  "field, value, message",
  [
    ("oversight", (), "config.oversight: expected at least one probability"),
    ("oversight", (0.1, 1.5), r"config.oversight: expected a number in \[0, 1\]"),
    ("model.width", 0, "config.model.width: expected an integer of at least 1"),
    (
      "model.value_widths",
      (0.5,),
      r"value_widths\[0\]: expected a valid integer",
    ),
    ("training.learning_rate", -1.0, "config.training.learning_rate"),
    ("training.discount", 1.5, "config.training.discount"),
    ("run", ("routing", "ppo"), "config.run: expected some of config.methods"),
    ("methods.naive.reward", "seen", "one of reached, overseen, true"),
    ("methods.naive.routed", True, "mixture where routed or gate is set"),
    ("methods.routing.gate", 2.0, "config.methods.routing.gate"),
  ],
)
def test_a_wrong_field_is_named(field, value, message):
  config = config_file.get_config("tiny")
  config.run = ("routing", "naive")
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ConfigError, match=message):
    typed.read(Config, config)


def test_the_papers_size_is_valid():
  typed.read(Config, config_file.get_config("paper"))
