"""Checks of the config."""

import pytest

from configs.gradient_routing import stories as config_file
from experiments.gradient_routing.stories import batches, study
from experiments.gradient_routing.stories.config import Config
from experiments.shared import running, typed
from undo_jax.utils.types import ConfigError


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("seeds", (), "config.seeds: expected at least one integer"),
    ("data.num_forget", 0, "config.data.num_forget: expected an integer"),
    ("data.held_out_fraction", 1.5, "config.data.held_out_fraction: expected a number"),
    ("data.paths", ("a.txt",), "config.data.forget_words: expected the topic's words"),
    ("train.forget_rows", 0, "config.train.forget_rows"),
    ("train.warmup_steps", 99, "warmup_steps: expected at most"),
    ("model.vocab_size", 99, "config.model.vocab_size: expected at least 276"),
    ("methods", ("era",), "config.methods: expected 'filtering' and others of"),
    ("labelled", (0.5,), "config.labelled: expected fractions, the first of them 0"),
    ("labelled", (0.0, 2.0), r"config.labelled: expected a number in \[0, 1\]"),
    ("retrain.num_steps", 5, "config.retrain.num_steps: expected a multiple"),
    ("retrain.num_stories", (), "config.retrain.num_stories: .* at least one integer"),
    (
      "retrain.num_stories",
      (2.5,),
      r"num_stories\[0\]: expected a valid integer",
    ),
    ("retrain.learning_rates", ("a",), r"learning_rates\[0\]: expected a valid number"),
    ("routing.l1_weight", -1.0, "config.routing.l1_weight: .* of at least 0, got -1"),
    ("retrain.num_stories", (99,), "config.data.num_held_out: .* at least 115"),
    ("rmu.num_steps", 99, "config.rmu.num_steps: expected at most 12"),
    ("routing.layers", (2,), r"config.routing.layers: expected layers in \[0, 2\)"),
    ("routing.mlp_units", 0, "not both 0, got 0 and 0"),
    ("sgtm.kv_heads", -1, "needs mlp_units >= 0 and kv_heads >= 0"),
  ],
)
def test_a_wrong_field_is_named_before_compute(tmp_path, field, value, message):
  config = config_file.get_config("tiny")
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ConfigError, match=message):
    running.run(study.make, config, tmp_path)
  assert not list(tmp_path.iterdir())


def test_files_that_are_missing_are_named():
  config = config_file.get_config("tiny")
  config.data.update(paths=("missing/*.txt",), forget_words=("tree",))
  with pytest.raises(ConfigError, match=r"data.paths: .*none matches 'missing/\*.txt'"):
    typed.read(Config, config)


def test_the_papers_size_is_valid(tmp_path):
  (tmp_path / "a.txt").write_text("A tree.")
  config = config_file.get_config("paper")
  config.data.update(paths=(str(tmp_path / "a.txt"),), tokenizer="bytes")
  config.lock()
  config = typed.read(Config, config)
  with pytest.raises(ConfigError, match="expected 80000 distinct forget stories"):
    batches.load(config.data, config.train, 0)
