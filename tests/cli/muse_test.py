"""The command on a small checkpoint: scores, a reference, JSON; wrong requests."""

import json

import pytest

from tests import muse_files
from undo_jax import testing
from undo_jax.cli import muse
from undo_jax.models import huggingface
from undo_jax.utils.types import ConfigError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  """A directory with the benchmark's files and two checkpoints."""
  path = tmp_path_factory.mktemp("muse")
  muse_files.write(path / "files")
  config = testing.config(vocab_size=264)
  for seed, name in enumerate(("model", "reference")):
    huggingface.save(path / name, config, testing.weights(config, seed=seed))
  return path


def request(root, **changes):
  named = {"checkpoint": str(root / "model"), "tokenizer": "bytes"} | changes
  return muse.Request(**{"directory": str(root / "files"), **named})


def test_a_checkpoint_is_measured_beside_a_reference(root, tmp_path, capsys):
  output = tmp_path / "results.json"
  other = {"retain_checkpoint": str(root / "reference"), "groups": ("privacy",)}
  muse.measure(request(root, limit=3, output=str(output), **other))
  privacy = json.loads(output.read_text())["scores"]["privacy"]
  assert privacy["rows"] == {"forget": 3, "holdout": 3}
  for name, auc in privacy["auc"].items():
    before = privacy["reference_auc"][name]
    assert privacy["leakage"][name] == pytest.approx(100 * (auc - before) / before)
  assert "leakage, min k plus plus" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"groups": ("privacy", "piracy")},
      "--groups: expected some of verbatim, .*piracy",
    ),
    ({"groups": ()}, "--groups: expected some of .*got none"),
    ({"directory": "no/where"}, "expected a file verbmem/forget with one of"),
    (
      {"tokenizer": None},
      "--tokenizer: expected a name, since .* has no tokenizer.json",
    ),
    ({"checkpoint": "no/where"}, "--checkpoint must be a directory"),
  ],
)
def test_wrong_requests_are_one_line(root, changes, message):
  with pytest.raises(ConfigError, match=message) as error:
    muse.measure(request(root, **changes))
  assert "\n" not in str(error.value)
