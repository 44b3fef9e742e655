"""Arithmetic with English mixed in: rows, problems and scores."""

import json

import jax
import numpy as np
import pytest

from tests import minimal
from undo_jax import config as builders
from undo_jax import testing
from undo_jax.evaluation import cross_entropy
from undo_jax.models.decoder import Decoder
from undo_jax.plan import translation
from undo_jax.plan.config import parse
from undo_jax.tasks import arithmetic

SEEDS = {"data": 0, "eval": 0}


@pytest.fixture
def config(tmp_path):
  config = builders.shipped("arithmetic:tiny")
  path = tmp_path / "english.jsonl"
  rng = np.random.default_rng(0)
  words = ["the", "sheet", "opens", "a", "menu", "and", "cell"]
  texts = [" ".join(rng.choice(words, 30)) for _ in range(40)]
  path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
  config.data.update(
    num_equations=20, num_evaluation=2, num_evaluation_rows=4, tokenizer="bytes"
  )
  config.data.english.update(
    paths=(str(path),), validation_fraction=0.3, test_fraction=0.3
  )
  config.data.packing = "packed"
  return config


def described(x):
  return x.shape, x.dtype


def data_of(config):
  return translation.plan(parse(config), 0)[0].data


def test_english_is_a_split_only_where_it_is_given(config):
  assert arithmetic.splits(config.data) == ("retain", "forget", "attack", "english")
  content = data_of(config)["content"]["english"]["files"]
  assert len(content[0]["sha256"]) == 64
  config.data.english.paths = ()
  assert arithmetic.splits(config.data) == ("retain", "forget", "attack")
  assert "content" not in data_of(config)


def test_rows_and_scores_of_english(config, tmp_path):
  data = data_of(config)
  summary = arithmetic.prepare(data, SEEDS, tmp_path / "data", "test")
  rows = arithmetic.source(data, tmp_path / "data", "english")
  assert summary["rows"]["english"] == len(rows) > 0
  text = bytes(int(i) - 3 for i in rows[0]["tokens"] if i > 2).decode()
  assert "opens" in text or "cell" in text
  tasks, problems = arithmetic.problems(data, SEEDS, tmp_path / "data")
  assert tasks[-1] == "english"
  # Four operations as equations, two of them of what the attacker learns.
  assert len(tasks) == 7
  before = arithmetic.problem_shapes(data, SEEDS, tmp_path / "unprepared")
  assert before[0] == tasks
  assert jax.tree.map(described, before[1]) == jax.tree.map(described, problems)
  model = Decoder(testing.config(vocab_size=264))
  params = minimal.params(model.config)
  evaluate = jax.jit(arithmetic.make_evaluate(model.apply, tasks, rows_at_once=4))
  scores = evaluate(params, problems)
  assert set(scores) == {"retain", "forget", "forget_attacked", *tasks}
  alone = jax.jit(
    cross_entropy.make_evaluate(model.apply, ("english",), rows_at_once=1)
  )
  expected = alone(params, problems["english"])["english"]
  np.testing.assert_allclose(scores["english"], expected, rtol=1e-6)
  np.testing.assert_allclose(expected, np.log(264), rtol=0.05)  # Fresh weights.
