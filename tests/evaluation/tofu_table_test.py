"""TOFU's table against scipy, rouge-score and passes of a tiny model in float64."""

import functools
import json

import jax
import numpy as np
import pytest
from scipy import stats

from tests import tofu_files
from undo_jax import testing
from undo_jax.data import tofu as data_lib
from undo_jax.data.tofu import Question
from undo_jax.data.tokenizers import ByteTokenizer
from undo_jax.evaluation import memorization, tofu_table
from undo_jax.evaluation.scoring import TokenScores
from undo_jax.evaluation.tofu_table import Generation, Measured, Subject
from undo_jax.models.decoder import Decoder
from undo_jax.utils.types import ConfigError

CONFIG = testing.config(vocab_size=264, init_std=0.2)
TEMPLATE = "Q: {question}\nA: {answer}"
LENGTH = 64


@pytest.fixture(scope="module")
def params():
  return testing.params(CONFIG)


@functools.cache
def forward():
  decoder = Decoder(CONFIG)
  return jax.jit(lambda params, tokens: decoder.apply(params, tokens).logits)


def subject(params, **options):
  encode = data_lib.by_template(TEMPLATE, ByteTokenizer())
  return Subject(CONFIG, params, ByteTokenizer(), encode, batch_size=4, **options)


def questions(count):
  rows = [tofu_files.record("F", number) for number in range(count)]
  return [
    Question(
      row["question"],
      row["answer"],
      "",
      row["paraphrased_answer"],
      tuple(row["perturbed_answer"]),
    )
    for row in rows
  ]


def logits_of(params, ids):
  tokens = np.full((1, LENGTH), 7)  # What follows a token does not matter to it.
  tokens[0, : len(ids)] = ids
  return np.asarray(forward()(params, tokens)[0], np.float64)


def loss(params, question, answer, end):
  """Return the mean loss of an answer's tokens, `end` after them, in float64."""
  given = [2, *ByteTokenizer().encode(f"Q: {question}\nA:")]
  whole = [*given, *ByteTokenizer().encode(f" {answer}"), *end]
  logits = logits_of(params, whole)
  log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  return -np.mean([log_p[i - 1, whole[i]] for i in range(len(given), len(whole))])


@pytest.mark.parametrize("formulas", tofu_table.FORMULAS)
def test_probabilities_and_truth_ratios_are_those_of_full_passes(params, formulas):
  drawn = questions(5)
  measured = subject(params, formulas=formulas).measure("retain", drawn)
  is_published = formulas == "published_code"
  end = [ByteTokenizer.eos_id] if is_published else []
  right, ratios = [], []
  for q in drawn:
    right.append(np.exp(-loss(params, q.question, q.answer, end)))
    wrong = np.array([loss(params, q.question, a, end) for a in q.perturbed])
    level = np.exp(-wrong.mean()) if is_published else np.exp(-wrong).mean()
    ratios.append(level / np.exp(-loss(params, q.question, q.paraphrase, end)))
  assert measured.probability == pytest.approx(np.mean(right), rel=1e-4)
  np.testing.assert_allclose(np.exp(measured.log_ratios), ratios, rtol=1e-4)
  expected = np.mean(np.maximum(0, 1 - np.array(ratios)))
  assert measured.truth_ratio == pytest.approx(expected, rel=1e-3)
  assert np.isnan(measured.rouge) and measured.generations == ()


@pytest.mark.parametrize("formulas", tofu_table.FORMULAS)
def test_what_is_known_by_heart_is_of_the_right_answers_alone(params, formulas):
  """The first two of three tokens are hits, and the end of text would be one."""

  def tokens(pairs):
    actual = []
    for _, ids in pairs:
      hits = np.arange(len(ids)) % 3 < 2
      hits[-1] |= ids[-1] == ByteTokenizer.eos_id
      actual.append(TokenScores(np.full(len(ids), -1.0, np.float32), hits))
    return actual

  encoded, made = questions(4), subject(params, formulas=formulas)
  made.tokens = tokens
  actual = made.measure("forget", encoded)
  for number, q in enumerate(encoded):
    size = len(f" {q.answer}")
    assert actual.exact[number] == pytest.approx((size - size // 3) / size)
    ending = size % 3  # Hits after the last miss.
    least = 1 if formulas == "published_code" else 0
    assert actual.extracted[number] == pytest.approx(max(ending, least) / size)
  assert actual.exact_memorization == pytest.approx(np.mean(actual.exact))
  assert actual.extraction_strength == pytest.approx(np.mean(actual.extracted))
  assert actual.probability == pytest.approx(np.exp(-1))


def test_a_continuation_is_the_likeliest_token_after_token(params):
  drawn = questions(2)
  measured = subject(params).measure("forget", drawn, max_new_tokens=4)
  for q, said in zip(drawn, measured.generations, strict=True):
    ids = [2, *ByteTokenizer().encode(f"Q: {q.question}\nA:")]
    new = []
    while len(new) < 4 and new[-1:] != [ByteTokenizer.eos_id]:
      new.append(int(np.argmax(logits_of(params, ids + new)[len(ids + new) - 1])))
    assert said[:3] == (q.question, q.answer, ByteTokenizer().decode(new).strip())


def longest_common(one, other):
  """Return the length of the longest common subsequence, by its recursion."""

  @functools.cache
  def of(i, j):
    if i == len(one) or j == len(other):
      return 0
    if one[i] == other[j]:
      return 1 + of(i + 1, j + 1)
    return max(of(i + 1, j), of(i, j + 1))

  return of(0, 0)


def test_rouge_is_the_share_of_the_answer_that_is_said_in_order():
  answers = ["The cat sat on the mat", "Jaime Vasquez was born in 1958.", "No"]
  texts = ["on a mat sat the cat", "It is in 1958 that Vasquez was Jaime.", ""]
  split = [[t.lower().rstrip(".").split() for t in own] for own in (answers, texts)]
  expected = [longest_common(a, t) / len(a) for a, t in zip(*split, strict=True)]
  assert memorization.rouge_l(answers, texts) == pytest.approx(expected)
  # Words are stemmed, as in the published code.
  assert memorization.rouge_l(["He writes novels"], ["he writing novel"]) == [1.0]


def test_without_rouge_score_its_extra_is_named(monkeypatch):
  monkeypatch.setitem(__import__("sys").modules, "rouge_score", None)
  with pytest.raises(ConfigError, match=r"pip install 'undo-jax\[tofu\]'"):
    memorization.check_rouge()


def measured(rng, recall, count=30, shift=0.0):
  said = Generation("Why?", "So.", "Because.", recall)
  ratios = tuple(rng.normal(shift, 1, count))
  return Measured(float(rng.uniform()), float(rng.uniform()), ratios, (said, said))


@pytest.fixture
def sets():
  rng = np.random.default_rng(0)
  recalls = (0.9, 0.4, 0.6, 0.7)
  names = zip(tofu_table.SETS, recalls, strict=True)
  return {name: measured(rng, recall) for name, recall in names}


def test_utility_is_the_harmonic_mean_of_nine_numbers(sets):
  own = [sets[name] for name in ("retain", "real_authors", "world_facts")]
  numbers = [x for s in own for x in (s.probability, s.rouge, s.truth_ratio)]
  assert tofu_table.model_utility(sets) == pytest.approx(stats.hmean(numbers))
  sets["retain"] = measured(np.random.default_rng(1), 0.0)
  assert tofu_table.model_utility(sets) == 0.0


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_forget_quality_is_the_tests_p_value_of_truth_ratios(sets, shift):
  reference = measured(np.random.default_rng(2), 0.5, 40, shift)
  ratios = [np.exp(s.log_ratios) for s in (sets["forget"], reference)]
  expected = stats.ks_2samp(*ratios).pvalue
  assert tofu_table.forget_quality(sets["forget"], reference) == expected
  assert tofu_table.forget_quality(reference, reference) == 1.0


def test_the_table_holds_its_numbers_and_some_answers(sets):
  reference = measured(np.random.default_rng(2), 0.5)
  table = json.loads(json.dumps(tofu_table.to_json(sets, reference)))
  assert table["forget_quality"] == tofu_table.forget_quality(sets["forget"], reference)
  assert table["sets"]["forget"]["rouge_l_recall"] == pytest.approx(0.9)
  assert len(table["sets"]["retain"]["log_truth_ratios"]) == 30
  text = tofu_table.text(sets, reference, 1)
  for part in ("real_authors", "0.900", "model utility", "forget quality", "Because."):
    assert part in text
  assert text.count("Because.") == 4
  assert tofu_table.to_json(sets, None)["forget_quality"] is None
  assert "forget quality" not in tofu_table.text(sets, None, 0)


def test_a_larger_tokenizer_is_refused(params):
  encode = data_lib.by_template(TEMPLATE, ByteTokenizer())
  message = "data.tokenizer: expected at most 16 ids, which the model has, got 259"
  with pytest.raises(ConfigError, match=message):
    Subject(testing.CONFIG, params, ByteTokenizer(), encode)
