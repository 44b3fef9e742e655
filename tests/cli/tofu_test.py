"""The command on a small checkpoint: a table, answers, JSON; wrong requests."""

import json

import jax
import pytest

from tests import minimal, tofu_files
from undo_jax import testing
from undo_jax.cli import tofu
from undo_jax.models import huggingface
from undo_jax.models.decoder import Decoder
from undo_jax.tasks import tofu as tasks
from undo_jax.utils.types import ConfigError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  """A directory with the benchmark's files and two checkpoints."""
  path = tmp_path_factory.mktemp("tofu")
  tofu_files.write(path / "files")
  config = testing.config(vocab_size=264)
  init = jax.jit(Decoder(config).init)
  for seed, name in enumerate(("model", "reference")):
    huggingface.save(path / name, config, init(jax.random.key(seed)))
  return path


def config_of(root):
  config = minimal.config()
  config.task, config.data = "tofu", tofu_files.data(root / "files")
  return config


def measure(root, **request):
  request = {"max_new_tokens": 3, "limit": 4} | request
  tofu.measure(config_of(root), tofu.Request(str(root / "model"), **request))


def test_a_checkpoint_is_measured(root, tmp_path, capsys):
  output = tmp_path / "results.json"
  measure(root, retain_checkpoint=str(root / "reference"), output=str(output))
  printed = capsys.readouterr().out
  table = json.loads(output.read_text())
  assert 0 <= table["forget_quality"] <= 1
  counts = {name: own["questions"] for name, own in table["sets"].items()}
  assert counts == dict(forget=4, retain=4, real_authors=4, world_facts=3)
  for own in table["sets"].values():
    assert 0 < own["probability"] < 1 and 0 <= own["rouge_l_recall"] <= 1
    assert len(own["generations"]) == own["questions"]
  texts = [said["question"] for said in table["sets"]["forget"]["generations"]]
  assert texts == ["F0 0?", "F0 10?", "F1 0?", "F1 10?"]
  assert "forget quality" in printed and printed.count("  said:") == 8
  assert table["request"]["formulas"] == "paper"


def test_questions_that_an_attack_reads_can_be_left_out(root, monkeypatch):
  read = {}

  def measure_none(subject, name, questions, **how):
    read[name] = questions
    raise ConfigError("enough")

  monkeypatch.setattr(tofu.Subject, "measure", measure_none)
  with pytest.raises(ConfigError, match="enough"):
    measure(root, forget="scored", limit=None)
  expected = tasks.questions_of(config_of(root).data)
  assert read == {"forget": expected["forget"]} and len(read["forget"]) == 24


@pytest.mark.parametrize(
  "request_, message",
  [
    ({"retain_checkpoint": "no/where"}, "--checkpoint must be a directory"),
    ({"learning_rate": 0.1}, "--learning_rate chooses a member of an attack"),
  ],
)
def test_wrong_requests_are_one_line(root, request_, message, monkeypatch):
  monkeypatch.setattr(tofu.Subject, "measure", lambda *args, **kwargs: None)
  with pytest.raises(ConfigError, match=message):
    measure(root, **request_)


def test_a_config_of_another_task_is_refused(root):
  request = tofu.Request(str(root / "model"))
  with pytest.raises(ConfigError, match="config.task: expected 'tofu', got 'arithmeti"):
    tofu.measure(minimal.config(), request)
