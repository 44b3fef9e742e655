"""WMDP's own files become rows of each corpus's length, and two scores."""

import json

import jax
import numpy as np
import pytest

from tests import minimal
from undo_jax import config as builders
from undo_jax import testing
from undo_jax.data import tokenizers
from undo_jax.models.decoder import Decoder
from undo_jax.plan import checks, mixtures
from undo_jax.plan.config import parse
from undo_jax.tasks import wmdp
from undo_jax.utils.types import ConfigError

ONE_DEVICE = {"replica": 1, "data": 1, "fsdp": 1, "tensor": 1}
SEEDS = {"data": 0, "eval": 0}
LETTERS = "abcd"


def write(path, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("\n".join(json.dumps(row) for row in rows))


def question(number, **more):
  fields = {
    "question": f"number {number}?",
    "choices": [f"{number} {c}" for c in LETTERS],
  }
  return {**fields, "answer": number % 4, **more}


@pytest.fixture
def config(tmp_path, monkeypatch):
  """The paper's config of a small model, with small files where it says."""
  monkeypatch.chdir(tmp_path)
  config = builders.shipped("wmdp:gemma2_2b_bio")
  config.data.tokenizer = "bytes"
  config.data.sequence_length = 48
  config.data.lengths.update(dict.fromkeys(config.data.lengths, 40))
  config.model.update(small_sizes())
  config.models.rmu.options.layers = (0, 1)
  for name in wmdp.splits(config.data):
    path = tmp_path / f"{name}.jsonl"
    corpus = config.data[name]
    corpus.paths = (str(path),)
    record = {corpus.text_field: f"{name} " * 9, "title": "", "doi": None}
    if corpus.question_field:
      record = {"question": f"what is {name}", "answer": "known"}
    write(path, [record] * 20)
  settings = config.data.questions
  write(tmp_path / "wmdp.jsonl", [question(i) for i in range(7)])
  subjects = [question(i, subject=f"s{i % 2}") for i in range(20)]
  write(tmp_path / "test.jsonl", subjects)
  write(tmp_path / "dev.jsonl", subjects[:6])
  settings.update(
    wmdp=(str(tmp_path / "wmdp.jsonl"),),
    mmlu=(str(tmp_path / "test.jsonl"),),
    mmlu_examples=(str(tmp_path / "dev.jsonl"),),
    num_shots=2,
    wmdp_limit=5.0,
    mmlu_limit=0.25,
  )
  return config


def small_sizes():
  fields = ("num_layers", "width", "num_heads", "num_kv_heads", "head_dim", "mlp_width")
  return {f: getattr(testing.CONFIG, f) for f in fields} | {"vocab_size": 264}


def test_the_config_is_accepted(config):
  checks.check(parse(config), ONE_DEVICE)


def test_each_corpus_has_rows_of_its_own_length(config, tmp_path):
  data = config.data
  wmdp.check(config.data)
  outcome = wmdp.prepare(data.to_dict(), SEEDS, tmp_path / "rows", "data")
  tokenizer = tokenizers.make("bytes")
  for split in wmdp.splits(data):
    rows = wmdp.source(data, tmp_path / "rows", split)
    assert len(rows) == outcome["rows"][split] > 0
    row = rows[0]
    size = 40 if split in config.data.lengths else 48
    assert wmdp.length(data, split) == size
    assert row["tokens"].shape == (size + 1,)
    text = tokenizer.decode(row["tokens"])
    if split.endswith("_qa"):
      assert text.startswith("what is ")
      assert not row["mask"][: len("what is ")].any()
    else:
      assert text.startswith(split[: size - 2])
      assert row["mask"].all()
  # What is apart are texts: each corpus repeats one document, questions are counted
  # alone and with their answers, and that they share a subject is said.
  apart, num_asked = outcome["apart"], sum(outcome["items"].values())
  assert apart["items"]["attacked"] == len(wmdp.forget_splits(data)) == 2
  assert num_asked < apart["items"]["scored"] <= 2 * num_asked and apart["shared"] == 0
  assert "are of one subject" in apart["note"]
  tasks = outcome["tasks"]
  assert tasks == {
    "wmdp_bio": {"questions": 5, "shots": 0},
    "mmlu_s0": {"questions": 3, "shots": 2},
    "mmlu_s1": {"questions": 3, "shots": 2},
  }
  assert outcome["evaluation"] == 11


APART = [
  (
    "english",
    {"text": "Forget  forget " * 4 + "forget"},
    "forget_train and english_tr",
  ),
  (
    "retain_qa",
    {"question": "Number 1?", "answer": "1 b"},
    "retain_qa_train holds 1 .* line 21 and mmlu_s1, question 1",
  ),
  ("wikitext", {"text": "number  3?"}, "wikitext_train holds 1 .*mmlu_s1, question 2"),
]


@pytest.mark.parametrize("name, record, message", APART)
def test_no_corpus_holds_what_is_forgotten_or_asked(
  config, tmp_path, name, record, message
):
  with open(tmp_path / f"{name}.jsonl", "a") as file:
    file.write("\n" + json.dumps(record))
  data = config.data.to_dict()
  with pytest.raises(ConfigError, match=message):
    wmdp.prepare(data, SEEDS, tmp_path / "rows", "data")


def test_forget_is_wmdp_and_retain_is_mmlu(config, tmp_path):
  names, arrays = wmdp.problems(config.data.to_dict(), SEEDS, tmp_path)
  assert names == ("wmdp_bio", "mmlu_s0", "mmlu_s1")
  decoder = Decoder(testing.config(vocab_size=264))
  params = jax.tree.map(np.zeros_like, minimal.params(decoder.config))
  # All choices are equal, so the first one counts; it is right where i % 4 == 0.
  scores = jax.jit(wmdp.make_evaluate(decoder.apply, names))(params, arrays)
  expected = {"wmdp_bio": 2 / 5, "mmlu_s0": 2 / 3, "mmlu_s1": 0.0}
  expected |= {"forget": 2 / 5, "retain": 2 / 6}
  assert {k: float(v) for k, v in scores.items()} == pytest.approx(expected)


def test_content_decides_not_the_path(config, tmp_path):
  before = wmdp.content(config.data)
  (tmp_path / "wmdp.jsonl").rename(tmp_path / "moved.jsonl")
  config.data.questions.wmdp = (str(tmp_path / "moved.jsonl"),)
  assert wmdp.content(config.data) == before
  write(tmp_path / "moved.jsonl", [question(i) for i in range(1, 8)])
  changed = wmdp.content(config.data)
  assert changed["questions_content"]["wmdp"] != before["questions_content"]["wmdp"]
  write(tmp_path / "forget_qa.jsonl", [{"question": "a", "answer": "b"}] * 20)
  assert wmdp.content(config.data)["content"] != changed["content"]


WRONG = [
  ("questions.task", "wmdp_physics", "questions.task: expected one of wmdp_bio, "),
  ("questions.wmdp", ("no.jsonl",), "config.data.questions: .* none matches 'no.js"),
  ("questions.num_shots", 4, "questions: expected at least 4 examples of the subject"),
  ("questions.num_shots", -1, "questions.num_shots: expected an integer of at least 0"),
  ("questions.mmlu_limit", 0.0, "mmlu_limit: expected None or a number above 0, got 0"),
  ("forget.paths", ("no/*",), "config.data.forget: .*none matches"),
  ("forget.text_field", "body", "config.data.forget: .*body"),
  ("lengths.english", 1, "data.lengths.english: expected an integer of at least 2"),
]


@pytest.mark.parametrize("name, value, message", WRONG)
def test_wrong_data_is_named_by_its_field(config, name, value, message):
  config.data.update_from_flattened_dict({name: value})
  with pytest.raises(ConfigError, match=message):
    wmdp.check(config.data)


def test_a_corpus_without_files_is_no_split(config):
  config.data.magpie_qwen_2.paths = ()
  assert "magpie_qwen_2" not in wmdp.splits(config.data)
  message = "mixtures.distill.magpie_qwen_2: expected 0, since the data's spl"
  with pytest.raises(ConfigError, match=message):
    checks.check(parse(config), ONE_DEVICE)


def test_rows_of_a_mixture_are_equally_long(config):
  config.mixtures.attack_raw.english = 0.5
  message = (
    "config.mixtures of attack_raw: expected splits whose rows are equally long, got"
  )
  with pytest.raises(ConfigError, match=message):
    mixtures.length(parse(config), ["attack_raw"])


@pytest.mark.parametrize("domain, share", [("bio", 0.3), ("cyber", 0.2)])
def test_the_numbers_are_the_papers(domain, share):
  """Specification of the paper's WMDP runs, by hand."""
  config = builders.shipped(f"wmdp:gemma2_2b_{domain}")
  assert sum(config.mixtures.distill.values()) == pytest.approx(1.0)
  undo = config.models.undo
  assert (undo.batch_size, undo.num_microbatches) == (10 * 11, 11)
  assert (undo.optimizer.num_steps, undo.optimizer.learning_rate) == (3000, 2e-5)
  assert undo.optimizer.final_learning_rate == pytest.approx(2e-6)
  assert (tuple(undo.sweep.noise.alpha), undo.noise.beta) == ((0.25,), 0.0)
  assert undo.stop.rule is None  # A fixed budget.
  method = config.models.max_ent
  assert (method.batch_size, method.num_microbatches) == (40, 10)
  assert (method.optimizer.num_steps, method.optimizer.learning_rate) == (90, 2e-5)
  assert method.options.retain_weight == share
  assert method.options.forget_weight == pytest.approx(1 - share)
  assert method.options.retain_loss == "kl"
  rmu = config.models.rmu
  assert rmu.optimizer.learning_rate == {"bio": 5e-5, "cyber": 2e-5}[domain]
  assert (rmu.options.coefficient, rmu.options.retain_weight) == (80.0, 0.5)
  assert rmu.options.layers == (10, 11, 12, 13, 14)
  assert config.models.max_ent_sam.rho == 0.01
  noise = config.models.max_ent_rep_noise
  assert (noise.batch_size, noise.num_microbatches) == (40, 40)
  assert (noise.options.alpha, noise.options.beta) == (1.0, 1.0)
  declared = parse(config)
  lengths = {
    use: mixtures.length(declared, [use]) for use in ("unlearn_retain", "distill")
  }
  assert lengths == {"unlearn_retain": 256, "distill": 1024}
  for name in ("raw", "qa", "wiki_qa"):
    chosen = builders.shipped(f"wmdp:gemma2_2b_{domain}-{name}").attacks
    assert [other for other in chosen if chosen[other].run] == [name]
    attack = chosen[name]
    assert sorted(attack.learning_rates)[-1] in (1e-5, 2.15e-5)
    assert (attack.batch_size, attack.num_steps) == (20, 500)
