"""The dataset of the arithmetic task: what it holds, whole or not at all."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from undo_jax.data import arithmetic, arithmetic_dataset
from undo_jax.utils.types import ConfigError

FIELDS = {
  "seed": 7,
  "evaluation_seed": 8,
  "num_equations": 40,
  "num_word_problems": 30,
  "num_evaluation": 12,
  "attacked_share": 0.5,
  "validation_share": 0.2,
}


class TestConfig:
  def test_name_tells_configurations_apart(self):
    names = {arithmetic_dataset.ArithmeticConfig(**FIELDS).name}
    for field, value in FIELDS.items():
      other = 99 if isinstance(value, int) else 0.1
      names.add(arithmetic_dataset.ArithmeticConfig(**(FIELDS | {field: other})).name)
    assert len(names) == 8

  @pytest.mark.parametrize(
    "changes",
    [
      {"seed": -1},
      {"evaluation_seed": -1},
      {"num_equations": -1},
      {"num_word_problems": -1},
      {"num_evaluation": -1},
      {"num_evaluation": 0.5},
      {"num_equations": 0, "num_word_problems": 0},
      {"attacked_share": 0.9},
    ],
  )
  def test_wrong_fields(self, changes):
    with pytest.raises(ConfigError, match=rf"\b{next(iter(changes))}\b"):
      arithmetic_dataset.ArithmeticConfig(**(FIELDS | changes))


class TestDataset:
  def test_round_trip(self, tmp_path):
    builder = arithmetic_dataset.build(tmp_path, **FIELDS)
    train = {"num_equations": 40, "num_word_problems": 30, "split": "train"}
    for split, operations in (
      ("retain_train", arithmetic.RETAIN),
      ("forget_train", arithmetic.FORGET),
    ):
      expected = list(arithmetic.problems(7, operations=operations, **train))
      assert arithmetic_dataset.read(builder, split) == expected
      assert len(expected) == 70
    attacked = arithmetic.Division(attacked=0.5, validation=0.2)
    for part, tasks in (("attacked", 4), ("validation", 8), ("test", 8)):
      evaluation = arithmetic_dataset.read(builder, part)
      assert evaluation == arithmetic.evaluation_problems(
        8, num_per_task=12, kinds=arithmetic.KINDS, division=attacked, part=part
      )
      assert len(evaluation) == 12 * tasks
    expected = arithmetic.problems(
      7, operations=arithmetic.FORGET, attacked=attacked, **train
    )
    assert arithmetic_dataset.read(builder, "attack_train") == list(expected)
    assert builder.info.file_format.value == "array_record"
    assert "tensorflow" not in sys.modules

  def test_finished_dataset_is_left_alone(self, tmp_path, monkeypatch):
    first = arithmetic_dataset.build(tmp_path, **FIELDS)
    expected = arithmetic_dataset.read(first, "test")

    def refuse(*_, **__):
      raise AssertionError("The dataset was built again.")

    monkeypatch.setattr(arithmetic, "problems", refuse)
    again = arithmetic_dataset.build(tmp_path, **FIELDS)
    assert arithmetic_dataset.read(again, "test") == expected

  def test_no_evaluation(self, tmp_path):
    builder = arithmetic_dataset.build(tmp_path, **(FIELDS | {"num_evaluation": 0}))
    trained = {f"{name}_train" for name in ("retain", "forget", "attack")}
    assert set(builder.info.splits) == trained
    with pytest.raises(ConfigError, match="split must be among"):
      arithmetic_dataset.read(builder, "test")

  @pytest.mark.processes
  def test_a_killed_build_does_not_break_the_next(self, tmp_path):
    program = f"""
import os, signal
from undo_jax.data import arithmetic, arithmetic_dataset

def killed(*_, **__):
  yield arithmetic.Problem("1 + 1 = ", "2", "", "addition", "equation", "sum 1 1")
  os.kill(os.getpid(), signal.SIGKILL)

arithmetic.problems = killed
arithmetic_dataset.build({str(tmp_path)!r}, **{FIELDS!r})
"""
    root = pathlib.Path(arithmetic.__file__).parents[2]
    ended = subprocess.run(
      [sys.executable, "-c", program],
      env=os.environ | {"PYTHONPATH": str(root)},
      capture_output=True,
      check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    leftovers = list(tmp_path.rglob("incomplete*"))
    assert leftovers  # Otherwise the kill came too early to test anything.
    assert not list(tmp_path.rglob("dataset_info.json"))
    builder = arithmetic_dataset.build(tmp_path, **FIELDS)
    assert len(arithmetic_dataset.read(builder, "retain_train")) == 70
