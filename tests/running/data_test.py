"""The data stage, and which of its rows a batch holds."""

import dataclasses

import numpy as np
import pytest
import tokenizers as hf

from undo_jax import config as builders
from undo_jax import running
from undo_jax.data import arithmetic as documents
from undo_jax.data import rows
from undo_jax.data.tokenizers import training as tokenizer_training
from undo_jax.distributed import sharding
from undo_jax.plan import translation
from undo_jax.plan.config import parse
from undo_jax.plan.stages import BATCH, FirstUpdates
from undo_jax.running import data


def test_rows_are_the_ids_of_the_tokenizers_file(tmp_path):
  texts = [problem.text for problem in documents.equations()]
  (tmp_path / "all.txt").write_text("\n".join(texts))
  output = tmp_path / "tokenizer"
  tokenizer_training.train(
    [str(tmp_path / "all.txt")], output, kind="bpe", vocab_size=262
  )
  config = builders.shipped("arithmetic:tiny")
  config.data.update(
    num_equations=50, num_evaluation=1, tokenizer=f"huggingface:{output}"
  )
  run = running.Run(
    tmp_path / "run",
    sharding.make_mesh(**config.mesh),
    checkpoint_every=1,
    evaluation_rows=1,
    replicas_at_once=None,
    stages=tuple(translation.plan(parse(config), 0)[:1]),
  )
  assert running.run_stages(run)["data"]["rows"] == {
    "retain": 50,
    "forget": 50,
    "attack": 50,
  }
  source = rows.source(run.directories["data"] / "rows", length=16, split="retain")
  upstream = hf.Tokenizer.from_file(str(output / "tokenizer.json"))
  known = {
    tuple(upstream.encode(text, add_special_tokens=False).ids): text for text in texts
  }
  for index in range(50):
    ids = source[index]["tokens"][source[index]["mask"] == 1].tolist()
    assert (ids[0], ids[-1]) == (2, 1)
    operation = known[tuple(ids[1:-1])].split()[1]
    assert operation in "+-"
    assert np.all(source[index]["tokens"][source[index]["mask"] == 0] == 0)


@pytest.mark.parametrize("name", ["base", "max_ent_sam"])
def test_the_rows_of_a_batch_are_told_by_split(variants, name):
  run, _ = variants
  (stage,) = [stage for stage in run.stages if stage.name == name]
  batch = data.batches_of(run, stage)[1]
  parts = batch if "inputs" not in batch else {"": batch}
  targets = [row for part in parts.values() for row in part["targets"].tolist()]
  batch_rows = []
  for text in data.describe_batch(run, stage, 1).split("; "):
    split, _, numbers = text.partition(" rows ")
    source = rows.source(run.directories["data"] / "rows", length=16, split=split)
    batch_rows += [source[int(i)]["tokens"][1:].tolist() for i in numbers.split(", ")]
  assert sorted(batch_rows) == sorted(targets)
  assert name == "base" or batch_rows == targets


def rows_of_split(run, split):
  """Return the targets of all rows of a split."""
  source = rows.source(run.directories["data"] / "rows", length=16, split=split)
  return {tuple(source[i]["tokens"][1:].tolist()) for i in range(len(source))}


def targets(batches):
  return [{tuple(row) for row in batch["targets"].tolist()} for batch in batches]


def test_an_attack_reads_other_rows_first_and_goes_on_anywhere(variants):
  run, _ = variants
  (stage,) = [s for s in run.stages if s.name == "relearn_undo_alpha_0.5"]
  plain = [next(data.attack_batches(run, stage, start)) for start in range(3)]
  first = FirstUpdates(parts={BATCH: {"retain": 1.0}}, num_steps=2)
  stage = dataclasses.replace(stage, first=first)
  batches = data.attack_batches(run, stage, 0)
  five = [next(batches) for _ in range(5)]
  kept, attacked = (rows_of_split(run, name) for name in ("retain", "attack"))
  assert [t <= kept for t in targets(five)] == [True, True, False, False, False]
  assert all(t <= attacked for t in targets(five[2:]))
  # Then those that it reads without.
  for mine, other in zip(five[2:], plain, strict=True):
    np.testing.assert_array_equal(mine["targets"], other["targets"])
  for start in range(4):
    again = next(data.attack_batches(run, stage, start))
    np.testing.assert_array_equal(again["targets"], five[start]["targets"])


def test_an_attack_of_few_samples_reads_no_others(variants):
  run, _ = variants
  (stage,) = [s for s in run.stages if s.name == "relearn_undo_alpha_0.5"]
  batches = data.attack_batches(run, dataclasses.replace(stage, samples=5), 0)
  seen = set().union(*targets([next(batches) for _ in range(6)]))
  assert len(seen) <= 5 and seen <= rows_of_split(run, "attack")
