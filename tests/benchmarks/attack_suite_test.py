"""The benchmark of suites at toy size: equal scores, and programs compiled once."""

import pytest

from benchmarks import attack_setting, attack_suite
from tests import minimal
from undo_jax import testing


def test_a_suite_is_measured_against_its_parts(monkeypatch):
  monkeypatch.setattr(attack_setting, "NUM_EVALUATION", 2)
  monkeypatch.setattr(attack_setting, "EVALUATE_EVERY", 1)
  monkeypatch.setattr(attack_setting, "BATCH_SIZE", 2)
  monkeypatch.setattr(attack_suite, "RATES", (1e-3,))
  model = testing.config(num_layers=1, vocab_size=32)
  with minimal.one_device():
    setting = attack_setting.Setting(1, model)
  how = attack_suite.attacks(
    setting,
    {"relearn": attack_suite.RELEARNING["relearn"]},
    {"quantization": (8,), "direction_ablation": (0,)},
  )
  attacked = attack_suite.models(setting, 2)
  suite = attack_suite.compare_suite(setting, attacked, how)
  assert [len(own) for own in suite["parts"].values()] == [2, 2, 2]
  assert not any(suite["compiled_again"].values())
  assert all(suite["compiled_by_a_part"].values())
  # What parts share, as the plain evaluation, the suite compiles once.
  assert suite["compiled_by_suite"] <= sum(suite["compiled_by_a_part"].values())
  free = attack_suite.compare_training_free(setting, attacked[0], how)
  table = attack_suite.rows(suite, free)
  assert [row[0] for row in table] == [
    "suite, its parts",
    "no training, relearning: with compilation",
    "no training, relearning: without",
  ]
  assert table[0][-1] == "yes"
  for _, one, other, ratio, _ in table:
    if float(other) >= 0.1:
      expected = float(one) / float(other)
      assert float(ratio) == pytest.approx(expected, rel=0.1, abs=0.05)
