"""Checks of the config."""

import pytest

from configs.gradient_routing import splitting as config_file
from experiments.gradient_routing.splitting.config import Config
from experiments.gradient_routing.splitting.results import PAPER
from experiments.shared import typed
from undo_jax.utils.types import ConfigError


def test_the_papers_size_has_the_papers_settings():
  config = typed.read(Config, config_file.get_config("paper"))
  assert config.run == tuple(PAPER)


@pytest.mark.parametrize(
  "field, value, message",
  [
    ("seeds", (), "config.seeds: expected at least one integer"),
    ("seeds", (1, 1), "none twice"),
    ("model.latent", 7, "config.model.latent: expected an even number"),
    ("model.hidden", (), "config.model.hidden: expected at least one integer"),
    ("model.hidden", (8, "a"), r"hidden\[1\]: expected a valid integer, got 'a'"),
    ("training.learning_rate", 0.0, "config.training.learning_rate: .* above 0"),
    ("training.batch_size", 0, "config.training.batch_size"),
    ("run", ("routing", "routed"), "config.run: expected some of config.settings"),
    ("settings.routing.masks", ((1.0, 0.0),), r"settings.routing.masks: .*\(2, 2\)"),
    ("settings.routing.seen", (0.0, 0.0), "0 or 1, one of them 1"),
  ],
)
def test_a_wrong_field_is_named(field, value, message):
  config = config_file.get_config("tiny")
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ConfigError, match=message):
    typed.read(Config, config)
