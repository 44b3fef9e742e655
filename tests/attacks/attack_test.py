"""Adversaries, ours and those of someone else, as records of the registry."""

import sys

import jax
import numpy as np
import pytest

from tests.attacks.tiny import KEY, LORA, MODEL, draw_params, equal
from undo_jax import attacks, testing
from undo_jax.utils.types import ConfigError


def test_ours_are_known_by_name():
  assert list(attacks.REGISTRY) == [
    *("finetuning", "lora", "logit_calibration", "soft_prompt", "push", "probe"),
  ]


@pytest.mark.parametrize(
  ("adversary", "options", "message"),
  [
    ("finetuning", LORA, "options: expected none"),
    ("lora", LORA | {"rank": 0}, "options.rank: .* at least 1, got 0"),
    ("lora", LORA | {"rank": 17}, r"options: expected adapters .*rank must lie in"),
    ("lora", LORA | {"alpha": 0.0}, "options.alpha: .* above 0, got 0.0"),
    ("lora", LORA | {"targets": []}, "options: expected adapters .*at least one path"),
    ("lora", LORA | {"targets": ["head/kernel"]}, "options: .* matches no parameter"),
    ("lora", LORA | {"dropout": 0.1}, "options.dropout: there is no such field"),
    ("lora", {"rank": 2, "alpha": 4.0}, "options.targets: expected a value, got none"),
    ("logit_calibration", {"tokens": 1}, "options: expected none"),
    ("soft_prompt", {"tokens": 0}, "options.tokens: .* at least 1, got 0"),
    ("soft_prompt", {}, "options.tokens: expected a value, got none"),
    (
      "push",
      {"layer": 1, "radius": 0.5},
      r"layer: expected None or .* \[0, 1\), got 1",
    ),
    ("probe", {"layer": -1}, r"options.layer: expected a layer in \[0, 1\), got -1"),
    ("push", {"layer": None, "radius": 0.0}, "options.radius: .* above 0, got 0.0"),
    ("push", {"layer": 0, "radius": 1.0, "norm": "l1"}, "options.norm: expected 'l2' "),
  ],
)
def test_options_that_do_not_fit_the_model_are_errors(adversary, options, message):
  with pytest.raises(ConfigError, match=message) as error:
    attacks.REGISTRY.get(adversary).check(MODEL, options)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("adversary", "options", "subject"),
  [
    ("finetuning", {}, "all weights"),
    ("lora", LORA, "low-rank adapters (LoRA, rank 2)"),
    ("soft_prompt", {"tokens": 3}, "3 embeddings before every row"),
    (
      *("push", {"layer": 0, "radius": 0.5}),
      "pushes on the output of layer 0 of every token (within an l2 norm of 0.5 "
      "embeddings)",
    ),
  ],
)
def test_what_is_trained_is_told(adversary, options, subject):
  attack = attacks.REGISTRY.get(adversary)
  attack.check(MODEL, options)
  assert attack.describe(options) == subject
  assert (attack.adapters is None) == (adversary != "lora")


THEIRS = """
import jax.numpy as jnp

from undo_jax.attacks.attack import Attack, Members


def members(model, options, objective):
  assert options == {"of": "embedding"}
  return Members(
    start=lambda params, key: {"shift": jnp.zeros_like(params["embedding"])},
    objective=lambda shift, frozen, batch, key: objective(
      weights(shift, frozen), {}, batch, key
    ),
    weights=weights,
    rules=lambda shift: (("shift", ("tensor", "fsdp")),),
    reads_base=True,
  )


def weights(shift, frozen):
  base = frozen["base"]
  return base | {"embedding": base["embedding"] + shift["shift"]}


ATTACK = Attack(
  members=members,
  check=lambda model, options: None,
  describe=lambda options: "the embedding",
  label="embeddings",
)
"""


@pytest.fixture
def theirs(tmp_path, monkeypatch):
  """A module of someone else, with an adversary."""
  (tmp_path / "their_attacks.py").write_text(THEIRS)
  monkeypatch.syspath_prepend(tmp_path)
  yield "their_attacks:ATTACK"
  sys.modules.pop("their_attacks", None)


def test_an_adversary_may_be_someone_elses(theirs):
  params = draw_params()
  members = attacks.members_of(MODEL, theirs, {"of": "embedding"})
  shift = members.start(params, KEY)
  equal(members.weights(shift, {"base": params}), params)
  ones = jax.tree.map(np.ones_like, shift)
  moved = members.weights(ones, {"base": params})
  np.testing.assert_array_equal(moved["embedding"], params["embedding"] + 1)
  batch, plain = testing.batch(KEY), attacks.members_of(MODEL, "finetuning", {})
  compiled = jax.jit(plain.objective)
  compiled_theirs = jax.jit(members.objective)
  loss = compiled_theirs(ones, {"base": params}, batch, KEY)[0]
  equal(loss, compiled(moved, {}, batch, KEY)[0])


@pytest.mark.parametrize(
  "name", ["prompting", "their_attacks:members", "their_attacks:X", "no_module:ATTACK"]
)
def test_what_is_no_adversary_is_told_in_one_line(theirs, name):
  with pytest.raises(ConfigError) as error:
    attacks.REGISTRY.get(name)
  assert name in str(error.value) and "\n" not in str(error.value)
