"""Checks of the config."""

import pytest

from configs.gradient_routing import tug_of_war as config_file
from experiments.gradient_routing.tug_of_war import study
from experiments.shared import running
from undo_jax.utils.types import ConfigError


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("two_tasks.rows", 0, "config.two_tasks.rows: expected an integer"),
    (
      "two_parameters.coherence",
      (0.2, "a"),
      r"coherence\[1\]: .* valid number",
    ),
    ("two_parameters.coherence", (-1.0,), "coherence: expected weights >= 0"),
  ],
)
def test_a_wrong_config_is_refused(tmp_path, field, value, message):
  config = config_file.get_config("tiny")
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ConfigError, match=message):
    running.run(study.make, config, tmp_path)
  assert not list(tmp_path.iterdir())
