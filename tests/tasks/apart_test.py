"""What is attacked is not scored nor read by stop rules; tampering is refused."""

import dataclasses
import hashlib
import json
import struct
import unicodedata

import pytest

from tests import tofu_files
from tests.frontier import made_up
from undo_jax import config as builders
from undo_jax.data import arithmetic_dataset
from undo_jax.data import facts as facts_data
from undo_jax.data import tofu as tofu_data
from undo_jax.frontier import held_apart, merging
from undo_jax.frontier.results import Apart
from undo_jax.tasks import apart, arithmetic, facts, tofu
from undo_jax.utils import records, streams
from undo_jax.utils.types import ConfigError

SEEDS = {"data": 0, "eval": 1}
FACTS = {
  "num_things": 6,
  "num_groups": 3,
  "num_choices": 1,
  "num_lists": 10,
  "form": "letters",
  "num_evaluation": 1,
  "tokenizer": "words:facts",
  "sequence_length": 40,
  "packing": "packed",
}


def digest(texts):
  """Return the digest of different items by the definition, written anew."""
  folded = {
    " ".join(unicodedata.normalize("NFKC", t).casefold().split()) for t in texts
  }
  hashes = sorted(
    int.from_bytes(hashlib.blake2b(t.encode(), digest_size=8).digest(), "little")
    for t in folded
  )
  data = b"".join(struct.pack("<Q", each) for each in hashes)
  return hashlib.blake2b(data, digest_size=8).hexdigest()


def arithmetic_data(**changes):
  data = builders.shipped("arithmetic:tiny").data
  data.update(num_equations=90, num_evaluation=20, **changes)
  return data.to_dict()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  """Return the directory of a data stage, which is written once."""
  return tmp_path_factory.mktemp("data")


def test_arithmetic_counts_the_facts_that_its_problems_rest_on(written):
  summary = arithmetic.prepare(arithmetic_data(), SEEDS, written, "data")["apart"]
  builder = arithmetic._documents(arithmetic_data(), SEEDS, written)

  def facts_of(split):
    """Solve each problem's text: two numbers and what joins them."""
    solved = set()
    for problem in arithmetic_dataset.read(builder, split):
      if problem.kind == "word_problem":  # None was learned, so none is asked.
        continue
      a, symbol, b = problem.prompt.split()[:3]
      one, other = int(a), int(b)
      if symbol in "-/":
        one = one - other if symbol == "-" else one // other
      kind = "sum" if symbol in "+-" else "product"
      solved.add(" ".join([kind, *map(str, sorted((one, other)))]))
    return solved

  splits = {"attacked": "attack_train", "scored": "test"}
  splits["read by stop rules"] = "validation"
  expected = {kind: facts_of(split) for kind, split in splits.items()}
  assert summary["items"] == {kind: len(own) for kind, own in expected.items()}
  assert summary["digests"] == {kind: digest(own) for kind, own in expected.items()}
  assert summary["shared"] == 0 and summary["splits"] == ["attack"]
  assert not expected["attacked"] & (
    expected["scored"] | expected["read by stop rules"]
  )


def test_a_fact_that_is_attacked_and_scored_is_refused(written, monkeypatch):
  read = arithmetic_dataset.read

  def tampered(builder, split):
    problems = read(builder, split)
    if split == "attack_train":
      problems[7] = next(p for p in read(builder, "test") if p.operation == "division")
    return problems

  monkeypatch.setattr(arithmetic_dataset, "read", tampered)
  with pytest.raises(
    ConfigError, match=r"1 facts .* are attacked and scored, .*product"
  ):
    arithmetic.prepare(arithmetic_data(), SEEDS, written, "data")


def test_without_facts_of_its_own_the_attacker_is_said_to_have_none(tmp_path):
  data = arithmetic_data(attacked_share=0.0)
  summary = arithmetic.prepare(data, SEEDS, tmp_path, "data")["apart"]
  assert set(summary["items"]) == {"scored", "read by stop rules"}
  assert "No fact is the attacker's alone" in summary["note"]


def test_facts_are_apart_by_the_names_in_their_texts(tmp_path, monkeypatch):
  summary = facts.prepare(FACTS, SEEDS, tmp_path / "data", "data")["apart"]
  known = facts_data.facts(
    streams.integer(SEEDS["data"], "data"),
    num_things=6,
    num_groups=3,
  )
  groups = {"attacked": {"attacked", "shown"}, "scored": {"test"}}
  groups["read by stop rules"] = {"validation"}
  for kind, group in groups.items():
    names = {
      fact.name
      for fact in known
      if fact.group in group and (kind != "attacked" or fact.domain == "forget")
    }
    assert (summary["items"][kind], summary["digests"][kind]) == (
      len(names),
      digest(names),
    )
  read = facts_data.read_questions

  def tampered(builder, group):
    questions = read(builder, group)
    if group == "validation":
      attacked = read(builder, "attacked")["forget"][0].question
      questions["retain"][0] = questions["retain"][0]._replace(question=attacked)
    return questions

  monkeypatch.setattr(facts_data, "read_questions", tampered)
  with pytest.raises(ConfigError, match="are attacked and read by stop rules"):
    facts.prepare(FACTS, SEEDS, tmp_path / "data", "data")


def test_a_question_of_tofu_that_is_attacked_and_scored_is_refused(
  tmp_path, monkeypatch
):
  tofu_files.write(tmp_path / "files")
  data = tofu_files.data(tmp_path / "files").to_dict()
  summary = tofu.prepare(data, SEEDS, tmp_path / "rows", "data")["apart"]
  lines = (tmp_path / "files" / data["files"]["forget"]).read_text().splitlines()
  forget = {json.loads(line)["question"] for line in lines}
  attacked = {q.question for q in tofu._documents(data)["attack"]}
  assert summary["digests"]["attacked"] == digest(attacked) and attacked < forget
  assert (
    summary["items"].keys() == {"attacked", "scored"} and "stop rule" in summary["note"]
  )
  divide = tofu_data.divide

  def tampered(author, share):
    mine, others = divide(author, share)
    return mine, [*others, mine[0]._replace(place="elsewhere")]

  monkeypatch.setattr(tofu_data, "divide", tampered)
  with pytest.raises(ConfigError, match="questions are attacked and scored"):
    tofu.prepare(data, SEEDS, tmp_path / "again", "data")


def test_the_page_says_it_for_each_run_and_who_reads_more():
  sets = {"attacked": apart.of_texts("abc"), "scored": apart.of_texts("de")}
  summary = apart.check("letters", sets, splits=["attack"], others=["forget"])
  with pytest.raises(ConfigError, match="1 letters are attacked and scored, .*'c'"):
    apart.check("letters", sets | {"scored": apart.of_texts("cd")}, splits=[])
  one = records.from_json(Apart, summary | {"seeds": [0, 1]})
  mixtures = {"relearn": {"attack": 1.0}, "lora": {"attack": 0.5, "forget": 0.5}}
  protocol = {"attacks": {name: {"mixture": m} for name, m in mixtures.items()}}
  results = made_up.synthetic(
    made_up.SMALL, 20, second_attack=True, apart=(one,), protocol=protocol
  )
  said, reads = held_apart.sentences(results)
  assert said == (
    "Seeds 0, 1: of letters 3 are attacked, 2 are scored; 0 are of two of these kinds, "
    "by their hashes."
  )
  assert reads.startswith("LoRA reads forget, where scored items are too")
  other = dataclasses.replace(results, apart=(dataclasses.replace(one, seeds=(2,)),))
  merged = merging.merge({"one": results, "other": other})
  assert [each.seeds for each in merged.apart] == [(0, 1), (2,)]
