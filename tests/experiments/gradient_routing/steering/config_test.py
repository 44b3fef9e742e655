"""Checks of the config."""

import pytest

from configs.gradient_routing import steering as config_file
from experiments.gradient_routing.steering import study
from experiments.shared import running
from undo_jax.utils.types import ConfigError


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("routing.word", "xyz", "config.routing.word: expected a word that"),
    ("routing.layers", (9,), "config.routing.layers: expected layers in"),
    ("routing.dimension", 16, "config.routing.dimension: expected an index below 16"),
    ("steering.layer", 2, "config.steering.layer: expected a layer below 2"),
    ("steering.strengths", (5.0,), "config.steering.strengths: .* one of them 0"),
    ("steering.strengths", (0.0, "a"), r"strengths\[1\]: expected a valid n"),
    ("model.mlp_bias", False, "config.model.mlp_bias: expected True"),
  ],
)
def test_a_wrong_field_is_named_before_compute(tmp_path, field, value, message):
  config = config_file.get_config("tiny")
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ConfigError, match=message):
    running.run(study.make, config, tmp_path)
  assert not list(tmp_path.iterdir())
