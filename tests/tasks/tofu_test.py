"""TOFU's files become rows and scores; what an attacker reads is not scored."""

import json

import jax
import numpy as np
import pytest

from tests import minimal, tofu_files
from undo_jax import config as builders
from undo_jax import testing
from undo_jax.data import tokenizers
from undo_jax.models.decoder import Decoder
from undo_jax.plan import checks
from undo_jax.plan.config import parse
from undo_jax.running import runs
from undo_jax.tasks import tofu
from undo_jax.utils.types import ConfigError

SEEDS = {"data": 0, "eval": 0}
ONE_DEVICE = {"replica": 1, "data": 1, "fsdp": 1, "tensor": 1}


@pytest.fixture
def data(tmp_path):
  tofu_files.write(tmp_path / "files")
  return tofu_files.data(tmp_path / "files")


def texts(data, directory, split):
  """Return (what is given, what is scored) of each row as text, special ids as ids."""
  tokenizer = tokenizers.make("bytes")
  rows = tofu.source(data, directory, split)
  pairs = []
  for index in range(len(rows)):
    tokens, mask = rows[index]["tokens"], rows[index]["mask"] > 0
    assert tokens[0] == 2 and not mask[0]
    assert tokens[mask][-1] == tokenizer.eos_id
    end = np.flatnonzero(mask)[0]
    pairs.append((tokenizer.decode(tokens[:end]), tokenizer.decode(tokens[mask])))
  return pairs


def test_rows_are_questions_whose_answers_are_scored(data, tmp_path):
  tofu.check(data)
  outcome = tofu.prepare(data.to_dict(), SEEDS, tmp_path / "rows", "data")
  expected = dict(zip(tofu.SPLITS, (60, 40, 16, 5, 3), strict=True))
  assert outcome["rows"] == expected
  for split, count in expected.items():
    pairs = texts(data, tmp_path / "rows", split)
    assert len(pairs) == count
    letter = {"retain": "R", "real_authors": "r", "world_facts": "r"}.get(split, "F")
    for given, scored in pairs:
      assert given.startswith(f"Q: {letter}") and given.endswith("?\nA:")
      assert scored.startswith(" It is ")
  assert outcome["tasks"]["forget"]["questions"] == 24
  assert outcome["evaluation"] == 24 + 40 + 16 + 5 + 3


def test_what_is_attacked_is_learned_and_not_scored(data, tmp_path):
  tofu.prepare(data.to_dict(), SEEDS, tmp_path / "rows", "data")
  splits = {
    s: texts(data, tmp_path / "rows", s) for s in ("forget", "attack", "retain")
  }
  texts_of = {
    name: {(f"Q: {q.question}\nA:", f" {q.answer}") for q in questions}
    for name, questions in tofu.questions_of(data).items()
  }
  assert set(splits["attack"]) == texts_of["forget_attacked"]
  assert set(splits["forget"]) == texts_of["forget_attacked"] | texts_of["forget"]
  assert not texts_of["forget_attacked"] & texts_of["forget"]
  assert texts_of["retain"] < set(splits["retain"])
  assert not set(splits["retain"]) & set(splits["forget"])
  assert set(tofu.forget_splits(data)) == {"forget", "attack"}
  whole = tofu.questions_of(data, all_forget=True)["forget"]
  assert {(f"Q: {q.question}\nA:", f" {q.answer}") for q in whole} == {
    *splits["forget"]
  }


def test_limits_bound_what_is_evaluated(data):
  data.num_evaluation.update(retain=6, forget_attacked=0, world_facts=0)
  data.num_perturbed = 1
  answers_of = tofu.answers_of(data)
  counts = {name: len(answers) for name, answers in answers_of.items()}
  assert counts == {
    "forget": 24,
    "retain": 6,
    "forget_attacked": 0,
    "real_authors": 5,
    "world_facts": 0,
  }
  assert {len(answers.perturbed) for answers in answers_of["retain"]} == {1}
  names, _ = tofu.problems(data.to_dict(), SEEDS, None)
  expected = ["real_authors", "forget_truth_ratio", "retain_truth_ratio"]
  assert list(names) == [*expected, "real_authors_truth_ratio"]


def test_the_evaluation_can_be_sharded(data):
  names, arrays = tofu.problems(data.to_dict(), SEEDS, None)
  assert all(len(leaf) % 8 == 0 for leaf in jax.tree.leaves(arrays))
  decoder = Decoder(testing.config(vocab_size=264))
  params = jax.tree.map(np.zeros_like, minimal.params(decoder.config))
  scores = jax.jit(tofu.make_evaluate(decoder.apply, names))(params, arrays)
  # All tokens are equally likely, so all answers are.
  expected = {"retain": 1 / 264, "forget": 1 / 264, "forget_attacked": 1 / 264}
  expected |= {"forget_truth_ratio": 1.0}
  for name, value in expected.items():
    assert float(scores[name]) == pytest.approx(value, rel=1e-5)
  assert float(scores["retain_truth_ratio"]) == pytest.approx(0.0, abs=1e-5)


def test_content_decides_not_the_path(data, tmp_path):
  before = tofu.content(data)
  (tmp_path / "files").rename(tmp_path / "moved")
  data.directory = str(tmp_path / "moved")
  assert tofu.content(data) == before
  names, arrays = tofu.problems(data.to_dict(), SEEDS, None)
  path = tmp_path / "moved" / "world_facts.json"
  path.write_text(json.dumps(tofu_files.record("W", 1)))
  assert tofu.content(data) != before
  changed = tofu.problems(data.to_dict(), SEEDS, None)[1]
  assert (changed["set"] == 4).sum() == 1 < (arrays["set"] == 4).sum()


class Chatting(tokenizers.ByteTokenizer):
  """Bytes, and 260 for what a template writes as <end>."""

  def encode_chat(self, text):
    parts = text.split("<end>")
    ids = [self.encode(part) for part in parts]
    return [i for n, part in enumerate(ids) for i in ([260] if n else []) + part]


def test_a_chat_template_asks_as_a_user(tmp_path, monkeypatch):
  source = "{% for m in messages %}{{ m.role }}: {{ m.content }}<end>{% endfor %}"
  source += "{% if add_generation_prompt %}assistant: {% endif %}"
  (tmp_path / "chat_template.jinja").write_text(source)
  monkeypatch.setattr(tokenizers, "make", lambda name: Chatting())
  encode = tofu.encoder("chat", f"huggingface:{tmp_path}")
  pair = encode("Why?", "So.", place="x")
  byte = Chatting().encode
  assert list(pair.given) == [*byte("user: Why?"), 260, *byte("assistant: ")]
  assert list(pair.scored) == byte("So.")
  with pytest.raises(
    ConfigError, match="data.template: expected a chat template besid"
  ):
    tofu.encoder("chat", "bytes")


WRONG = [
  ({"directory": "no"}, "expected a file of TOFU at no/forget.json, got none"),
  ({"files.world_facts": "no.json"}, "expected a file of TOFU at .*no.json, got none"),
  (
    {"num_forget_authors": 4},
    "config.data.num_forget_authors: expected at most 3, the authors in .*, got 4",
  ),
  ({"num_retain_authors": 5}, "config.data.num_retain_authors: expected at most 4"),
  ({"num_retain_authors": 0}, "num_retain_authors: expected an integer of at least 1"),
  ({"attacked_share": 0.0}, "attacked_share: expected a number above 0 and below 1"),
  ({"attacked_share": 1}, "attacked_share: expected a number above 0 and below 1, go"),
  ({"num_perturbed": 0}, "config.data.num_perturbed: expected an integer of at least"),
  ({"num_evaluation.retain": 0}, "num_evaluation.retain: expected an integer of at le"),
  ({"packing": "reference"}, "data.packing: expected one of one_per_row, packed, whic"),
  ({"template": "{question}"}, "config.data.template: expected text with {question}"),
  ({"template": "chat"}, "config.data.template: expected a chat template"),
  (
    {"sequence_length": 20},
    r"data.sequence_length: expected at least 28 with packing one_per_row, the longest "
    r"question \(.*, line \d+\), got 20",
  ),
  ({"tokenizer": "characters:arithmetic"}, "line 1: the character 'Q' of"),
  (
    {"files.retain_perturbed": "forget_perturbed.json"},
    "expected questions of .*retain.json in .*, got none of the kept authors' 60",
  ),
  ({"files.retain": "forget.json"}, "expected no question to be both forgotten and re"),
  (
    {"files.forget_perturbed": "retain_perturbed.json"},
    "expected the same questions and answers in the same lines, got",
  ),
]


@pytest.mark.parametrize("change, message", WRONG)
def test_wrong_data_is_named(data, change, message):
  data.update_from_flattened_dict(change)
  with pytest.raises(ConfigError, match=message) as error:
    tofu.check(data)
  assert "\n" not in str(error.value)


def test_a_tokenizer_that_joins_is_named_with_its_line(data, monkeypatch):
  class Joined(tokenizers.ByteTokenizer):
    def encode(self, text):
      return super().encode(text.replace(": It", "\N{SNOWMAN}"))

  monkeypatch.setattr(tokenizers, "make", lambda name: Joined())
  with pytest.raises(
    ConfigError, match=r"tokenizer: expected the answer .* line 1\) to"
  ):
    tofu.check(data)


def config_of(data):
  """Return a config of a base, an unlearned model and an attack, of few updates."""
  config = minimal.only(minimal.config(), ("base", "max_ent"))
  config.task = "tofu"
  config.data = data
  config.model.update(vocab_size=264, num_layers=1)
  learned = {"retain": 1.0, "forget": 1.0}
  config.mixtures = builders.mixtures(
    pretrain=learned,
    unlearn_forget={"forget": 1.0},
    unlearn_retain={"retain": 1.0},
    attack={"attack": 0.5, "retain": 0.5},
    distill={"retain": 1.0, "real_authors": 1.0, "world_facts": 1.0},
    data_filtering={"retain": 1.0},
  )
  config.attacks.relearn.update(learning_rates=(1e-3,), models=("max_ent",))
  config.report.figures = ()
  return config


@pytest.mark.usefixtures("one_device")
def test_a_whole_run_learns_forgets_and_is_attacked(data, tmp_path):
  data.num_evaluation.update(forget=8, retain=8, real_authors=3, world_facts=0)
  config = config_of(data)
  checks.check(parse(config), ONE_DEVICE)
  results = runs.run_all(config, tmp_path / "run")
  assert results is not None and results.task == "tofu"
  (run,) = results.models["max_ent"].runs
  assert run.attacks["relearn"].steps == (0, 2, 4)
  assert results.metrics["forget"].unit == "probability"
  for name, model in results.models.items():
    for score in (model.runs[0].before.retain, model.runs[0].before.forget):
      assert 0 < score < 1, name
